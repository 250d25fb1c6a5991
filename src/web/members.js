// Members: what they may, what opens the door for them.
import {person} from './objective.js';
import {api} from './source.js';
import {ask, button, copyButton, el, line, show, svg, when} from './text.js';

const MAY = {'team.manage': 'change the team', 'members.manage': 'manage members', 'objectives.create': 'create objectives', 'objectives.cancel': 'cancel objectives', 'objectives.reassign': 'reassign objectives', 'objectives.watch': 'choose watchers', 'activity.read': 'read everybody’s trace'};
const at = name => `/members/${encodeURIComponent(name)}`;
const LEAVES = Object.keys(MAY);
export const memberFields = m => [{name: 'title', label: 'Role', value: m?.role.title, required: true, max: 64}, {name: 'description', label: 'What the role does', value: m?.role.description, long: true},
  {name: 'instructions', label: 'Instructions', value: m?.instructions, long: true}, ...LEAVES.map(p => ({name: p, label: MAY[p], check: true, value: m?.permissions.includes(p)}))];
export const memberValues = v => ({role: {title: v.title, description: v.description}, instructions: v.instructions, permissions: LEAVES.filter(p => v[p])});

export const once = (title, text, more) => ask(title, [], '', null, el('div', null, el('p', null, 'This is shown once.'), el('p', {class: 'code mono'}, text, ' ', copyButton(text)), more));

// A QR code of rows of 0 and 1.
const picture = rows => svg('svg', {class: 'qr', viewBox: `-4 -4 ${rows.length + 8} ${rows.length + 8}`, role: 'img', 'aria-label': 'QR code of the secret'}, svg('rect', {x: -4, y: -4, width: rows.length + 8, height: rows.length + 8, class: 'white'}),
  svg('path', {d: rows.map((row, y) => [...row].map((c, x) => c === '1' ? `M${x} ${y}h1v1h-1z` : '').join('')).join('')}));

const tokens = async (m, render) => {
  const {tokens: list} = await api('GET', `${at(m.name)}/tokens`);
  ask(`Tokens of ${m.name}`, [], '', null, el('ul', {class: 'plain'}, list.map(t => el('li', null, el('b', null, show(t.label || t.origin)), el('p', {class: 'dim small'}, `${line(t.origin)} · made ${when(t.createdAt)} · used ${when(t.lastUsedAt)}`),
    button('Revoke', () => ask('Revoke the token', [], 'Revoke', () => api('DELETE', `${at(m.name)}/tokens/${t.id}`).then(render), `What uses ${t.label || 'it'} is locked out at once.`)))), !list.length && el('li', null, 'none')));
};

export const members = async ({session, render}) => {
  const {members: list} = await api('GET', '/members'), manages = session.permissions.includes('members.manage');
  const item = m => el('li', {class: 'member'}, el('h2', null, person(m.name), ' ', el('span', {class: 'dim'}, show(m.role.title))), el('p', {class: 'small'}, m.permissions.length ? `May ${m.permissions.map(p => MAY[p] || line(p)).join(', ')}.` : 'May work on what is assigned.'),
    (manages || m.name === session.member) && el('div', {class: 'tools'}, manages && button('Change', () => ask(`Change ${m.name}`, memberFields(m), 'Save', v => api('PATCH', at(m.name), memberValues(v)).then(render))),
      button('Tokens', () => tokens(m, render)),
      button('New token', () => ask('New token', [], 'Make it', async () => { const {token} = await api('POST', `${at(m.name)}/rotate-token`); once(`Token of ${m.name}`, token); }, `Every token of ${m.name} ends, and every session. Its runners stop until they have the new one.`)),
      button('One-time codes', () => ask('One-time codes', [], 'Make them', async () => { const {totpSecret, qr} = await api('POST', `${at(m.name)}/enroll-totp?qr=1`); once(`Codes of ${m.name}`, totpSecret, qr && picture(qr)); }, `An authenticator that ${m.name} uses now shows wrong codes from then on.`)),
      manages && button('Remove', () => ask(`Remove ${m.name}`, [], 'Remove', () => api('DELETE', at(m.name)).then(render), 'Its tokens and sessions end at once. What it did stays recorded.'))));
  return {title: 'Members', node: el('div', null, manages && el('div', {class: 'tools'}, button('New member', () => ask('New member', [{name: 'name', label: 'Name', required: true, max: 128}, ...memberFields()], 'Create',
    async v => { const {token} = await api('POST', '/members', {name: v.name, ...memberValues(v)}); render(); once(`Token of ${v.name}`, token); })), el('a', {href: '#/enroll'}, 'Devices that ask for a token')), el('ul', {class: 'plain'}, list.map(item)))};
};
