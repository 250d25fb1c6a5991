// Tokens and latency over time. Brushing gives a span of time.
import {bins} from './model.js';
import {clock, el, many, short, span, svg} from './text.js';

const HIGH = 88;

export const chart = (list, brushed) => {
  const wide = 960, most = 96, {from, to, slices} = bins(list, most), step = wide / most;
  const tallest = Math.max(1, ...slices.map(s => s.fresh + s.read + s.write + s.out));
  const slowest = Math.max(1, ...slices.map(s => s.ttft || 0));
  // A path for each kind and not a node for each bar: the chart is drawn anew with every row that comes.
  const paths = {read: '', write: '', fresh: '', out: '', ttft: '', bad: ''};
  const columns = slices.map(s => {
    const x = s.i * step, middle = x + step / 2;
    let y = HIGH - 8;
    for (const kind of ['read', 'write', 'fresh', 'out']) {
      const h = s[kind] ? Math.max(1, s[kind] / tallest * (HIGH - 20)) : 0;
      if (h) paths[kind] += `M${x + 1} ${y}v${-h}h${step - 2}v${h}z`;
      y -= h;
    }
    if (s.ttft != null) paths.ttft += `M${middle - 2.5} ${HIGH - 14 - s.ttft / slowest * (HIGH - 24)}a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0 -5 0z`;
    if (s.errors) paths.bad += `M${middle - 4} ${HIGH}h8l-4 -7z`;
    return svg('rect', {class: 'column', x, y: 0, width: step, height: HIGH}, svg('title', null, `${clock(from + (to - from) * s.i / most)}: ${many(s.calls, 'call')}, ${short(s.fresh)} fresh, ${short(s.read)} cached, ${short(s.write)} cache write, ${short(s.out)} out, first token ${span(s.ttft)}, ${s.errors} errors`));
  });
  const brush = svg('rect', {class: 'brush', y: 0, height: HIGH, width: 0});
  const node = svg('svg', {viewBox: `0 0 ${wide} ${HIGH}`, preserveAspectRatio: 'none', class: 'chart', role: 'img',
    'aria-label': `Tokens and time to first token of ${slices.reduce((n, s) => n + s.calls, 0)} calls, ${clock(from)} to ${clock(to)}; at most ${short(tallest)} tokens a bar, slowest first token ${span(slowest)}`},
  Object.entries(paths).map(([kind, d]) => svg('path', {class: kind, d})), columns, brush);
  let start = null;
  const at = event => {
    const box = node.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  node.addEventListener('pointerdown', event => { start = at(event); node.setPointerCapture(event.pointerId); });
  node.addEventListener('pointermove', event => {
    if (start == null) return;
    const [a, b] = [start, at(event)].sort((x, y) => x - y);
    brush.setAttribute('x', a * wide);
    brush.setAttribute('width', (b - a) * wide);
  });
  node.addEventListener('pointerup', event => {
    const [a, b] = [start, at(event)].sort((x, y) => x - y);
    start = null;
    brush.setAttribute('width', 0);
    if (b - a > 0.01) brushed(Math.floor(from + (to - from) * a), Math.ceil(from + (to - from) * b));
  });
  return el('div', {class: 'graph'}, node, el('p', {class: 'legend', 'aria-hidden': 'true'}, el('span', {class: 'none'}, `${clock(from)}–${clock(to)}`), [['read', 'cached'], ['write', 'cache write'], ['fresh', 'fresh'], ['out', 'out']].map(([kind, name]) => el('span', {class: kind}, name)),
    el('span', {class: 'none'}, `○ first token, up to ${span(slowest)}`), slices.some(s => s.errors) && el('span', {class: 'none bad'}, '▲ failed')));
};
