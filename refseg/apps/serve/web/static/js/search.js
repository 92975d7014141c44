// Search in the server's index: a sentence, and the pictures that hold what it means.

import { get, picture } from "./api.js";
import { announce, find, make, percent, plural } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

export class Search {
  /** `open(blob, name, text)` shows a picture that was found; `changed()` is called when the sentence is another one. */
  constructor(open, changed) {
    Object.assign(this, { open, changed });
    this.text = "";
    this.controller = null;
    find("#search-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.run(find("#search-text").value);
    });
  }

  async run(text) {
    this.text = text.trim();
    find("#search-text").value = text;
    this.changed();
    this.controller?.abort();
    if (!this.text) return;
    const controller = (this.controller = new AbortController());
    const state = find("#search-state");
    state.textContent = "Looking …";
    try {
      const found = await get(`v1/search?${new URLSearchParams({ text: this.text })}`, controller.signal);
      if (controller !== this.controller) return;
      state.textContent = found.nothing
        ? `Nothing found: none of ${plural(found.looked_at, "picture")} holds “${found.text}”.`
        : `${plural(found.hits.length, "picture")} of ${found.looked_at}, the surest first.`;
      announce(state.textContent);
      find("#hits").replaceChildren(...found.hits.map((hit) => this.#hit(hit)));
    } catch (error) {
      if (!controller.signal.aborted) state.textContent = error.message;
    }
  }

  #hit(hit) {
    const name = hit.path.split("/").pop();
    const thumb = make("span", { class: "thumb" });
    const image = make("img", { alt: "" });
    thumb.append(image);
    picture(`${hit.picture}?longest=360`).then(
      ({ url, size }) => {
        image.src = url;
        if (size) thumb.append(boxes(hit.boxes, size));
      },
      () => thumb.append("cannot be read"),
    );
    const open = async () => {
      const { blob } = await picture(hit.picture);
      this.open(blob, name, this.text);
    };
    return make(
      "li",
      {},
      make(
        "button",
        { type: "button", onclick: open, "aria-label": `${name}, ${percent(hit.score)}` },
        thumb,
        percent(hit.score),
        make("span", { class: "path" }, hit.path),
      ),
    );
  }
}

function boxes(found, [width, height]) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [left, top, right, bottom] of found) {
    const box = document.createElementNS(SVG, "rect");
    const places = { x: left, y: top, width: right - left, height: bottom - top };
    for (const [key, value] of Object.entries(places)) box.setAttribute(key, value);
    svg.append(box);
  }
  return svg;
}
