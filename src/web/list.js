// A list of any length of which only what is seen exists. All items have the same height.
import {el} from './text.js';

const SPARE = 12;

// `draw(item, index)` gives an element, `label` names the list, `act(item, how)` hears 'move' and 'open'.
export const virtualList = ({label, draw, act, top}) => {
  const space = el('div', {class: 'space', role: 'presentation'});
  const node = el('div', {class: 'list', role: 'listbox', tabindex: 0, 'aria-label': label}, space);
  const drawn = new Map();
  let items = [], places = new Map(), height = 32, chosen = null, busy = false;

  const paint = () => {
    busy = false;
    const from = Math.max(0, Math.floor(node.scrollTop / height) - SPARE);
    const to = Math.min(items.length, Math.ceil((node.scrollTop + node.clientHeight) / height) + SPARE);
    const wanted = new Set(items.slice(from, to).map(item => item.key));
    for (const [key, element] of drawn) if (!wanted.has(key)) { element.remove(); drawn.delete(key); }
    for (let i = from; i < to; i++) {
      const {key} = items[i];
      let element = drawn.get(key);
      if (!element) {
        element = draw(items[i], i);
        element.id = `item-${key}`;
        element.setAttribute('role', 'option');
        drawn.set(key, element);
        space.append(element);
      }
      element.style.transform = `translateY(${i * height}px)`;
      element.setAttribute('aria-posinset', i + 1);
      element.setAttribute('aria-setsize', items.length);
      element.setAttribute('aria-selected', key === chosen);
    }
    if (chosen && drawn.has(chosen)) node.setAttribute('aria-activedescendant', `item-${chosen}`);
    else node.removeAttribute('aria-activedescendant');
    if (from === 0 && top) top();
  };
  const later = () => { if (!busy) { busy = true; requestAnimationFrame(paint); } };
  const atEnd = () => node.scrollTop + node.clientHeight >= items.length * height - height;
  const choose = (index, how) => {
    const item = items[Math.max(0, Math.min(items.length - 1, index))];
    if (!item) return;
    chosen = item.key;
    const place = places.get(chosen) * height;
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
    if (element) choose(places.get(element.id.slice(5)), 'open');
  });

  return {
    node,
    items: () => items,
    atEnd,
    toEnd() { node.scrollTop = items.length * height; later(); },
    // What is being read stays where it is; `fresh` items are drawn anew.
    set(next, fresh) {
      const seen = items[Math.ceil(node.scrollTop / height)], follows = atEnd() && items.length > 0;
      const before = seen ? places.get(seen.key) : 0;
      items = next;
      places = new Map(items.map((item, i) => [item.key, i]));
      for (const [key, element] of drawn) if (!fresh || fresh.has(key)) { element.remove(); drawn.delete(key); }
      space.style.height = `${items.length * height}px`;
      if (follows) node.scrollTop = items.length * height;
      else if (seen && places.has(seen.key)) node.scrollTop += (places.get(seen.key) - before) * height;
      later();
    },
    // Move the choice by steps among the items that `which` takes.
    move(step, which = () => true) {
      let i = (chosen == null ? (step > 0 ? -1 : items.length) : places.get(chosen) ?? -1) + step;
      while (i >= 0 && i < items.length && !which(items[i])) i += step;
      if (i >= 0 && i < items.length) choose(i, 'move');
    },
    chosen: () => items[places.get(chosen)],
    pick(key, how = 'move') { if (places.has(key)) choose(places.get(key), how); },
  };
};
