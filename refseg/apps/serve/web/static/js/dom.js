// Small helpers for elements.

export const find = (selector, root = document) => root.querySelector(selector);

/** make("button", { class: "x", onclick: run, "aria-label": "..." }, "text", node, ...): a new element. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Says something to screen readers. */
export function announce(text) {
  find("#live").textContent = text;
}

/** A message across the page; "" takes it away. */
export function banner(text) {
  const element = find("#banner");
  element.textContent = text;
  element.hidden = !text;
}

/** Runs a function once calls have paused. */
export function debounce(run, milliseconds) {
  let timer = null;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), milliseconds);
  };
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

export const percent = (value) => `${Math.round(value * 100)} %`;

/** Hands a blob to the browser as a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = make("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Puts text on the clipboard, also where the page is not served over HTTPS; resolves to whether it worked. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { class: "visually-hidden", "aria-label": "text to copy" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
