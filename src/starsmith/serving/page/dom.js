// Elements of the page: found by their id, and built without markup.

export const element = (id) => document.getElementById(id);

/** Build an element: text and children go in as text and nodes, never as markup. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function licenseBadge(license) {
  const tone = !license || /\b(A?GPL|SSPL|BUSL)/.test(license) ? "bad" : /\b(LGPL|MPL|EPL|CDDL)/.test(license) ? "warn" : "good";
  return make("span", { class: "badge", "data-tone": tone }, license || "no licence");
}

export const linesOf = ({ first_line: first, last_line: last }) => (first === last ? `${first}` : `${first}–${last}`);
