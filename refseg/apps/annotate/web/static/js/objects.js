// The list of objects beside the picture: the same selection as on the stage, for the keyboard and for screen readers.

import { all, fill, make } from "./dom.js";

export class ObjectList {
  /** @param on {toggle(id), focus(id), show(id)} */
  constructor(list, on) {
    this.list = list;
    this.on = on;
    this.shapes = [];
    this.readOnly = false;
    list.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("pointerleave", () => on.focus(null));
    list.addEventListener("focus", () => {
      if (!this.active && this.shapes.length > 0) this.on.focus(this.shapes[0].id);
    });
  }

  open(shapes) {
    this.shapes = shapes;
    this.active = null;
    fill(
      this.list,
      shapes.map((shape) => {
        const swatch = make("span", { class: "swatch", "aria-hidden": "true" }, String(shape.number));
        swatch.style.backgroundColor = shape.look.colour;
        swatch.style.color = shape.look.text;
        const row = make(
          "li",
          {
            role: "option",
            id: `object-${shape.id}`,
            class: "object",
            "data-id": String(shape.id),
            "aria-selected": "false",
          },
          swatch,
          make("span", { class: "object-name" }, shape.name),
          shape.note && make("span", { class: "hint" }, shape.note),
          make("span", { class: "visually-hidden" }, `number ${shape.number}`),
          make("span", { class: "object-mark", "aria-hidden": "true" }, "✓"),
        );
        row.addEventListener("pointerenter", (event) => {
          if (event.pointerType === "mouse") this.on.focus(shape.id, false);
        });
        row.addEventListener("click", () => this.on.toggle(shape.id));
        row.addEventListener("dblclick", () => this.on.show(shape.id));
        return row;
      }),
    );
  }

  select(ids) {
    const chosen = new Set([...ids].map(String));
    for (const row of all("li", this.list)) row.setAttribute("aria-selected", String(chosen.has(row.dataset.id)));
  }

  focus(id, scroll = true) {
    this.active = id;
    for (const row of all("li", this.list)) {
      const here = row.dataset.id === String(id);
      row.classList.toggle("focused", here);
      // Only within the list: the page itself must not jump while the pointer moves over the picture.
      if (here && scroll) this.reveal(row);
    }
    if (id === null) this.list.removeAttribute("aria-activedescendant");
    else this.list.setAttribute("aria-activedescendant", `object-${id}`);
  }

  reveal(row) {
    const box = this.list.getBoundingClientRect();
    const place = row.getBoundingClientRect();
    if (place.top < box.top) this.list.scrollTop -= box.top - place.top;
    else if (place.bottom > box.bottom) this.list.scrollTop += place.bottom - box.bottom;
  }

  /** The object after or before the one in focus, around the ends. */
  next(step) {
    if (this.shapes.length === 0) return null;
    const at = this.shapes.findIndex((shape) => shape.id === this.active);
    const place =
      at < 0 ? (step > 0 ? 0 : this.shapes.length - 1) : (at + step + this.shapes.length) % this.shapes.length;
    return this.shapes[place].id;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = {
      ArrowDown: () => this.next(1),
      ArrowUp: () => this.next(-1),
      Home: () => this.shapes[0]?.id,
      End: () => this.shapes.at(-1)?.id,
    };
    if (event.key in moves) {
      const id = moves[event.key]();
      if (id !== null && id !== undefined) this.on.focus(id);
    } else if ((event.key === " " || event.key === "Enter") && this.active !== null) this.on.toggle(this.active);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
