// One row in full.
import {argument, byHarness, resultText, trouble, usage} from './model.js';
import {bytes, clock, copyButton, count, day, el, fold, line, money, percent, show, span, wire} from './text.js';

const size = text => bytes(new Blob([text]).size);
const pretty = value => JSON.stringify(value, null, 2);

// A bar whose parts have the widths of their numbers.
const bar = (label, parts) => {
  const sum = parts.reduce((n, [, value]) => n + value, 0), shown = parts.filter(([, value]) => value);
  if (!sum) return null;
  return el('div', {class: 'measure'}, el('div', {class: 'bar', role: 'img', 'aria-label': `${label}: ${shown.map(([name, , text]) => `${name} ${text}`).join(', ')}`},
    shown.map(([, value, , kind]) => {
      const part = el('i', {class: kind});
      part.style.width = `${100 * value / sum}%`;
      return part;
    })), el('p', {class: 'legend'}, shown.map(([name, , text, kind]) => el('span', {class: kind}, `${name} ${text}`))));
};

const listed = pairs => el('dl', null, pairs.filter(([, value]) => value != null && value !== '' && value !== false)
  .map(([name, value]) => [el('dt', null, name), el('dd', null, typeof value === 'object' ? value : show(String(value)))]));

// The blocks of messages. A tool's result stands under its call, wherever it came.
const converse = (messages, all, later) => {
  const results = new Map(), uses = new Map(), shown = new Set();
  for (const {content} of all) for (const b of content) {
    if (b.type === 'tool_result') results.set(b.toolUseId, b);
    if (b.type === 'tool_use') uses.set(b.id, b);
  }
  const result = b => {
    const text = resultText(b.content);
    return el('div', {class: b.isError ? 'result bad' : 'result'}, el('p', {class: 'role'}, b.isError ? '✗ error' : '✓ result', ` ${size(text)}`), text && wire(text));
  };
  const use = b => [el('p', {class: 'tool'}, el('b', null, show(b.name)), ' ', el('span', {class: 'mono'}, line(argument(b.input)))),
    Object.keys(b.input || {}).length > 1 || String(argument(b.input)).length > 200 ? fold('Arguments', () => wire(pretty(b.input))) : null];
  const block = b => {
    switch (b.type) {
      case 'text': return byHarness(b.text) ? fold([el('span', {class: 'tag'}, 'harness'), ' ', line(b.text, 100)], () => wire(b.text)) : wire(b.text);
      case 'thinking': return fold(['∴ Thinking ', el('span', {class: 'dim'}, line(b.text, 100))], () => wire(b.text));
      case 'tool_use': {
        const done = results.get(b.id);
        if (done) shown.add(b.id);
        return [use(b), done ? result(done) : later?.has(b.id) ? el('p', {class: 'dim'}, `${later.get(b.id).error ? '✗' : '✓'} `, line(later.get(b.id).text, 120), ' (whole in the next call)') : null];
      }
      case 'tool_result':
        if (shown.has(b.toolUseId)) return null;
        return [uses.has(b.toolUseId) && use(uses.get(b.toolUseId)), result(b)];
      case 'image': return el('p', {class: 'dim'}, `▣ image ${line(b.mediaType || '')}, not recorded`);
      default: return wire(pretty(b.raw ?? b));
    }
  };
  return messages.map(m => {
    const kids = m.content.map(block).flat(9).filter(Boolean);
    return kids.length ? el('div', {class: `message ${m.role === 'assistant' ? 'agent' : ''}`}, el('p', {class: 'role'}, line(m.role, 20)), kids) : null;
  });
};

