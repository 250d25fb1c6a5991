// A list of any length of which only what is seen exists. All items have the same height.
import {el} from './text.js';

const SPARE = 12;

// `draw(item, index)` gives an element, `label` names the list, `act(item, how)` hears 'move' and 'open'.
export const virtualList = ({label, draw, act, top}) => {
  const space = el('div', {class: 'space', role: 'presentation'});
  const node = el('div', {class: 'list', role: 'listbox', tabindex: 0, 'aria-label': label}, space);
  const drawn = new Map();
  let items = [], places = null, height = 32, chosen = null, busy = false;

  const paint = () => {
    busy = false;
    const first = Math.floor(node.scrollTop / height), last = Math.ceil((node.scrollTop + node.clientHeight) / height), seen = items.slice(first, last);
    // After a jump what is seen comes first, and what is around it a frame later.
    const jump = seen.length && !seen.some(item => drawn.has(item.key)), spare = jump ? 0 : SPARE;
    if (jump) later();
    const from = Math.max(0, first - spare), to = Math.min(items.length, last + spare);
    const wanted = new Set(items.slice(from, to).map(item => item.key));
    for (const [key, element] of drawn) if (!wanted.has(key)) { element.remove(); drawn.delete(key); }
    space.style.paddingTop = `${from * height}px`;
    let next = space.firstChild;
    for (let i = from; i < to; i++) {
      const {key} = items[i];
      let element = drawn.get(key);
      if (!element) {
        element = draw(items[i], i);
        element.id = `item-${key}`;
        element.setAttribute('role', 'option');
        drawn.set(key, element);
      }
      if (element === next) next = next.nextSibling;
      else space.insertBefore(element, next);
      element.setAttribute('aria-posinset', i + 1);
      element.setAttribute('aria-setsize', items.length);
      element.setAttribute('aria-selected', key === chosen);
    }
    // What was drawn before the items were set goes when what is new is there.
    while (next) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
    if (chosen && drawn.has(chosen)) node.setAttribute('aria-activedescendant', `item-${chosen}`);
    else node.removeAttribute('aria-activedescendant');
    if (from === 0 && top) top();
  };
  // Where each item is; made when it is asked for, which a first look at a long list does not.
  const placeOf = key => (places ??= new Map(items.map((item, i) => [item.key, i]))).get(key);
  const later = () => { if (!busy) { busy = true; requestAnimationFrame(paint); } };
  const atEnd = () => node.scrollTop + node.clientHeight >= items.length * height - height;
  const choose = (index, how) => {
    const item = items[Math.max(0, Math.min(items.length - 1, index))];
    if (!item) return;
    chosen = item.key;
    const place = placeOf(chosen) * height;
    if (place < node.scrollTop) node.scrollTop = place;
    else if (place + height > node.scrollTop + node.clientHeight) node.scrollTop = place + height - node.clientHeight;
    later();
    act(item, how);
  };
  node.addEventListener('scroll', later);
  new ResizeObserver(() => {
    const line = parseFloat(getComputedStyle(node).getPropertyValue('--row')) || 32;
    if (line !== height) { height = line; space.style.height = `${items.length * height}px`; }
    later();
  }).observe(node);
  space.addEventListener('click', event => {
    const element = event.target.closest('[role=option]');
    if (element) choose(placeOf(element.id.slice(5)), 'open');
  });

  return {
    node,
    items: () => items,
    atEnd,
    toEnd() { node.scrollTop = items.length * height; later(); },
    // What is being read stays where it is; all that is seen is drawn anew.
    set(next) {
      const seen = items[Math.ceil(node.scrollTop / height)], follows = atEnd() && items.length > 0;
      const before = seen ? placeOf(seen.key) : 0;
      items = next;
      places = null;
      drawn.clear();
      space.style.height = `${items.length * height}px`;
      if (follows) node.scrollTop = items.length * height;
      else if (seen && placeOf(seen.key) != null) node.scrollTop += (placeOf(seen.key) - before) * height;
      later();
    },
    // Move the choice by steps among the items that `which` takes.
    move(step, which = () => true) {
      let i = (chosen == null ? (step > 0 ? -1 : items.length) : placeOf(chosen) ?? -1) + step;
      while (i >= 0 && i < items.length && !which(items[i])) i += step;
      if (i >= 0 && i < items.length) choose(i, 'move');
    },
    chosen: () => items[placeOf(chosen)],
    pick(key, how = 'move') { if (placeOf(key) != null) choose(placeOf(key), how); },
  };
};
