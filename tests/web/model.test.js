// Run by tests/web/pure.rs.
import assert from 'node:assert/strict';
import {argument, bins, byHarness, facets, facts, hosts, rail, resultText, totals, trouble, turns, usage} from './model.js';
import {fileSource} from './source.js';
import {bytes, line, pieces, short, span} from './text.js';

// Text.
for (const [text, want] of [['plain', ['plain']], ['a\u202eb', ['a', '\u202e', 'b']], ['\x1b[0m', ['', '\x1b', '[0m']], ['a\r\nb\tc', ['a\r\nb\tc']], ['a\rb', ['a', '\r', 'b']],
  ['\u{e0041}x', ['', '\u{e0041}', 'x']], ['\x9b1m', ['', '\x9b', '1m']], ['👩‍💻', ['👩‍💻']]]) assert.deepEqual(pieces(text), want);
assert.equal(line('a\n  b\u202e', 20), 'a b\\u{202e}');
assert.equal(line('x'.repeat(50), 10), 'xxxxxxxxxx…');
assert.deepEqual([0, 1023, 1024, 1 << 20].map(bytes), ['0 B', '1023 B', '1.0 KiB', '1.0 MiB']);
assert.deepEqual([null, 999, 61204, 1.5e6].map(short), ['–', '999', '61.2k', '1.5M']);
assert.deepEqual([5, 1500, 61000, 3700000].map(span), ['5 ms', '1.5 s', '1 m 1 s', '1 h 2 m']);

// Blocks.
for (const [input, want] of [[{command: 'ls', description: 'x'}, 'ls'], [{zzz: 'a'}, 'a'], [{cmd: ['a', 'b']}, 'a b'], ['raw', 'raw'], [null, ''], [{}, ''], [{n: {a: 1}}, '{"a":1}']]) assert.equal(argument(input), want);
assert.equal(resultText([{type: 'text', text: 'a'}, {x: 1}]), 'a\n{"x":1}');
for (const [text, want] of [['<system-reminder>x</system-reminder>', true], ['<environment_context>', true], ['Stop hook feedback:\nx', true], ['<b>bold</b> please', false], ['Fix it', false]]) assert.equal(byHarness(text), want, text);
assert.deepEqual(usage({kind: 'anthropic_messages', response: {usage: {inputTokens: 5, outputTokens: 2, cacheReadInputTokens: 90, cacheCreationInputTokens: 5}}}), {fresh: 5, read: 90, write: 5, in: 100, out: 2, reasoning: undefined});
assert.equal(usage({kind: 'gemini', response: {usage: {inputTokens: 9, outputTokens: 2, reasoningTokens: 5}}}).out, 7);
assert.equal(usage({kind: 'openai_chat', response: {usage: {inputTokens: 100, outputTokens: 2, cacheReadInputTokens: 90}}}).in, 100);
assert.deepEqual([{error: {type: 'a', message: 'b'}, response: {}}, {response: null}, {response: {status: 500}}, {response: {status: 200}}].map(trouble), ['a: b', 'no answer', 'HTTP 500', '']);

// Rows become turns.
let id = 0;
const said = (role, ...content) => ({role, content});
const text = t => ({type: 'text', text: t});
const use = (n, command) => ({type: 'tool_use', id: n, name: 'Bash', input: {command}});
const result = (n, isError) => ({type: 'tool_result', toolUseId: n, content: 'r', isError});
const call = (news, answer, {brief, at = id * 1000, ...more} = {}) => ({id: ++id, memberName: 'ann', createdAt: 0, event: {kind: 'llm_exchange', ts: at + 10, duration: 10,
  brief: {continues: null, earlier: 0, of: null, messages: news.length, tools: 1, ...brief},
  entry: {kind: 'anthropic_messages', startedAt: at, endedAt: at + 10, request: {model: 'm', messages: news}, response: {status: 200, stopReason: 'end_turn', messages: [said('assistant', ...answer)], usage: {inputTokens: 1, outputTokens: 1}}, session: {id: 's'}, host: 'h', ...more}}});
