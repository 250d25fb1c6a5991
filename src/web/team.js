// Home: who is here, what is to be done, what is said.
import {newObjective, person, sayForm, STATUS, talk, task} from './objective.js';
import {api} from './source.js';
import {button, el, line, show, when} from './text.js';

const general = m => m.data?.thread === 'chan:general' || !m.to && !m.data?.thread;

// How often who is here is asked for: nothing says when somebody goes.
const EVERY = 15000;

// Notices of assignments and mentions, through the browser's own push service. The number by which the broker knows this
// browser stays in it.
const notices = () => {
  if (!('PushManager' in window)) return null;
  const problem = el('p', {class: 'bad small', role: 'alert'}), box = el('div');
  const begin = async () => {
    const {publicKey} = await api('GET', '/push/vapid-public-key');
    if (await Notification.requestPermission() !== 'granted') throw new Error('The browser does not allow it for this address.');
    const worker = await navigator.serviceWorker.register('/web/sw.js'), starting = worker.installing;
    if (starting) await new Promise(done => starting.addEventListener('statechange', () => starting.state === 'activated' && done()));
    const key = Uint8Array.from(atob(publicKey.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
    const made = await worker.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: key});
    localStorage.setItem('push', (await api('POST', '/push/subscriptions', made.toJSON())).id);
  };
  const end = async () => {
    const id = localStorage.getItem('push');
    const place = await navigator.serviceWorker.getRegistration('/web/');
    await (await place?.pushManager.getSubscription())?.unsubscribe();
    localStorage.removeItem('push');
    await api('DELETE', `/push/subscriptions/${encodeURIComponent(id)}`);
  };
  const draw = () => {
    const on = localStorage.getItem('push');
    box.replaceChildren(on ? el('p', {class: 'dim small'}, 'This browser tells you of assignments and mentions.') : '', button(on ? 'Stop it' : 'Notify me', async event => {
      event.target.disabled = true;
      try { await (on ? end : begin)(); problem.textContent = ''; } catch (error) { problem.textContent = line(error.message); }
      draw();
    }), problem);
  };
  draw();
  return box;
};

export const home = async ({session, go, listen, render}) => {
  const may = name => session.permissions.includes(name);
  const people = el('ul', {class: 'plain'}), todo = el('div'), rail = el('div', {class: 'rail', tabindex: 0, role: 'log', 'aria-label': 'General channel'});
  const fill = async () => {
    const [{teammates, connected}, {objectives}] = await Promise.all([api('GET', '/roster'), api('GET', '/objectives')]);
    const seen = new Map(connected.map(c => [c.name, c]));
    people.replaceChildren(...teammates.map(t => {
      const c = seen.get(t.name), here = c?.connected > 0 || t.name === session.member, on = objectives.filter(o => o.assignee === t.name && o.status === 'active');
      return el('li', null, el('p', null, el('span', {class: here ? 'ok' : 'dim', role: 'img', 'aria-label': here ? 'here' : 'away'}, here ? '● ' : '○ '), person(t.name), ' ', el('span', {class: 'dim'}, show(t.role.title)), ' ', c?.busy && el('span', {class: 'tag'}, 'busy')),
        el('p', {class: 'dim small'}, on.length ? ['on ', on.map(o => [task(o), ' '])] : here ? 'nothing assigned' : c ? `seen ${when(c.lastSeen)}` : 'not seen yet'));
    }));
    const card = o => el('li', null, task(o), el('p', {class: 'dim small'}, `${line(o.assignee)} · ${when(o.updatedAt)}`, o.blockReason && [' · ', show(o.blockReason)]));
    const group = status => {
      const some = objectives.filter(o => o.status === status), open = todo.querySelector(`#${status}`)?.open ?? (status === 'active' || status === 'blocked');
      return some.length > 0 && el('details', {open, id: status}, el('summary', {class: status}, `${STATUS[status]} (${some.length})`), el('ul', {class: 'plain'}, some.map(card)));
    };
    todo.replaceChildren(...['active', 'blocked', 'done', 'cancelled'].map(group).filter(Boolean), objectives.length ? '' : el('p', {class: 'dim'}, 'No objective yet.'));
    return teammates.map(t => t.name);
  };
  const [names, {messages}] = await Promise.all([fill(), api('GET', '/history?channel=general&limit=50')]);
  const said = messages.filter(general);
  const draw = () => { rail.replaceChildren(talk(said), said.length ? '' : el('p', {class: 'dim'}, 'Nothing was said yet.')); rail.scrollTop = rail.scrollHeight; };
  const again = () => fill().catch(error => error.status === 401 && render()), timer = setInterval(again, EVERY);
  const end = listen(m => general(m) ? (said.some(s => s.id === m.id) || said.push(m), draw()) : again());
  draw();
  const node = el('div', {class: 'home'}, el('section', null, el('h2', null, 'People'), people, notices()),
    el('section', null, el('h2', null, 'Objectives'), todo, may('objectives.create') && button('New objective', () => newObjective(names, made => go(`/objective/${encodeURIComponent(made.id)}`)))),
    el('section', null, el('h2', null, 'General'), rail, sayForm('Say something to all', body => api('POST', '/push', {body, data: {thread: 'chan:general'}}))));
  return {node, title: '', stop() { end(); clearInterval(timer); }};
};
