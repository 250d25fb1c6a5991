// An objective: its outcome, what happened and what was said about it, the trace beside.
import {api} from './source.js';
import {ask, button, el, line, show, when} from './text.js';
import {timeline} from './timeline.js';

export const STATUS = {active: '● active', blocked: '■ blocked', done: '✓ done', cancelled: '× cancelled'};
const idPath = id => `/objectives/${encodeURIComponent(id)}`;
const names = text => text.split(/[\s,]+/).filter(Boolean);
export const task = o => el('a', {href: `#/objective/${encodeURIComponent(o.id)}`}, show(o.title));
export const person = name => el('a', {href: `#/trace/${encodeURIComponent(name)}`}, show(name));

export const newObjective = (people, done) => ask('New objective', [{name: 'title', label: 'Title', required: true, max: 200}, {name: 'outcome', label: 'Outcome: how to tell that it is done', long: true, required: true},
  {name: 'assignee', label: 'Assignee', options: people}, {name: 'body', label: 'More', long: true}, {name: 'watchers', label: 'Watchers, names'}], 'Create',
async ({watchers, body, ...rest}) => { const made = await api('POST', '/objectives', {...rest, ...body && {body}, watchers: names(watchers)}); done(made); });

const actions = (o, session, people, again) => {
  const may = name => session.permissions.includes(name), mine = o.assignee === session.member, open = o.status === 'active' || o.status === 'blocked';
  const post = (verb, values, method = 'POST') => api(method, idPath(o.id) + verb, values).then(again);
  const on = [];
  if (open && (mine || may('members.manage'))) on.push(o.status === 'active'
    ? button('Block', () => ask('Block', [{name: 'blockReason', label: 'Why', long: true, required: true}], 'Block', v => post('', {...v, status: 'blocked'}, 'PATCH')))
    : button('Unblock', () => post('', {status: 'active'}, 'PATCH')));
  if (open && mine) on.push(button('Complete', () => ask('Complete', [{name: 'result', label: 'Result', long: true, required: true}], 'Complete', v => post('/complete', v)), {class: 'main'}));
  if (open && (may('objectives.reassign') || may('members.manage'))) on.push(button('Reassign', () => ask('Reassign', [{name: 'to', label: 'To', options: people}, {name: 'note', label: 'Note', long: true}], 'Reassign', ({to, note}) => post('/reassign', {to, ...note && {note}}))));
  if (open && (o.originator === session.member || may('objectives.watch'))) on.push(button('Watchers', () => ask('Watchers', [{name: 'add', label: 'Add, names'}, {name: 'remove', label: 'Remove, names'}], 'Change', v => post('/watchers', {add: names(v.add), remove: names(v.remove)}))));
  if (open && (o.originator === session.member || may('objectives.cancel'))) on.push(button('Cancel it', () => ask('Cancel the objective', [{name: 'reason', label: 'Why', long: true}], 'Cancel it', ({reason}) => post('/cancel', reason ? {reason} : {}), `${o.assignee} is told to stop. This cannot be undone.`)));
  return el('div', {class: 'tools'}, on);
};

// Messages and events on one rail.
export const talk = list => el('ol', {class: 'talk'}, list.sort((a, b) => a.ts - b.ts).map(m => el('li', null, el('p', {class: 'role'}, show(m.actor || m.from || 'ac7'), ` · ${when(m.ts)} `, m.kind && el('b', null, line(m.kind.replace('_', ' ')))),
  m.title && el('b', null, show(m.title)), el('p', {class: 'said'}, show(m.body ?? ['assignee', 'name', 'from', 'to', 'note', 'reason', 'result'].map(n => m.payload[n]).filter(Boolean).join(' → '))))));

export const sayForm = (label, send) => {
  const input = el('input', {'aria-label': label, placeholder: label, required: true, maxlength: 16384}), problem = el('p', {class: 'bad', role: 'alert'});
  return el('form', {class: 'say', on: {submit: async event => {
    event.preventDefault();
    try { await send(input.value); input.value = ''; problem.textContent = ''; } catch (error) { problem.textContent = line(error.message); }
  }}}, input, el('button', null, 'Send'), problem);
};

export const objectivePage = async (id, {session, source, params, path, go, render, listen}) => {
  const about = el('div'), rail = el('div');
  let at;
  const read = async () => {
    const [found, {messages}, {teammates}] = await Promise.all([api('GET', idPath(id)), api('GET', '/history?limit=500'), api('GET', '/roster')]);
    at = {o: found.objective, open: /active|blocked/.test(found.objective.status)};
    const {o} = at, said = messages.filter(m => m.data?.thread === `obj:${id}` && m.data.kind === 'objective_discuss');
    about.replaceChildren(el('p', {class: `state ${o.status}`}, STATUS[o.status], o.blockReason && [': ', show(o.blockReason)]), el('h2', null, 'Outcome'), el('p', {class: 'said'}, show(o.outcome)),
      ...o.result ? [el('h2', null, 'Result'), el('p', {class: 'said'}, show(o.result))] : [], o.body ? el('p', {class: 'said dim'}, show(o.body)) : '',
      el('p', {class: 'dim'}, 'Assigned to ', person(o.assignee), ` by ${line(o.originator)} · ${when(o.createdAt)}`, o.watchers.length > 0 && ` · watched by ${line(o.watchers.join(', '))}`),
      actions(o, session, teammates.map(t => t.name), again));
    rail.replaceChildren(talk([...found.events, ...said]));
  };
  // The trace stays as it is read, unless it is somebody else's from here on, or over.
  const again = async () => {
    const before = at;
    await read().catch(render);
    if (before.o.assignee !== at.o.assignee || before.open !== at.open) render();
  };
  await read();
  const {o, open} = at, reads = o.assignee === session.member || session.permissions.includes('activity.read');
  const trace = reads && timeline({source, member: o.assignee, objective: id, still: !open, params, go: (values, quiet) => go(path, values, quiet), empty: 'Nothing was recorded under this objective yet.'});
  const end = listen(m => m.data?.thread === `obj:${id}` && again());
  return {
    title: o.title, keys: trace?.keys, stop() { trace?.stop?.(); end(); },
    node: el('div', {class: 'objective'}, el('section', {class: 'about'}, about, el('h2', null, 'What happened'), rail, sayForm('Say something about it', body => api('POST', `${idPath(id)}/discuss`, {body}).then(again))),
      trace ? trace.node : el('p', {class: 'dim'}, 'Its trace needs the activity.read permission.')),
  };
};
