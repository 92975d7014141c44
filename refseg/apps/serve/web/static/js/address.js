// What a link holds: sentences and settings, in the part of the address that browsers send nowhere. Not the picture.

/** { texts, model, threshold, noTarget, example, view } of the address. */
export function read() {
  const values = new URLSearchParams(location.hash.slice(1));
  const number = (name) => {
    const value = Number(values.get(name));
    return values.has(name) && value >= 0 && value <= 1 ? value : null;
  };
  return {
    texts: values.getAll("t").filter((text) => text.trim()),
    model: values.get("m"),
    threshold: number("p"),
    noTarget: number("n"),
    example: values.has("x") ? Number(values.get("x")) : null,
    view: values.get("v") === "search" ? "search" : "picture",
    search: values.get("q") ?? "",
  };
}

/** The address of a state. */
export function write({ texts, model, threshold, noTarget, example, view, search }) {
  const values = new URLSearchParams();
  for (const text of texts) if (text.trim()) values.append("t", text.trim());
  if (model) values.set("m", model);
  if (threshold !== null) values.set("p", threshold);
  if (noTarget !== null) values.set("n", noTarget);
  if (example !== null) values.set("x", example);
  if (view === "search") values.set("v", view);
  if (search) values.set("q", search);
  const text = values.toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}
