// Small helpers over the document. Text always goes in as text nodes: nothing here reads markup.

/** Makes an element: attributes by name, `on*` functions as listeners, children as elements or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const find = (selector, inside = document) => inside.querySelector(selector);
export const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

/** Replaces an element's children. */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  );
}

/** Copy of a page's <template> by id: its first element. */
export function stamp(id) {
  return document.getElementById(id).content.firstElementChild.cloneNode(true);
}

let announcement = 0;

/** Says something to a screen reader without moving the focus. */
export function announce(text) {
  const region = find("#live");
  announcement += 1;
  // The same words twice in a row are spoken twice only if the text differs.
  region.textContent = text + (announcement % 2 ? "\u00a0" : "");
}

/** A note at the corner of the page; a problem stays until it is closed. */
export function notify(text, { tone = "plain", seconds = 5, action = null } = {}) {
  const close = () => note.remove();
  const note = make(
    "div",
    { class: `note note-${tone}` },
    make("span", { class: "note-text" }, text),
    action &&
      make("button", { type: "button", class: "button small", onclick: () => (close(), action.run()) }, action.label),
    make("button", { type: "button", class: "note-close", "aria-label": "Close this note", onclick: close }, "×"),
  );
  const notes = find("#notes");
  notes.append(note);
  while (notes.children.length > 4) notes.firstElementChild.remove();
  if (tone !== "bad") setTimeout(close, seconds * 1000);
  return note;
}

/** Opens a <dialog> and resolves to the value of the button that closed it ("" for Escape). */
export function ask(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
    dialog.showModal();
  });
}

/** Runs a function once calls have paused. */
export function debounce(run, milliseconds) {
  let timer = null;
  const later = (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), milliseconds);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export const when = (iso) => (iso ? day.format(new Date(iso)) : "–");
export const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`);
export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** A time as <time> with the words "3 min ago". */
export function ago(iso) {
  if (!iso) return make("span", {}, "–");
  const seconds = Math.max(0, (Date.now() - new Date(iso)) / 1000);
  const [count, unit] =
    seconds < 90
      ? [seconds, "s"]
      : seconds < 5400
        ? [seconds / 60, "min"]
        : seconds < 129600
          ? [seconds / 3600, "h"]
          : [seconds / 86400, "d"];
  return make("time", { datetime: iso, title: when(iso) }, `${Math.round(count)} ${unit} ago`);
}
