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

// Of a page that carries its data: texts and steps of lists stand in it once. See pack.rs.
export const fileSource = ({strings, parents, items, rows}) => {
  // In place, and once: steps are shared.
  const unpack = v => {
    for (const name in v) {
      const part = v[name];
      if (typeof part !== 'string') unpack(part);
      else if (part[0] === '@') v[name] = part[1] === '@' ? part.slice(1) : strings[part.slice(1)];
    }
  };
  // The items of a list behind its beginning, the last ones if told how many.
  const list = (head, begin = 0, most = Infinity) => {
    const found = [];
    for (let at = head; at && at !== begin && found.length < most; at = parents[at]) found.push(items[at]);
    return found.reverse();
  };
  unpack(items);
  // Rows keep the messages that are new in them; all else is put together when one is opened.
  const all = new Map();
  for (const row of rows) {
    const {brief, entry} = row.event, {request, response} = entry || {}, {system, tools, messages} = request || {};
    all.set(row.id, {row, system, tools, messages});
    if (!request) { unpack(row); continue; }
    request.messages = list(messages, 0, brief.messages - brief.earlier);
    request.tools = request.system = null;
    if (response) response.messages = list(response.messages, messages);
  }
  const whole = id => {
    const {row, system, tools, messages} = all.get(id), {event} = row, {entry} = event;
    if (!entry?.request) return row;
    const request = {...entry.request, messages: list(messages), tools: tools == null ? null : list(tools), system: system == null ? null : list(system).join('\n')};
    return {...row, event: {...event, entry: {...entry, request}}};
  };
  // As the store does: a step that many rows share is searched once.
  const search = text => {
    const wanted = JSON.stringify(text).slice(1, -1).toLowerCase(), occurs = value => JSON.stringify(value).toLowerCase().includes(wanted), steps = [false];
    for (let i = 1; i < items.length; i++) steps.push(steps[parents[i]] || occurs(items[i]));
    return ({id, event}) => occurs(event) || [all.get(id)].some(({system, tools, messages}) => steps[system] || steps[tools] || steps[messages]);
  };
  const glob = pattern => new RegExp(`^${pattern.replace(/[.+^${}()|\\]/g, '\\$&').replace(/\*/g, '.*').replace(/\?/g, '.')}$`);
  const fits = q => {
    const kinds = [q.kind || []].flat(), model = q.model && glob(q.model), found = q.q && search(q.q);
    return row => {
      const {event} = row, entry = event.entry || {}, status = entry.response?.status ?? entry.status;
      const bad = entry.error || status >= 400 || (entry.request && !entry.response);
      return (!kinds.length || kinds.includes(event.kind)) && (!q.from || event.ts >= q.from) && (!q.to || event.ts <= q.to)
        && (!model || model.test(entry.request?.model || '')) && (!q.session || entry.session?.id?.startsWith(q.session))
        && (!q.tool || (entry.response?.messages || []).some(m => m.content.some(b => b.name === q.tool))) && (q.status !== 'error' || bad) && (!found || found(row));
    };
  };
  return {
    still: true,
    rows: async query => ({rows: rows.filter(fits(query)).sort((a, b) => b.event.ts - a.event.ts || b.id - a.id), next: null}),
    row: async id => whole(id),
    stream: () => () => {},
  };
};
