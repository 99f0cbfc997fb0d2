// h() makes elements, and morph() makes one tree like another, keeping the elements that
// are there: focus, selection, scroll and what is unfolded stay. All text is text.

export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === undefined || value === null) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const link = (href, ...children) => h("a", { href }, ...children);

const keyOf = (node) => node.nodeType === 1 ? node.getAttribute("data-key") : null;

// morph gives parent the children of wanted.
export function morph(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.childNodes) if (keyOf(child) !== null) keyed.set(keyOf(child), child);
  let at = parent.firstChild;
  for (const want of [...wanted.childNodes]) {
    const key = keyOf(want);
    let have = key !== null ? keyed.get(key) : at;
    if (have && (have.nodeName !== want.nodeName || keyOf(have) !== key)) have = undefined;
    if (!have) { parent.insertBefore(want, at); continue; }
    if (have === at) at = at.nextSibling; else parent.insertBefore(have, at);
    become(have, want);
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}

function become(have, want) {
  if (have.nodeType !== 1) {
    if (have.data !== want.data) have.data = want.data;
    return;
  }
  for (const { name } of [...have.attributes]) if (!want.hasAttribute(name) && !own(have, name)) have.removeAttribute(name);
  for (const { name, value } of want.attributes) if (have.getAttribute(name) !== value && !own(have, name)) have.setAttribute(name, value);
  morph(have, want);
}

// own says that an attribute is the user's or the script's, once the element is there.
const own = (element, name) => name === "style" || (element.nodeName === "DETAILS" && name === "open");
