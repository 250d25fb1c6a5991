// Boot, addresses, keys.
import {enroll} from './enroll.js';
import {members} from './members.js';
import {objectivePage} from './objective.js';
import {api, fileSource, httpSource} from './source.js';
import {home} from './team.js';
import {button, el, line, show} from './text.js';
import {timeline} from './timeline.js';

const HELP = [['j k', 'next, previous row'], ['n p', 'next, previous turn'], ['Enter', 'open'], ['Esc', 'back'], ['/', 'search'], ['e', 'next error'], ['f', 'fold all'], ['?', 'this list']];
const state = {session: null, source: null, page: null, at: ''};

const view = el('main', {id: 'main', tabindex: -1}), nav = el('nav', {'aria-label': 'Pages'}), said = el('p', {id: 'said', class: 'unseen', 'aria-live': 'polite'});
const help = el('dialog', {'aria-label': 'Keys'}, el('h2', null, 'Keys'), el('dl', null, HELP.map(([key, text]) => [el('dt', null, key), el('dd', null, text)])), el('form', {method: 'dialog'}, el('button', null, 'Close')));

// The theme is the system's until somebody chooses.
const theme = button('Theme', () => {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  try { localStorage.setItem('theme', root.dataset.theme); } catch { /* a file has no storage */ }
}, {class: 'quiet'});

const address = () => {
  const [path, query] = location.hash.slice(1).split('?');
  return {path: path || '/', params: new URLSearchParams(query)};
};
const go = (path, values, quiet) => {
  const query = new URLSearchParams(Object.entries(values || {}).filter(([, v]) => v));
  const hash = `#${path}${String(query) && `?${query}`}`;
  if (quiet) history.replaceState(null, '', hash);
  else if (location.hash === hash) render();
  else location.hash = hash;
};

const trace = (member, params, path, empty) => timeline({source: state.source, member, params, empty, go: (values, quiet) => go(path, values, quiet)});

// What is said while a page is open, from one stream for all pages. A page calls what `listen` gives when it goes.
const heard = new Set();
const listen = each => { heard.add(each); return () => heard.delete(each); };

const PAGES = [
  [/^\/$/, (_, c) => home(c)],
  [/^\/members$/, (_, c) => members(c)],
  [/^\/enroll$/, (_, c) => enroll(c)],
  [/^\/objective\/(.+)$/, ([, id], c) => objectivePage(decodeURIComponent(id), c)],
  [/^\/trace\/(.+)$/, ([, name], {params, path}) => ({...trace(decodeURIComponent(name), params, path), title: decodeURIComponent(name)})],
];

const render = async () => {
  const {path, params} = address();
  const turn = state.turn = {};
  let page;
  if (state.local) page = trace('*', params, '/', ['Nothing is recorded yet. ', el('code', null, 'ac7 run -- claude'), ' would fill this.']);
  else if (!state.session) page = {node: signIn()};
  else {
    const found = PAGES.map(([pattern, make]) => [pattern.exec(path), make]).find(([match]) => match);
    try {
      page = found ? await found[1](found[0], {...state, params, path, go, render, listen}) : {node: el('p', null, 'There is no such page. ', el('a', {href: '#/'}, 'Home'))};
    } catch (error) {
      if (error.status === 401) { state.session = null; return start(); }
      page = {node: el('p', {class: 'bad'}, line(error.message), ' ', button('Try again', render))};
    }
  }
  // Another page was asked for meanwhile.
  if (state.turn !== turn) return page.stop?.();
  state.page?.stop?.();
  state.page = page;
  document.title = `${page.title ? `${page.title} · ` : ''}ac7`;
  view.replaceChildren(page.title && !state.local ? el('h1', null, show(page.title)) : '', page.node);
};

const signIn = () => {
  const problem = el('p', {class: 'bad', role: 'alert'});
  const form = el('form', {class: 'card'}, el('h1', null, 'Sign in'), el('label', null, 'Name ', el('input', {name: 'member', autocomplete: 'username', maxlength: 128, autofocus: true})),
    el('label', null, 'One-time code ', el('input', {name: 'code', inputmode: 'numeric', autocomplete: 'one-time-code', pattern: '[0-9]{6}', required: true, maxlength: 6})),
    el('button', {class: 'main'}, 'Sign in'), problem, el('p', {class: 'dim'}, 'No code yet? ', el('code', null, 'ac7 enroll --member NAME'), ' beside the broker shows one to scan.'));
  form.addEventListener('submit', async event => {
    event.preventDefault();
    const {member, code} = form.elements;
    try {
      state.session = await api('POST', '/session/totp', {code: code.value, ...member.value && {member: member.value}});
      start();
    } catch (error) { problem.textContent = error.status === 401 ? 'That code is wrong, or was used before. Wait for the next one.' : line(error.message); code.select(); }
  });
  return form;
};

const start = () => {
  nav.replaceChildren(el('a', {href: '#/'}, 'ac7'), ...state.session ? [el('a', {href: `#/trace/${encodeURIComponent(state.session.member)}`}, 'My trace'),
    el('a', {href: '#/members'}, 'Members'), button('Sign out', async () => { await api('POST', '/session/logout').catch(() => {}); state.session = null; start(); }, {class: 'quiet'})]
    : state.local ? [el('span', {class: 'dim'}, line(state.local))] : [], theme, button('?', () => help.showModal(), {class: 'quiet', 'aria-label': 'Keys'}));
  state.messages?.close();
  if (state.session) {
    state.messages = new EventSource(`/subscribe?name=${encodeURIComponent(state.session.member)}`);
    state.messages.onmessage = event => { const message = JSON.parse(event.data); heard.forEach(each => each(message)); };
  }
  render();
};

document.addEventListener('keydown', event => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.ctrlKey || event.metaKey || event.altKey || typing && event.key !== 'Escape') return;
  if (event.key === 'Enter' && event.target.closest('button, a, summary')) return;
  if (typing) return event.target.blur();
  if (event.key === '?') return help.showModal();
  const run = help.open ? null : state.page?.keys?.[event.key];
  if (!run) return;
  event.preventDefault();
  run();
});
addEventListener('hashchange', render);

const boot = async () => {
  const data = document.getElementById('data');
  try { const chosen = localStorage.getItem('theme'); if (chosen) document.documentElement.dataset.theme = chosen; } catch { /* as above */ }
  document.body.replaceChildren(el('a', {class: 'skip', href: '#main', on: {click: event => { event.preventDefault(); view.focus(); }}}, 'To the content'), el('header', {class: 'top'}, nav), view, said, help);
  if (data) {
    const parsed = JSON.parse(data.textContent);
    [state.source, state.local] = [fileSource(parsed), parsed.from];
    return start();
  }
  state.source = httpSource();
  if (location.pathname === '/enroll') history.replaceState(null, '', `/#/enroll${location.search}`);
  try {
    const session = await api('GET', '/session');
    if (session.local) state.local = session.local;
    else state.session = session;
  } catch (error) {
    if (error.body?.local) return view.replaceChildren(el('p', {class: 'card'}, line(error.message)));
    if (error.status !== 401) return view.replaceChildren(el('p', {class: 'card bad'}, line(error.message), ' ', button('Try again', boot)));
  }
  start();
};
boot();