const rows = [
  call([said('user', text('Fix it'))], [text('Fix')], {brief: {tools: 0}}),
  call([said('user', text('<system-reminder>x</system-reminder>'), text('Fix it'))], [use('a', 'ls')]),
  call([said('assistant', use('a', 'ls')), said('user', result('a', false))], [use('b', 'false')], {brief: {continues: 2, earlier: 1, of: 1, messages: 3}}),
  call([said('user', text('Find it'))], [text('found')], {session: {id: 's', agentId: 'x'}}),
  call([said('assistant', use('b', 'false')), said('user', result('b', true))], [text('Done')], {brief: {continues: 3, earlier: 3, of: 3, messages: 5}}),
  call([said('assistant', text('Done')), said('user', text('Commit it'))], [text('Committed')], {brief: {continues: 5, earlier: 5, of: 5, messages: 7}}),
  call([said('user', text('Stop hook feedback: go on'))], [text('Rewritten')], {brief: {continues: 6, earlier: 4, of: 7, messages: 5}}),
];
const other = (at, entry) => ({id: ++id, memberName: 'ann', createdAt: 0, event: {kind: 'opaque_http', ts: at, duration: 1, entry: {kind: 'opaque_http', startedAt: at, endedAt: at, host: 'g', method: 'CONNECT', url: 'g:443', status: null, ...entry}}});
rows.push(other(9000, {tunnel: {reason: 'scope', bytesUp: 1, bytesDown: 2}}), other(9001, {host: 'ac7', method: 'NOTE', url: 'ac7:dropped', note: {count: 4, reason: 'x'}}));
const list = turns(rows);
assert.deepEqual(list.map(t => t.ask), ['Fix it', 'Commit it']);
assert.deepEqual(list.map(t => t.rows.length), [5, 4]);
assert.equal(list[0].rows[0].aside, true);
assert.equal(list[0].rows[3].depth, 1);
assert.equal(list[1].rows[1].gap, 'history differs from message 5 on');
const items = rail(list, new Set());
const marks = items.filter(i => i.use).map(i => [i.text, i.mark]);
assert.deepEqual(marks, [['ls', '✓'], ['false', '✗']]);
assert.deepEqual(items.filter(i => i.tag).map(i => i.tag), ['aside', 'harness']);
assert.deepEqual(rail(turns([call([], [text('x')], {truncated: true})]), new Set()).map(i => [i.kind, i.tag]), [['turn', undefined], ['step', 'cut']], 'what is not whole says so');
assert.equal(new Set(items.map(i => i.key)).size, items.length, 'keys are unique');
assert.equal(rail(list, new Set(['t1'])).length, items.length - items.findIndex(i => i.key === 't6') + 1);
const sum = totals(rows.map(facts));
assert.deepEqual([sum.calls, sum.in, sum.errors, sum.tunnels, sum.dropped, sum.cost], [7, 7, 0, 1, 4, null]);
assert.deepEqual(facets(rows.map(facts)).tool, [['Bash', 2]]);
assert.deepEqual(hosts(rows.map(facts)).map(h => [h.host, h.calls, h.up, [...h.how][0]]), [['g', 1, 1, 'tunnelled: scope'], ['h', 7, 0, 'decrypted']]);
assert.equal(bins(rows.map(facts), 10).slices.reduce((n, s) => n + s.calls, 0), 7);
assert.deepEqual(turns([]), []);
const opened = {id: ++id, memberName: 'ann', createdAt: 0, event: {kind: 'objective_open', ts: 0, objectiveId: 'o'}};
assert.deepEqual(turns([opened, ...rows]).map(t => [t.ask, t.rows.length]), [['Fix it', 6], ['Commit it', 4]], 'what comes first begins no turn of its own');

// A row without a session goes with the call it continues, and only with it.
const lone = [call([said('user', text('One'))], [use('z', 'x')], {session: undefined}), call([said('user', text('Two'))], [text('2')], {session: undefined})];
lone.push(call([said('assistant', use('z', 'x')), said('user', result('z', false))], [text('1')], {session: undefined, brief: {continues: lone[0].id, earlier: 1, of: 1, messages: 3}}));
assert.deepEqual(turns(lone).map(t => [t.ask, t.rows.length]), [['One', 2], ['Two', 1]]);

// Rows that a page carries.
const carried = fileSource({strings: ['a long text that is carried once'], parents: [0, 0, 1, 2], items: [null, said('user', text('@0')), said('user', text('@@x')), said('assistant', text('y'))],
  rows: [{id: 7, memberName: 'ann', createdAt: 1, event: {kind: 'llm_exchange', ts: 5, brief: {earlier: 1, messages: 2}, entry: {request: {model: 'm', system: null, tools: null, messages: 2}, response: {status: 200, messages: 3}}}}]});
const {rows: [brief]} = await carried.rows({});
assert.deepEqual([brief.event.entry.request.messages, brief.event.entry.response.messages], [[said('user', text('@x'))], [said('assistant', text('y'))]]);
const whole = await carried.row(7);
assert.equal(whole.event.entry.request.messages[0].content[0].text, 'a long text that is carried once');
for (const [query, want] of [[{q: 'carried ONCE'}, 1], [{q: 'nowhere'}, 0], [{model: 'm*'}, 1], [{model: 'x'}, 0], [{from: 6}, 0], [{status: 'error'}, 0], [{kind: ['opaque_http']}, 0]]) assert.equal((await carried.rows(query)).rows.length, want, JSON.stringify(query));

// The worker: what is pushed is shown, and a click leads to it.
const hears = {}, shown = [], went = [];
Object.assign(globalThis, {addEventListener: (name, run) => { hears[name] = run; }, registration: {showNotification: async (title, {body, data}) => shown.push([title, body, data])}, clients: {openWindow: async url => went.push(url)}});
await import('./sw.js');
const pushed = data => hears.push({data, waitUntil: done => done});
pushed({json: () => ({title: 'T', body: 'B', thread: 'obj:o/1'})});
pushed({json: () => ({from: 'bob', body: 'hi'})});
pushed(null);
assert.deepEqual(shown, [['T', 'B', 'obj:o/1'], ['ac7: bob', 'hi', undefined], ['ac7', '', undefined]]);
for (const data of ['obj:o/1', 'chan:general', undefined]) hears.notificationclick({notification: {data, close() {}}, waitUntil: done => done});
assert.deepEqual(went, ['/#/objective/o%2F1', '/', '/']);
