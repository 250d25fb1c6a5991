// What a member did: overview, filters, the rail of turns, the hosts, and one row beside it.
import {chart} from './chart.js';
import {exchange} from './exchange.js';
import {virtualList} from './list.js';
import {facets, facts, hosts, rail, totals, turns} from './model.js';
import {announce, button, bytes, clock, count, day, el, line, many, money, percent, short, show, span, when} from './text.js';

const PAGE = 500, SOME = 'of those loaded', FILTERS = ['q', 'model', 'tool', 'session', 'status', 'from', 'to'];
const CALLS = ['llm_exchange', 'objective_open', 'objective_close'], OTHERS = ['opaque_http'], KINDS = {'': CALLS, all: [...CALLS, ...OTHERS], other: OTHERS};

const cells = f => f.kind !== 'call' ? [['', '']] : [['model', f.model && line(f.model, 40)], ['in', f.use && short(f.use.in)], ['cached', f.use && percent(f.use.read, f.use.in)],
  ['out', f.use && short(f.use.out)], ['1st token', f.ttft != null && span(f.ttft)], ['time', span(f.ms)], ['tok/s', f.rate], ['cost', f.use && money(f.cost)]];

const draw = item => {
  const {kind, f} = item;
  if (kind === 'turn') {
    const {turn} = item, {sum} = turn;
    return el('div', {class: 'row turn'}, el('span', {class: 'mark', 'aria-hidden': 'true'}, item.folded ? '▸' : '▾'), el('time', null, when(turn.at)),
      el('span', {class: 'text'}, turn.ask ? show(turn.ask) : el('i', null, 'without a request')),
      el('span', {class: 'sum'}, `${many(sum.calls, 'call')} · ${short(sum.in)} in · ${short(sum.out)} out · ${span(sum.to - sum.from)}${sum.errors ? ` · ${sum.errors} failed` : ''}`));
  }
  if (kind === 'gap') return el('div', {class: 'row gap'}, item.text);
  const node = el('div', {class: `row ${kind} ${item.first && f.failed || item.mark === '✗' || item.mark === '!' ? 'bad' : ''}`},
    el('span', {class: 'mark', 'aria-hidden': 'true'}, item.mark), el('time', null, item.first ? clock(f.at) : ''),
    el('span', {class: 'text'}, item.tag && el('span', {class: 'tag'}, item.tag), el('b', null, line(item.name, 60)), ' ', el('span', {class: item.use ? 'mono' : null}, line(item.text)),
      item.result && el('span', {class: 'dim'}, ` → ${line(item.result, 120)}`)),
    el('span', {class: 'cells'}, item.first ? cells(f).map(([name, value]) => el('span', {title: value ? `${name}: ${value}` : null}, value || (name && '–'))) : null));
  node.style.setProperty('--depth', item.depth);
  return node;
};

