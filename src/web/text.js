// Text that came from a trace, made harmless: nodes are built of text and attributes alone, and characters that a reader
// would not see, or that would reorder what he sees, are shown as escapes.

// C0 but tab and newline, DEL, C1, directions, invisible joiners and fillers, tags.
const HIDDEN = /(\r(?!\n)|[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u115f\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}])/u;

// Most texts have none of them, which is quick to see.
const PLAIN = /^[\t\n -~]*$/;

// Text in pieces; every second one is a hidden character.
export const pieces = text => PLAIN.test(text) ? [String(text)] : String(text).split(HIDDEN);

export const escaped = char => '\\u{' + char.codePointAt(0).toString(16) + '}';

// The same as one line of plain text, cut to a length.
export const line = (text, most = 240) => {
  const flat = pieces(String(text).slice(0, most * 4)).map((part, i) => i % 2 ? escaped(part) : part).join('');
  const short = flat.replace(/\s{2,}|[^\S ]/g, ' ').trim();
  return short.length > most ? short.slice(0, most) + '…' : short;
};

// An element. Properties are attributes, except `on`: listeners by event. Children are nodes or text.
export const el = (tag, props, ...kids) => build(document.createElement(tag), props, kids);
export const svg = (tag, props, ...kids) =>
  build(document.createElementNS('http://www.w3.org/2000/svg', tag), props, kids);

const there = kids => kids.flat(9).filter(kid => kid != null && kid !== false);
const build = (node, props, kids) => {
  for (const [name, value] of Object.entries(props || {})) {
    if (name === 'on') for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...there(kids));
  return node;
};

// Text from a trace, as nodes.
export const show = text => pieces(text).map((part, i) =>
  i % 2 ? el('span', {class: 'esc', title: 'a character that cannot be seen'}, escaped(part)) : part);

export const button = (text, run, props) => el('button', {type: 'button', ...props, on: {click: run}}, text);

export const copyButton = text => button('Copy', async event => {
  await navigator.clipboard.writeText(typeof text === 'function' ? text() : text);
  event.target.textContent = 'Copied';
}, {class: 'quiet'});

// Long text: what fits, the rest on demand, in parts of whole lines that are laid out when they come into sight.
const MOST = 4096, PART = 16384;
export const wire = (text, most = MOST) => {
  const node = el('pre', {class: 'wire'}, show(text.slice(0, most)));
  if (text.length <= most) return node;
  const more = button(`Show all (${bytes(text.length)})`, () => {
    node.replaceChildren();
    for (let at = 0, end; at < text.length; at = end) {
      end = text.indexOf('\n', at + PART) + 1 || text.length;
      node.append(el('span', {class: 'part'}, show(text.slice(at, end))));
    }
    more.remove();
  }, {class: 'quiet'});
  return [node, more];
};

// A fold whose content is made when it is opened.
export const fold = (head, body, open) => {
  const node = el('details', {open}, el('summary', null, head));
  let made = false;
  const make = () => {
    if (made || !node.open) return;
    made = true;
    node.append(...there([body()]));
  };
  node.addEventListener('toggle', make);
  make();
  return node;
};

// Says something to those who cannot see it come.
export const announce = text => {
  const region = document.getElementById('said');
  if (region) region.textContent = text;
};

export const count = n => n == null ? '–' : String(n).replace(/\B(?=(\d{3})+$)/g, '\u2009');
export const many = (n, what) => `${count(n)} ${what}${n === 1 ? '' : 's'}`;
export const short = n => n == null ? '–' : n < 1e4 ? count(n) : n < 1e6 ? `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)}k` : `${(n / 1e6).toFixed(1)}M`;
export const bytes = n => n < 1024 ? `${n} B` : n < 1 << 20 ? `${(n / 1024).toFixed(n < 10240 ? 1 : 0)} KiB` : `${(n / (1 << 20)).toFixed(1)} MiB`;
export const span = ms => ms == null ? '–' : ms < 1000 ? `${ms} ms` : ms < 6e4 ? `${(ms / 1000).toFixed(1)} s` : ms < 36e5 ? `${Math.floor(ms / 6e4)} m ${Math.round(ms % 6e4 / 1000)} s` : `${Math.floor(ms / 36e5)} h ${Math.round(ms % 36e5 / 6e4)} m`;
export const percent = (part, whole) => whole ? `${Math.round(100 * part / whole)}\u2009%` : '–';
export const money = usd => usd == null ? '–' : `$${usd.toFixed(usd < 0.01 ? 4 : usd < 1 ? 3 : 2)}`;
const two = n => String(n).padStart(2, '0');
export const clock = ms => { const d = new Date(ms); return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`; };
export const day = ms => { const d = new Date(ms); return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`; };
export const when = ms => ms == null ? 'never' : day(ms) === day(Date.now()) ? clock(ms) : `${day(ms)} ${clock(ms).slice(0, 5)}`;

// A form in a dialog; it stays open while `run` refuses. Without `run` it only shows something.
export const ask = (title, fields, verb, run, note) => {
  const problem = el('p', {class: 'bad', role: 'alert'});
  const field = ({name, label, value, options, long, check, required, max}) => el('label', {class: check && 'check'}, !check && label,
    options ? el('select', {name}, options.map(o => el('option', {selected: o === value}, o)))
      : long ? el('textarea', {name, rows: 3, required}, value || '') : el('input', {name, value: check ? null : value, required, maxlength: max, type: check ? 'checkbox' : 'text', checked: check && value}), check && label);
  const form = el('form', {class: 'card'}, el('h2', null, title), note && el(typeof note === 'string' ? 'p' : 'div', null, note), fields.map(field),
    el('div', {class: 'tools'}, run && el('button', {class: 'main'}, verb), button(run ? 'Cancel' : 'Close', () => dialog.close())), problem);
  const dialog = el('dialog', {'aria-label': title, on: {close: () => dialog.remove()}}, form);
  form.addEventListener('submit', async event => {
    event.preventDefault();
    try {
      await run(Object.fromEntries(new FormData(form)));
      dialog.close();
    } catch (error) { problem.textContent = line(error.message); }
  });
  document.body.append(dialog);
  dialog.showModal();
};
