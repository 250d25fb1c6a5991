// Devices that ask for a token.
import {memberFields, memberValues} from './members.js';
import {api} from './source.js';
import {ask, button, el, line, show, when} from './text.js';

export const enroll = async ({params, render}) => {
  const [{enrollments}, {members}] = await Promise.all([api('GET', '/enroll/pending'), api('GET', '/members')]);
  const asked = (params.get('code') || '').toUpperCase(), post = (verb, body) => api('POST', `/enroll/${verb}`, body).then(render);
  const item = e => el('li', {class: 'card'}, el('p', {class: 'code mono'}, show(e.userCode)), el('p', null, 'from ', el('b', null, show(e.sourceIp || 'an unknown place')), e.labelHint && [', called ', show(e.labelHint)]), el('p', {class: 'dim small'}, line(e.sourceUa || 'no name of the program'), `, until ${when(e.expiresAt)}`),
    el('p', null, 'Approve only if this code stands on a screen of yours.'),
    el('div', {class: 'tools'}, button('For a member', () => ask('A token for a member', [{name: 'memberName', label: 'Member', options: members.map(m => m.name)}, {name: 'label', label: 'Label', value: e.labelHint, max: 64}], 'Approve', v => post('approve', {mode: 'bind', userCode: e.userCode, memberName: v.memberName, ...v.label && {label: v.label}})), {class: 'main'}),
      button('For a new member', () => ask('A new member', [{name: 'name', label: 'Name', value: e.labelHint, required: true, max: 128}, ...memberFields()], 'Approve', v => post('approve', {mode: 'create', userCode: e.userCode, memberName: v.name, ...memberValues(v)}))),
      button('Reject', () => ask('Reject', [{name: 'reason', label: 'Why, told to the device'}], 'Reject', v => post('reject', {userCode: e.userCode, ...v.reason && {reason: v.reason}})))));
  const list = asked ? enrollments.filter(e => e.userCode === asked) : enrollments;
  return {title: 'Devices', node: el('div', null, !list.length && el('p', null, asked ? `No device waits with the code ${line(asked)}: it was decided, or is older than five minutes.` : 'No device asks for a token.'), el('ul', {class: 'plain'}, list.map(item)),
    asked && el('a', {href: '#/enroll'}, 'All that wait'))};
};