const call = (row, f) => {
  const {entry} = row.event, {request, response} = entry, use = usage(entry), why = trouble(entry), ms = row.event.duration;
  const ttft = entry.firstTokenAt == null ? null : Math.max(0, entry.firstTokenAt - entry.startedAt);
  const {earlier, messages} = row.event.brief || f.brief, all = request.messages;
  const model = entry.servedModel && entry.servedModel !== request.model ? `${request.model} → ${entry.servedModel}` : request.model;
  const later = new Map(f.later || []);
  return [
    el('p', {class: why ? 'verdict bad' : 'verdict'}, why ? `✗ ${line(why)}` : `✓ ${response.status ?? ''} ${line(response.stopReason || 'no stop reason')}`, ' · ', show(model || '?')),
    entry.truncated && el('p', {class: 'warn'}, '⚠ Parts of this exchange are missing here.'),
    bar('Time', ttft == null ? [['in all', ms, span(ms), 'read']] : [['to first token', ttft, span(ttft), 'fresh'], ['streaming', ms - ttft, span(ms - ttft), 'out']]),
    use && bar('Tokens', [['fresh', use.fresh, count(use.fresh), 'fresh'], ['cache read', use.read, `${count(use.read)} (${percent(use.read, use.in)})`, 'read'],
      ['cache write', use.write, count(use.write), 'write'], ['output', use.out, count(use.out), 'out']]),
    listed([['When', `${day(entry.startedAt)} ${clock(entry.startedAt)}`], ['Member', row.memberName], ['Cost', f.cost == null ? '–' : `≈ ${money(f.cost)}`],
      ['Reasoning', use?.reasoning && `${count(use.reasoning)} tokens`], ['Speed', f.rate && `${f.rate} tokens/s`],
      ['Request', entry.requestId && el('span', null, show(entry.requestId), ' ', copyButton(entry.requestId))], ['Answer id', entry.id],
      ['Session', entry.session?.id], ['Agent', entry.session?.agentId && [entry.session.agentId, entry.session.parentAgentId].filter(Boolean).join(' of ')],
      ['Host', entry.host], ['Client', entry.client], ['Kind', [entry.kind, request.maxTokens && `at most ${count(request.maxTokens)} tokens`, request.temperature != null && `temperature ${request.temperature}`].filter(Boolean).join(', ')],
      ['Continues', f.brief.continues && `call ${f.brief.continues}`]]),
    request.system && fold(`System · ${size(request.system)}`, () => [copyButton(request.system), wire(request.system)]),
    request.tools?.length > 0 && fold(`Tools · ${request.tools.length}, ${size(JSON.stringify(request.tools))}`, () => request.tools.map(t =>
      fold([el('b', null, show(t.name)), ` ${size(JSON.stringify(t))}`], () => [t.description && wire(t.description), wire(pretty(t.inputSchema))]))),
    earlier > 0 && fold(`${earlier} earlier messages${use?.read ? `, ${count(use.read)} tokens cached` : ''}`, () => converse(all.slice(0, earlier), all)),
    messages > earlier && fold(`New messages · ${messages - earlier}`, () => converse(all.slice(earlier), all), true),
    response?.messages.length > 0 && fold('Answer', () => converse(response.messages, response.messages, later), true),
  ];
};

const headers = map => Object.entries(map || {}).map(([name, value]) => el('p', {class: 'mono'}, el('b', null, show(name)), ': ', show(value)));

const other = (row, f) => {
  const {entry} = row.event;
  if (!entry) return [el('p', {class: 'verdict'}, `${f.name} `, show(f.text))];
  const {tunnel, note, socket} = entry, sizes = tunnel || socket;
  return [
    el('p', {class: f.failed ? 'verdict bad' : 'verdict'}, note ? '⚠ ' : f.failed ? '✗ ' : '✓ ', show(note ? `${f.name}: ${f.text}` : tunnel ? `tunnelled, not decrypted: ${tunnel.reason}` : `${entry.status ?? 'no answer'}`)),
    listed([['When', `${day(entry.startedAt)} ${clock(entry.startedAt)}`], ['Took', span(f.ms)], ['Address', el('span', {class: 'mono'}, show(`${entry.method} ${entry.url}`))], ['Host', entry.host],
      ['Alert', tunnel?.alert], ['Up', sizes && bytes(sizes.bytesUp || 0)], ['Down', sizes && bytes(sizes.bytesDown || 0)], ['Client', entry.client], ['Session', entry.session?.id]]),
    entry.requestHeaders && Object.keys(entry.requestHeaders).length > 0 && fold('Request headers', () => headers(entry.requestHeaders)),
    entry.requestBodyPreview && fold('Request, its beginning', () => wire(entry.requestBodyPreview), true),
    entry.responseHeaders && Object.keys(entry.responseHeaders).length > 0 && fold('Response headers', () => headers(entry.responseHeaders)),
    entry.responseBodyPreview && fold('Response, its beginning', () => wire(entry.responseBodyPreview), true),
  ];
};

export const exchange = (row, f) => el('div', {class: 'exchange'}, f.kind === 'call' ? call(row, f) : other(row, f),
  fold('Raw JSON', () => { const text = pretty(row.event.entry ?? row.event); return [copyButton(text), wire(text)]; }));
