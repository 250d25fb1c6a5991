// Where rows come from. Both sources have rows(query), row(id, member) and stream(member, ...); nothing else knows which it is.

export class Refused extends Error {
  constructor(status, text, body) { super(text); this.status = status; this.body = body; }
}

// A call of the broker.
export const api = async (method, path, body) => {
  const response = await fetch(path, {method, credentials: 'same-origin', headers: body === undefined ? {} : {'Content-Type': 'application/json'},
    body: body === undefined ? undefined : JSON.stringify(body)}).catch(() => { throw new Refused(0, 'the broker cannot be reached'); });
  const text = await response.text();
  let value = null;
  try { value = text ? JSON.parse(text) : null; } catch { /* no JSON: the status says enough */ }
  if (!response.ok) throw new Refused(response.status, value?.error || `the broker answered ${response.status}`, value);
  return value;
};

const pathOf = member => `/members/${encodeURIComponent(member)}/activity`;

export const httpSource = () => ({
  async rows({member, objective, ...rest}) {
    const query = new URLSearchParams({typed: 'all', view: 'brief'});
    for (const [name, value] of Object.entries(rest)) for (const one of [value].flat()) if (one != null && one !== '') query.append(name, one);
    const {activity, next} = await api('GET', `${objective ? `/objectives/${encodeURIComponent(objective)}/activity` : pathOf(member)}?${query}`);
    return {rows: activity, next};
  },
  // What all calls that fit add up to.
  async sums({member, ...rest}) {
    const query = new URLSearchParams(Object.entries({...rest, ...!rest.objective && member !== '*' && {member}}).filter(([, value]) => value));
    const {total} = await api('GET', `/usage?${query}`);
    return {calls: total.calls, errors: total.errors, in: total.inputTokens, read: total.cacheReadInputTokens, out: total.outputTokens, cost: total.cost, unpriced: total.unpricedCalls};
  },
  row: (id, member) => api('GET', `${pathOf(member)}/${id}?typed=all`),
  // Gives a function that ends it. `state` hears live, waiting or ended.
  stream(member, each, state) {
    const events = new EventSource(`${pathOf(member)}/stream?typed=all&view=brief`);
    events.onopen = () => state('live');
    events.onmessage = event => each(JSON.parse(event.data));
    events.onerror = () => state(events.readyState === EventSource.CLOSED ? 'ended' : 'waiting');
    return () => events.close();
  },
});

// Of a page that carries its data: texts and steps of lists stand in it once. See src/cli/export/pack.rs.
export const fileSource = data => {
  const text = s => s[0] !== '@' ? s : s[1] === '@' ? s.slice(1) : data.strings[s.slice(1)];
  // In place, and once: steps are shared.
  const unpack = v => {
    if (typeof v === 'string') return text(v);
    if (v && typeof v === 'object') for (const name in v) v[name] = unpack(v[name]);
    return v;
  };
  unpack(data.items);
  // The last items of a list, all of them unless told how many.
  const list = (head, most = Infinity) => {
    const items = [];
    for (let at = head; at && items.length < most; at = data.parents[at]) items.push(data.items[at]);
    return items.reverse();
  };
  const open = (row, whole) => {
    const {event} = row, {entry} = event, request = entry?.request;
    if (!request) return row;
    const {brief} = event, messages = list(request.messages, whole ? Infinity : brief.messages - brief.earlier);
    const tools = request.tools == null ? null : whole ? list(request.tools) : [], system = request.system == null ? null : whole ? list(request.system).join('\n') : '';
    return {...row, event: {...event, entry: {...entry, request: {...request, messages, tools, system}}}};
  };
  const rows = unpack(data.rows).map(row => open(row, false));
  const whole = id => open(data.rows.find(row => row.id === id), true);
  const glob = pattern => new RegExp(`^${pattern.replace(/[.+^${}()|\\]/g, '\\$&').replace(/\*/g, '.*').replace(/\?/g, '.')}$`);
  const fits = (row, q) => {
    const {event} = row, entry = event.entry || {}, status = entry.response?.status ?? entry.status;
    const bad = entry.error || status >= 400 || (entry.request && !entry.response);
    return (!q.kind?.length || [q.kind].flat().includes(event.kind)) && (!q.from || event.ts >= q.from) && (!q.to || event.ts <= q.to)
      && (!q.model || glob(q.model).test(entry.request?.model || '')) && (!q.session || entry.session?.id?.startsWith(q.session))
      && (!q.tool || (entry.response?.messages || []).some(m => m.content.some(b => b.name === q.tool)))
      && (q.status !== 'error' || bad) && (!q.q || JSON.stringify(whole(row.id).event).toLowerCase().includes(JSON.stringify(q.q).slice(1, -1).toLowerCase()));
  };
  return {
    still: true,
    rows: async query => ({rows: rows.filter(row => fits(row, query)).sort((a, b) => b.event.ts - a.event.ts || b.id - a.id), next: null}),
    row: async id => whole(id),
    stream: () => () => {},
  };
};
