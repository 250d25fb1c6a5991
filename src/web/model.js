// From rows to what a person reads: turns. Pure functions, no page.
import {line} from './text.js';

// A row's facts: what the list, the chart and the totals need of it; made once.
export const facts = row => row.facts ??= row.event.kind === 'llm_exchange' ? callFacts(row) : otherFacts(row);

// Every kind has the same fields: objects of one shape are quick to make and to read.
const common = (row, kind) => {
  const {event} = row, entry = event.entry || {}, {request, response, session} = entry;
  return {row, id: row.id, kind, member: row.memberName, at: entry.startedAt ?? event.ts, end: entry.endedAt ?? event.ts, ms: event.duration,
    host: entry.host, session: session?.id ?? '', agent: session?.agentId, parent: session?.parentAgentId, model: request?.model, served: entry.servedModel,
    status: response?.status ?? entry.status, stop: response?.stopReason, tunnel: entry.tunnel, note: entry.note, cut: entry.truncated, failed: false, why: '',
    use: null, ttft: null, rate: null, cost: null, brief: event.brief, name: '', text: '', ask: '', told: '', steps: [], results: [], tools: []};
};

const otherFacts = row => {
  const {event} = row, entry = event.entry;
  if (!entry) {
    const ends = {runner_shutdown: 'put down: the session ended'}[event.result] ?? line(event.result, 20);
    return Object.assign(common(row, 'mark'), {name: `Objective ${event.kind === 'objective_close' ? ends : 'taken up'}`, text: event.objectiveId});
  }
  const {tunnel, note} = entry, f = common(row, note ? 'note' : 'http');
  f.failed = !!note || entry.status >= 400 || (!tunnel && entry.status == null);
  const place = (entry.url || '').replace(/^\w+:\/\//, '').replace(/[?#].*/, '');
  f.name = note ? line((entry.url || '').replace('ac7:', ''), 40) : tunnel ? 'Tunnel' : entry.method;
  f.text = note ? `${note.count} ${note.reason}` : place.startsWith('/') ? entry.host + place : place;
  return f;
};

// Tokens under one meaning: Anthropic counts cached ones beside the input, others within; Gemini reasoning beside the output.
export const usage = entry => {
  const u = entry.response?.usage;
  if (!u || u.inputTokens == null) return null;
  const read = u.cacheReadInputTokens || 0, write = u.cacheCreationInputTokens || 0;
  const fresh = entry.kind === 'anthropic_messages' ? u.inputTokens : Math.max(0, u.inputTokens - read);
  return {fresh, read, write, in: fresh + read + write, out: (u.outputTokens ?? 0) + (entry.kind === 'gemini' && u.reasoningTokens || 0), reasoning: u.reasoningTokens};
};

// What went wrong in a call, or nothing.
export const trouble = entry => {
  if (entry.error) return `${entry.error.type}: ${entry.error.message}`;
  if (!entry.response) return 'no answer';
  return entry.response.status >= 400 ? `HTTP ${entry.response.status}` : '';
};

const TELLING = ['command', 'cmd', 'file_path', 'path', 'pattern', 'url', 'query', 'description', 'prompt'];
export const argument = input => {
  if (input == null || typeof input !== 'object') return String(input ?? '');
  const value = TELLING.map(name => input[name]).find(v => v != null) ?? Object.values(input)[0];
  return typeof value === 'string' ? value : Array.isArray(value) ? value.join(' ') : value == null ? '' : JSON.stringify(value);
};

export const resultText = content =>
  typeof content === 'string' ? content
    : Array.isArray(content) ? content.map(part => part?.text ?? JSON.stringify(part)).join('\n')
      : content == null ? '' : JSON.stringify(content);

// Whether the program around the model wrote this, not the person.
const WRAPPED = /^\s*<([a-z]+[-_][a-z-_]*)[\s>]/;
const PHRASES = /^\s*(Caveat: The messages below|Stop hook feedback|UserPromptSubmit hook|\[Request interrupted|# AGENTS\.md instructions|This session is being continued)/;
export const byHarness = text => WRAPPED.test(text) || PHRASES.test(text);

const words = blocks => blocks.filter(b => b.type === 'text' && !byHarness(b.text)).map(b => b.text);

const callFacts = row => {
  const {event} = row, {entry} = event, {request, response} = entry;
  const f = common(row, 'call'), all = request.messages;
  const brief = f.brief ??= {continues: null, earlier: 0, messages: all.length, tools: request.tools?.length || 0};
  const news = all.length === brief.messages ? all.slice(brief.earlier) : all, first = entry.firstTokenAt;
  f.why = trouble(entry);
  f.failed = !!f.why;
  f.use = usage(entry);
  f.cost = brief.cost;
  if (first != null) f.ttft = Math.max(0, first - entry.startedAt);
  if (f.use && f.ttft != null && f.ms > f.ttft) f.rate = Math.round(f.use.out * 1000 / (f.ms - f.ttft));
  for (const {role, content} of news) {
    const results = content.filter(b => b.type === 'tool_result');
    for (const b of results) f.results.push({use: b.toolUseId, error: b.isError, text: resultText(b.content)});
    if (role !== 'user' && role !== 'system' || results.length) continue;
    const said = role === 'user' ? words(content) : [];
    if (said.length || content.some(b => b.type === 'image')) f.ask = line(said.join(' ') || '[image]');
    else if (content[0]) f.told = line(content[0].text ?? content[0].type);
  }
  for (const {content} of response?.messages || []) for (const block of content) f.steps.push(step(block));
  f.tools = f.steps.filter(s => s.use).map(s => s.name);
  if (f.why) f.steps.push({mark: '!', name: 'Error', text: f.why});
  if (!f.steps.length) f.steps.push({mark: '·', name: 'Nothing', text: f.stop || ''});
  return f;
};

const step = block => {
  switch (block.type) {
    case 'text': return {mark: '›', name: 'Says', text: block.text};
    case 'thinking': return {mark: '∴', name: 'Thinks', text: block.text};
    case 'tool_use': return {mark: '…', name: block.name, text: argument(block.input), use: block.id};
    case 'image': return {mark: '▣', name: 'Image', text: block.mediaType || ''};
    default: return {mark: '·', name: block.raw?.type || block.type, text: JSON.stringify(block.raw ?? block)};
  }
};

// Rows in the order of time, as turns: a request by the person, and the work under it until the next one.
export const turns = rows => {
  const all = rows.map(facts).sort((a, b) => a.at - b.at || a.id - b.id);
  const results = new Map();
  for (const f of all) for (const result of f.results) results.set(result.use, result);
  const bySession = new Map(), byRow = new Map(), depths = new Map(), out = [];
  let last;
  const begin = (f, ask) => {
    // What came before the first call of a turn belongs to it.
    const early = out.at(-1);
    if (f.kind === 'call' && early?.rows.every(r => r.f.kind !== 'call')) return Object.assign(early, {ask, member: f.member, session: f.session});
    const turn = {key: `t${f.id}`, at: f.at, ask, member: f.member, session: f.session, rows: []};
    out.push(turn);
    return turn;
  };
  for (const f of all) {
    if (f.kind !== 'call') {
      last ??= begin(f, '');
      last.rows.push({f, depth: 0});
      continue;
    }
    const thread = f.session && `${f.member} ${f.session}`;
    let turn = thread ? bySession.get(thread) : byRow.get(f.brief.continues);
    const goesOn = f.brief.continues != null;
    // A call beside the conversation, as for a title: it offers no tools and repeats nothing.
    const aside = thread && !f.agent && !goesOn && !f.brief.tools;
    if (!turn) turn = begin(f, f.agent || aside ? '' : f.ask);
    else if (f.ask && !f.agent && !aside) {
      // Nothing but asides so far: this is the request they were made for. The same words again are a retry.
      if (!turn.ask) turn.ask = f.ask;
      else if (turn.ask !== f.ask || goesOn && f.brief.earlier >= f.brief.of) turn = begin(f, f.ask);
    }
    if (thread) bySession.set(thread, turn);
    byRow.set(f.id, turn);
    if (f.agent) depths.set(f.agent, 1 + (depths.get(f.parent) || 0));
    const depth = f.agent ? depths.get(f.agent) : 0;
    const gap = goesOn && f.brief.earlier < f.brief.of ? `history differs from message ${f.brief.earlier + 1} on`
      : !goesOn && turn.rows.some(r => r.f.kind === 'call' && r.depth === depth && !r.aside) && !aside && !f.agent ? 'does not continue an earlier call' : '';
    turn.rows.push({f, depth, gap, aside});
    last = turn;
  }
  return out.map(turn => ({...turn, results, sum: totals(turn.rows.map(r => r.f))}));
};

// Turns as the rows of one rail, each of the same height.
export const rail = (list, folded) => {
  const items = [];
  for (const turn of list) {
    items.push({key: turn.key, kind: 'turn', turn, f: turn.rows[0].f, folded: folded.has(turn.key)});
    if (folded.has(turn.key)) continue;
    for (const {f, depth, gap, aside} of turn.rows) {
      if (gap) items.push({key: `g${f.id}`, kind: 'gap', text: gap, f, depth});
      if (f.kind !== 'call') {
        items.push({key: `r${f.id}`, kind: f.kind, f, depth, first: true, mark: f.kind === 'note' || f.failed ? '!' : '·', name: f.name, text: f.text,
          result: f.kind === 'http' && (f.tunnel ? f.tunnel.reason : f.status ?? 'no answer')});
        continue;
      }
      const said = f.told && !f.ask ? {mark: '·', name: 'Told', text: f.told, tag: 'harness'}
        : f.agent && f.ask && {mark: '↳', name: 'Agent', text: f.ask};
      (said ? [said, ...f.steps] : f.steps).forEach(({mark, name, text, tag, use}, i) => {
        const result = use && turn.results.get(use);
        items.push({key: i ? `r${f.id}.${i}` : `r${f.id}`, kind: 'step', f, depth, first: !i, mark: result ? result.error ? '✗' : '✓' : mark, name, text, use,
          tag: tag || (i ? '' : f.cut ? 'cut' : aside ? 'aside' : ''), result: result?.text});
      });
    }
  }
  return items;
};

// Field by field, which is much quicker than by name.
const add = (sum, use) => { sum.fresh += use.fresh; sum.read += use.read; sum.write += use.write; sum.out += use.out; };

export const totals = list => {
  const sum = {calls: 0, fresh: 0, read: 0, write: 0, in: 0, out: 0, errors: 0, cost: null, unpriced: 0, tunnels: 0, dropped: 0, from: Infinity, to: 0};
  for (const f of list) {
    if (f.kind === 'call') sum.calls++;
    if (f.failed && f.kind === 'call') sum.errors++;
    if (f.use) {
      add(sum, f.use);
      sum.in += f.use.in;
    }
    if (f.cost != null) sum.cost = (sum.cost || 0) + f.cost;
    else if (f.use) sum.unpriced++;
    if (f.tunnel) sum.tunnels++;
    if (f.note && f.name === 'dropped') sum.dropped += f.note.count || 0;
    sum.from = Math.min(sum.from, f.at);
    sum.to = Math.max(sum.to, f.end);
  }
  return sum;
};

// What can be filtered by, with how often it occurs.
export const facets = list => {
  const out = {model: new Map(), tool: new Map(), session: new Map()};
  const tally = (map, name) => name && map.set(name, (map.get(name) || 0) + 1);
  for (const f of list) {
    tally(out.model, f.model);
    tally(out.session, f.session);
    new Set(f.tools).forEach(tool => tally(out.tool, tool));
  }
  for (const name in out) out[name] = [...out[name]].sort((a, b) => b[1] - a[1]);
  return out;
};

// What left the machine, by host.
export const hosts = list => {
  const out = new Map();
  for (const f of list) {
    if (!f.host || f.note) continue;
    let h = out.get(f.host);
    if (!h) out.set(f.host, h = {host: f.host, calls: 0, up: 0, down: 0, counted: false, how: new Set(), first: f.at, last: f.end});
    const sizes = f.tunnel || f.row.event.entry.socket;
    h.calls++;
    if (sizes) { h.counted = true; h.up += sizes.bytesUp || 0; h.down += sizes.bytesDown || 0; }
    h.how.add(f.tunnel ? `tunnelled: ${f.tunnel.reason}${f.tunnel.alert ? ` (${f.tunnel.alert})` : ''}` : 'decrypted');
    h.first = Math.min(h.first, f.at);
    h.last = Math.max(h.last, f.end);
  }
  return [...out.values()].sort((a, b) => b.last - a.last);
};

// Calls in equal slices of time, for the chart.
export const bins = (list, most) => {
  const calls = list.filter(f => f.kind === 'call');
  const {from, to} = totals(calls);
  if (!calls.length) return {from: 0, to: 1, slices: []};
  const width = Math.max(1, (to - from) / most), slices = [];
  for (const f of calls) {
    const i = Math.min(most - 1, Math.floor((f.at - from) / width));
    const s = slices[i] ||= {i, fresh: 0, read: 0, write: 0, out: 0, ttft: null, errors: 0, calls: 0};
    s.calls++;
    if (f.failed) s.errors++;
    if (f.use) add(s, f.use);
    if (f.ttft != null) s.ttft = Math.max(s.ttft ?? 0, f.ttft);
  }
  return {from, to: from + width * most, slices: slices.filter(Boolean)};
};
