// Home: who is here, what is to be done, what is said.
import {newObjective, person, sayForm, STATUS, talk} from './objective.js';
import {api} from './source.js';
import {button, el, line, show, when} from './text.js';

const general = m => m.data?.thread === 'chan:general' || !m.to && !m.data?.thread;

// Asks the browser for notices of assignments and mentions.
const notices = () => !('PushManager' in window) ? null : button('Notify me', async event => {
  const told = event.target;
  try {
    const {publicKey} = await api('GET', '/push/vapid-public-key');
    if (await Notification.requestPermission() !== 'granted') throw new Error('The browser does not allow it');
    const place = await navigator.serviceWorker.register('/web/sw.js'), worker = place.active || place.waiting || place.installing;
    if (worker.state !== 'activated') await new Promise(done => worker.addEventListener('statechange', () => worker.state === 'activated' && done()));
    const key = Uint8Array.from(atob(publicKey.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
    await api('POST', '/push/subscriptions', (await place.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: key})).toJSON());
    told.textContent = 'You will be notified';
  } catch (error) { told.textContent = line(error.message); }
});

export const home = async ({session, go, listen, render}) => {
  const [{teammates, connected}, {objectives}, {messages}] = await Promise.all([api('GET', '/roster'), api('GET', '/objectives'), api('GET', '/history?channel=general&limit=50')]);
  const seen = new Map(connected.map(c => [c.name, c])), may = name => session.permissions.includes(name);
  const people = el('ul', {class: 'plain'}, teammates.map(t => {
    const c = seen.get(t.name), here = c?.connected > 0, on = objectives.filter(o => o.assignee === t.name && o.status === 'active');
    return el('li', null, el('p', null, el('span', {class: here ? 'ok' : 'dim'}, here ? '● ' : '○ '), person(t.name), ' ', el('span', {class: 'dim'}, show(t.role.title)), c?.busy && el('span', {class: 'tag'}, 'busy')),
      el('p', {class: 'dim small'}, on.length ? ['on ', on.map(o => [el('a', {href: `#/objective/${encodeURIComponent(o.id)}`}, show(o.title)), ' '])] : here ? 'nothing assigned' : c ? `seen ${when(c.lastSeen)}` : 'not seen yet'));
  }));
  const card = o => el('li', null, el('a', {href: `#/objective/${encodeURIComponent(o.id)}`}, show(o.title)), el('p', {class: 'dim small'}, `${line(o.assignee)} · ${when(o.updatedAt)}`, o.blockReason && [' · ', show(o.blockReason)]));
  const group = status => {
    const some = objectives.filter(o => o.status === status), open = status === 'active' || status === 'blocked';
    return some.length > 0 && el('details', {open}, el('summary', {class: status}, `${STATUS[status]} (${some.length})`), el('ul', {class: 'plain'}, some.map(card)));
  };
  const rail = el('div', {class: 'rail', tabindex: 0, role: 'log', 'aria-label': 'General channel'}), said = messages.filter(general);
  const draw = () => { rail.replaceChildren(talk(said), said.length ? '' : el('p', {class: 'dim'}, 'Nothing was said yet.')); rail.scrollTop = rail.scrollHeight; };
  const end = listen(m => general(m) ? (said.some(s => s.id === m.id) || said.push(m), draw()) : render());
  draw();
  const node = el('div', {class: 'home'}, el('section', null, el('h2', null, 'People'), people, notices()),
    el('section', null, el('h2', null, 'Objectives'), ['active', 'blocked', 'done', 'cancelled'].map(group), !objectives.length && el('p', {class: 'dim'}, 'No objective yet.'),
      may('objectives.create') && button('New objective', () => newObjective(teammates.map(t => t.name), made => go(`/objective/${encodeURIComponent(made.id)}`)))),
    el('section', null, el('h2', null, 'General'), rail, sayForm('Say something to all', body => api('POST', '/push', {body, data: {thread: 'chan:general'}}))));
  return {node, title: '', stop: end};
};
