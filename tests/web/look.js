// What the tests ask of a page. It stands before each of their scripts.
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const shown = node => node.checkVisibility({visibilityProperty: true}) && node.getClientRects().length > 0;
const text = selector => document.querySelector(selector)?.textContent ?? '';
const rows = () => all('.space > .row').sort((a, b) => a.ariaPosInSet - b.ariaPosInSet);
const chosen = () => document.querySelector('.space > [aria-selected=true]');
const press = name => all('button, a, summary').find(node => shown(node) && (node.textContent.trim() === name || node.ariaLabel === name)).click();
const fill = (name, value) => { const node = all(`[name=${name}]`).find(shown); node.value = value; node.dispatchEvent(new Event('change', {bubbles: true})); };

const nameless = () => all('button, a, input, select, textarea, summary, [role=listbox], [role=img], dialog').filter(shown).filter(node =>
  !(node.ariaLabel || node.textContent.trim() && !/^(SELECT|DIALOG)$/.test(node.tagName) || [...node.labels || []].some(label => label.textContent.trim()))).map(node => node.outerHTML.slice(0, 200));

const channels = color => (color.match(/[\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = node => {
  for (let at = node; at; at = at.parentElement) {
    const color = channels(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
// Texts whose contrast is under 4.5.
const faint = () => all('body *').filter(node => !node.closest('svg') && [...node.childNodes].some(kid => kid.nodeType === 3 && kid.data.trim()) && shown(node)).map(node => {
  const [a, b] = [light(channels(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
  return [(a + 0.05) / (b + 0.05), node];
}).filter(([ratio]) => ratio < 4.5).map(([ratio, node]) => `${ratio.toFixed(2)} ${node.outerHTML.slice(0, 150)}`);
const tooWide = () => all('dialog[open]').some(dialog => dialog.scrollWidth > dialog.clientWidth) ? ['a dialog'] : document.documentElement.scrollWidth > innerWidth ? all('body *').filter(node => shown(node) && node.getBoundingClientRect().right > innerWidth + 1).map(node => node.outerHTML.slice(0, 120)) : [];