// `source`, `member` and perhaps `objective` say whose rows, `still` that no more will come; `params` and `go` are the view's URL.
export const timeline = ({source, member, objective, still, params, go, empty}) => {
  let rows = [], others = [], cursor = null, moreOthers = null, folded = new Set(), loading = false, waiting = 0, live = '', ids = new Set(), dirty = false, shown = null, stopped = false, sums = null, summing = false, again = false;
  const get = name => params.get(name) || '';
  const filters = Object.fromEntries(FILTERS.map(name => [name, get(name)]).filter(([, v]) => v));
  // Requests other than calls are listed where they are asked for. Elsewhere they are fetched for what they add up to.
  const kind = ['all', 'other'].find(name => name === get('kind')) || '', kinds = KINDS[kind || (filters.status ? 'all' : '')], withOthers = kinds !== CALLS;

  const overview = el('div', {class: 'overview'}), chips = el('div', {class: 'chips'}), form = el('form', {class: 'filters', role: 'search', 'aria-label': 'Filters'});
  const pill = button('', () => { waiting = 0; list.toEnd(); pill.hidden = true; }, {class: 'pill', hidden: true});
  const status = el('p', {class: 'status', role: 'status'}), detail = el('aside', {class: 'detail', 'aria-label': 'Details', hidden: true, tabindex: -1});
  const set = changes => go({...Object.fromEntries(params), row: '', ...changes});

  const act = (item, how) => {
    if (item.kind === 'gap') return;
    if (item.kind === 'turn' && how === 'open') {
      folded.has(item.key) ? folded.delete(item.key) : folded.add(item.key);
      return layout();
    }
    if (item.kind === 'turn' || how === 'move' && detail.hidden) return go({...Object.fromEntries(params), row: item.key}, true);
    open(item);
  };
  const list = virtualList({label: 'Timeline', draw, act, top: () => { if (cursor) load(); }});
  const heads = el('div', {class: 'row heads', 'aria-hidden': 'true'}, el('span', {class: 'mark'}), el('time', null, 'time'), el('span', {class: 'text'}), el('span', {class: 'cells'}, cells({kind: 'call'}).map(([name]) => el('span', null, name))));

  const open = async item => {
    const {f} = item;
    shown = f.id;
    params.set('row', item.key);
    go(Object.fromEntries(params), true);
    detail.hidden = false;
    main.classList.add('open');
    const head = el('header', null, el('h2', {tabindex: -1}, `${f.kind === 'call' ? 'Call' : 'Row'} ${f.id}`), button('Close', close));
    if (!detail.hasChildNodes()) detail.replaceChildren(head, el('p', {class: 'dim'}, 'Loading …'));
    try {
      const whole = await source.row(f.id, f.member);
      if (shown !== f.id) return;
      const later = item.f.steps.filter(s => s.use).map(s => [s.use, results.get(s.use)]).filter(([, r]) => r);
      detail.replaceChildren(head, exchange(whole, {...f, later}));
      detail.scrollTop = 0;
    } catch (error) {
      detail.replaceChildren(head, el('p', {class: 'verdict bad'}, show(error.message)));
    }
  };
  const close = () => { shown = null; detail.hidden = true; detail.replaceChildren(); main.classList.remove('open'); params.delete('row'); go(Object.fromEntries(params), true); list.node.focus(); };

  let results = new Map();
  const layout = () => {
    const seen = [...rows, ...others.filter(r => withOthers || r.event.entry?.note)];
    const all = turns(seen);
    results = all[0]?.results || results;
    const items = rail(all, folded);
    list.set(items);
    body.classList.toggle('none', !items.length);
    if (!loading) say(items.length);
  };
  const say = any => status.replaceChildren(...any ? [`${many(rows.length + (withOthers ? others.length : 0), 'row')}${cursor ? ' so far, more above' : ''}`, live && ` · ${live}`]
    : Object.keys(filters).length ? ['Nothing fits these filters. ', button('Clear them', () => go({}))] : [empty || 'Nothing is recorded yet.']);

  const summarise = () => {
    const calls = rows.map(facts), sum = {...totals([...calls, ...others.map(facts)]), ...cursor && sums};
    const part = cursor && !sums && SOME, partOthers = (cursor && withOthers || moreOthers) && SOME;
    const figure = (name, value, note) => el('div', {class: 'figure'}, el('b', null, value), el('span', null, name), note && el('small', null, note));
    overview.replaceChildren(el('div', {class: 'figures'}, figure('calls', count(sum.calls), part), figure('tokens in', short(sum.in), `${percent(sum.read, sum.in)} cached`),
      figure('tokens out', short(sum.out)), figure('cost', sum.cost == null ? '–' : `≈ ${money(sum.cost)}`, sum.cost != null && sum.unpriced ? `${count(sum.unpriced)} unpriced` : part), figure('failed calls', count(sum.errors)), figure('tunnels', count(sum.tunnels), partOthers),
      sum.dropped > 0 && figure('dropped', count(sum.dropped), partOthers)), ...calls.length > 1 ? [chart(calls, (from, to) => set({from, to}))] : []);
    fill(calls);
  };
  // What everything that fits adds up to, where not all of it is here. A search is too slow for that.
  const resum = async () => {
    if (!cursor || filters.q || kind === 'other') return;
    if (summing) { again = true; return; }
    [summing, again] = [true, false];
    sums = await source.sums(base).catch(() => null);
    if (stopped) return;
    summarise();
    setTimeout(() => { summing = false; if (again && !stopped) resum(); }, 2000);
  };

  const inputs = {}, fill = calls => {
    const found = facets(calls);
    for (const name of ['model', 'tool', 'session']) {
      const select = inputs[name], all = found[name];
      if (filters[name] && !all.some(([v]) => v === filters[name])) all.unshift([filters[name], null]);
      select.replaceChildren(el('option', {value: ''}, `any ${name}`), ...all.slice(0, 50).map(([value, n]) => el('option', {value, selected: value === filters[name]}, `${line(value, 30)}${n == null ? '' : ` (${n}${cursor ? '+' : ''})`}`)));
    }
  };
  const select = name => inputs[name] = el('select', {'aria-label': name, on: {change: event => set({[name]: event.target.value})}});
  form.append(el('input', {type: 'search', name: 'q', value: get('q'), placeholder: 'Search in everything', 'aria-label': 'Search in everything'}),
    button('Filters', event => event.target.setAttribute('aria-expanded', form.classList.toggle('open')), {class: 'more', 'aria-expanded': 'false'}), select('model'), select('tool'), select('session'),
    el('select', {'aria-label': 'kind', on: {change: event => set({kind: event.target.value})}}, [['', 'model calls'], ['all', 'all requests'], ['other', 'other requests']].map(([value, label]) => el('option', {value, selected: value === kind}, label))),
    el('label', null, el('input', {type: 'checkbox', checked: filters.status === 'error', on: {change: event => set({status: event.target.checked ? 'error' : ''})}}), 'Errors'));
  form.addEventListener('submit', event => { event.preventDefault(); set({q: form.elements.q.value}); });
  chips.append(...Object.entries(filters).map(([name, value]) => button([`${name}: ${name === 'from' || name === 'to' ? `${day(+value)} ${clock(+value)}` : line(value, 40)} `, el('span', {'aria-hidden': 'true'}, '×')],
    () => set({[name]: ''}), {class: 'chip', 'aria-label': `Remove filter ${name}`})));

  const base = {member, objective, ...filters};
  const load = async () => {
    if (loading || stopped) return;
    loading = true;
    status.textContent = 'Loading …';
    try {
      // A search may come back before it has found anything: it goes on from where it stopped.
      for (let tries = 0; tries < 20; tries++) {
        const page = await source.rows({...base, kind: kinds, limit: PAGE, cursor});
        if (stopped) return;
        take(page.rows);
        cursor = page.next;
        if (page.rows.length || !cursor) break;
      }
      loading = false;
      layout();
      summarise();
      resum();
      if (get('tab') === 'hosts') showHosts();
    } catch (error) {
      loading = false;
      cursor = null;
      status.replaceChildren(el('span', {class: 'bad'}, show(error.message)), ' ', button('Try again', load));
    }
  };
  const take = found => { for (const row of found) if (!ids.has(row.id)) { ids.add(row.id); (row.event.kind === OTHERS[0] ? others : rows).push(row); } };
  const loadOthers = async () => {
    const {model, tool, ...rest} = base;
    if (model || tool || withOthers) return;
    const page = await source.rows({...rest, kind: OTHERS, limit: 1000, cursor: moreOthers}).catch(() => ({rows: [], next: null}));
    if (stopped) return;
    moreOthers = page.next;
    if (page.rows.length) {
      take(page.rows);
      layout();
      summarise();
    }
    if (get('tab') === 'hosts') showHosts();
  };

  const fits = row => {
    const f = facts(row);
    return (kind !== 'other' || row.event.kind === OTHERS[0]) && !filters.q && !filters.from && !filters.to && (!filters.model || f.model === filters.model) && (!filters.session || f.session === filters.session)
      && (!filters.tool || f.tools.includes(filters.tool)) && (!filters.status || f.failed);
  };
  const arrived = row => {
    if (ids.has(row.id) || !fits(row)) return;
    take([row]);
    if (!list.atEnd() && (withOthers || row.event.kind !== OTHERS[0])) waiting++;
    if (dirty) return;
    dirty = true;
    setTimeout(() => {
      dirty = false;
      if (stopped) return;
      layout();
      summarise();
      resum();
      pill.hidden = !waiting || list.atEnd();
      if (list.atEnd()) waiting = 0;
      pill.textContent = `${waiting} new ↓`;
      announce(waiting ? many(waiting, 'new row') : 'New rows');
    }, 150);
  };

  const table = el('div', {class: 'scroll', hidden: true}), body = el('div', {class: 'body'}, heads, list.node, pill);
  const showHosts = () => {
    const found = hosts([...rows, ...others].map(facts));
    table.replaceChildren(el('table', null, el('caption', null, 'What left this machine, by host'), el('thead', null, el('tr', null, ['Host', 'Requests', 'Up', 'Down', 'How', 'First', 'Last'].map(t => el('th', {scope: 'col'}, t)))),
      el('tbody', null, found.map(h => el('tr', null, el('th', {scope: 'row', class: 'mono'}, show(h.host)), el('td', null, count(h.calls)), el('td', null, h.counted ? bytes(h.up) : '–'), el('td', null, h.counted ? bytes(h.down) : '–'),
        el('td', null, show([...h.how].join(', '))), el('td', null, when(h.first)), el('td', null, when(h.last)))))), ...found.length ? [] : [el('p', {class: 'dim'}, 'No host is known yet.')], ...moreOthers || cursor ? [button('Load older requests', moreOthers ? loadOthers : load)] : []);
  };
  const tab = (name, label) => el('button', {type: 'button', role: 'tab', 'aria-selected': String(get('tab') === name), on: {click: () => set({tab: name})}}, label);
  const main = el('div', {class: 'split'}, el('div', {class: 'left'}, body, table), detail);
  const hostsTab = get('tab') === 'hosts';
  body.hidden = hostsTab;
  table.hidden = !hostsTab;
  const node = el('section', {class: 'panel', 'aria-label': 'Trace'}, overview, el('div', {class: 'tools'}, el('div', {role: 'tablist', 'aria-label': 'View'}, tab('', 'Timeline'), tab('hosts', 'Hosts')), form), chips, main, status);

  let end = () => {};
  const start = async () => {
    if (!source.still && !still) end = source.stream(member, arrived, state => { live = state === 'live' ? '● live' : state === 'waiting' ? 'reconnecting …' : 'the stream has ended'; say(list.items().length); });
    const wanted = get('row');
    await load();
    if (!source.still && !wanted) list.toEnd();
    await loadOthers();
    if (wanted) { list.pick(wanted, wanted[0] === 't' ? 'move' : 'open'); }
  };
  start();

  const bad = item => item.mark === '✗' || item.mark === '!';
  return {
    node,
    stop() { stopped = true; end(); },
    keys: {
      j: () => list.move(1), k: () => list.move(-1), n: () => list.move(1, i => i.kind === 'turn'), p: () => list.move(-1, i => i.kind === 'turn'),
      e: () => list.move(1, bad), '/': () => form.elements.q.focus(), Escape: () => { if (!detail.hidden) close(); },
      Enter: () => { const item = list.chosen(); if (item) { act(item, 'open'); if (item.kind !== 'turn') detail.focus(); } },
      f: () => { folded = folded.size ? new Set() : new Set(turns(rows).map(t => t.key)); layout(); },
    },
  };
};
