// Words of the interface in the person's language: English is what stands in the sources, others come with the page.

const catalog = JSON.parse(document.getElementById("texts")?.textContent || "{}");

/** The text in the page's language; {name} in it becomes values.name. */
export function t(text, values = {}) {
  const found = catalog[text] ?? text;
  return found.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}
