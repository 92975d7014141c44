// The board: picture, list of objects, one selection with undo, and the keys that work on them.

import { announce, fill, find, make, notify, plural } from "./dom.js";
import { History } from "./history.js";
import { dropDigits, onKey, pressDigit } from "./keyboard.js";
import { ObjectList } from "./objects.js";
import { Stage, prepare } from "./stage.js";
import { read, write } from "./store.js";
import { t } from "./texts.js";

const STEP = 60; // screen pixels that an arrow key moves the picture

export class Board {
  /** @param changed called with the new selection (a Set of object ids) after each change by the person */
  constructor(element, changed = () => {}, { readOnly = false } = {}) {
    this.element = element;
    this.changed = changed;
    this.readOnly = readOnly;
    this.history = new History();
    this.shapes = [];
    this.tip = find(".stage-tip", element);
    this.chooser = find(".chooser", element);
    this.stage = new Stage(find(".stage", element), {
      toggle: (id, amend) => this.toggle(id, amend, true),
      cycleBack: () => this.cycleBack(),
      focus: (id, others) => this.focus(id, { others, fromStage: true }),
      choose: (ids) => this.choose(ids),
    });
    this.stage.enabled = !readOnly;
    this.list = new ObjectList(find(".object-list", element), {
      toggle: (id) => this.toggle(id),
      focus: (id, scroll) => this.focus(id, { scroll }),
      show: (id) => this.stage.show(id),
    });
    this.looks = read("looks", { outlines: true, numbers: true, spotlight: false });
    this.tools();
    this.keys();
  }

  get selected() {
    return this.history.current;
  }

  /** Shows a picture with its objects (their numbers `turn` places on), and a selection with the steps that led to it. */
  async open(picture, objects, selected = [], steps = [], turn = 0) {
    dropDigits();
    this.shapes = prepare(objects, picture.height, turn);
    const known = new Set(this.shapes.map((shape) => shape.id));
    const clean = (ids) => [...ids].filter((id) => known.has(id));
    this.history.reset(steps.length ? clean(steps[0]) : []);
    for (const ids of steps.slice(1)) this.history.push(clean(ids));
    this.history.push(clean(selected));
    this.list.open(this.shapes);
    this.focused = null;
    this.tip.textContent = "";
    this.chooser.hidden = true;
    find(".object-count", this.element).textContent = String(this.shapes.length);
    this.refresh();
    try {
      await this.stage.open(picture, this.shapes);
    } catch {
      notify(t("The picture could not be loaded. Nothing can be submitted without it."), { tone: "bad" });
    }
  }

  /** Steps before the current selection, for the draft. */
  get steps() {
    return this.history.states
      .slice(0, this.history.place)
      .map((state) => JSON.parse(state))
      .slice(-50);
  }

  toggle(id, amend = false, fromStage = false) {
    if (this.readOnly) return;
    if (!fromStage) this.stage.forgetCycle();
    const before =
      amend && this.history.canUndo ? new Set(JSON.parse(this.history.states[this.history.place - 1])) : this.selected;
    const now = !before.has(id);
    if (now) before.add(id);
    else before.delete(id);
    this.history.push(before, amend);
    this.focus(id, { others: this.stage.hoveredOthers ?? 0, fromStage });
    this.speak(`${this.nameOf(id)} ${now ? "selected" : "removed"}`);
    this.settle();
  }

  /** Buttons for the objects under a finger, large enough to be hit; they stay until one is pressed or another tap. */
  choose(ids) {
    const row = (id) => {
      const shape = this.shapes.find((each) => each.id === id);
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" }, String(shape.number));
      swatch.style.backgroundColor = shape.look.colour;
      swatch.style.color = shape.look.text;
      const press = () => {
        this.chooser.hidden = true;
        this.toggle(id);
      };
      const chosen = String(this.selected.has(id));
      return make("button", { type: "button", class: "button", "aria-pressed": chosen, onclick: press }, swatch, this.nameOf(id));
    };
    fill(this.chooser, ids.map(row));
    this.chooser.hidden = false;
    this.mark(ids);
  }

  cycleBack() {
    const before = this.history.canUndo ? JSON.parse(this.history.states[this.history.place - 1]) : [];
    this.history.push(before, true);
    this.speak(t("As before the click"));
    this.settle();
  }

  set(ids, words) {
    if (this.readOnly) return;
    this.stage.forgetCycle();
    this.history.push(ids);
    this.speak(words);
    this.settle();
  }

  clear() {
    if (this.selected.size > 0) this.set([], "Selection emptied");
  }

  undo() {
    if (!this.history.canUndo) return;
    this.stage.forgetCycle();
    this.history.undo();
    this.speak(t("Undone"));
    this.settle();
  }

  redo() {
    if (!this.history.canRedo) return;
    this.stage.forgetCycle();
    this.history.redo();
    this.speak(t("Done again"));
    this.settle();
  }

  /** Adds all objects named as the one in focus; removes them where all are selected already. */
  toggleKind() {
    const shape = this.shapes.find((each) => each.id === this.focused);
    if (!shape) return;
    const kind = this.shapes.filter((each) => each.name === shape.name).map((each) => each.id);
    const ids = this.selected;
    const every = kind.every((id) => ids.has(id));
    for (const id of kind) {
      if (every) ids.delete(id);
      else ids.add(id);
    }
    this.set(ids, `All of ${shape.name} ${every ? "removed" : "selected"}`);
  }

  speak(words) {
    announce(`${words}. ${plural(this.selected.size, "object")} selected.`);
  }

  settle() {
    this.chooser.hidden = true;
    this.mark([]);
    this.refresh();
    this.changed(this.selected);
  }

  refresh() {
    const ids = this.selected;
    this.list.select(ids);
    this.stage.update({ ...this.looks, selected: ids });
    for (const name of ["undo", "redo"]) {
      const button = find(`[data-tool="${name}"]`, this.element);
      if (button) button.disabled = !(name === "undo" ? this.history.canUndo : this.history.canRedo);
    }
    const clear = find('[data-tool="clear"]', this.element);
    if (clear) clear.disabled = ids.size === 0;
  }

  nameOf(id) {
    const shape = this.shapes.find((each) => each.id === id);
    return shape ? `${shape.name} ${shape.number}` : "";
  }

  focus(id, { others = 0, fromStage = false, scroll = true } = {}) {
    this.focused = id;
    this.list.focus(id, scroll);
    this.stage.update({ focus: id });
    const more = others > 0 ? others === 1 ? t(" · click again for 1 more object here") : t(" · click again for {count} more objects here", { count: others }) : "";
    this.tip.textContent = id === null ? "" : `${this.nameOf(id)}${more}`;
    if (fromStage && id === null) this.list.focus(null);
  }

  /** Shows some objects as if in focus, without touching the selection: those of a sentence that is looked at. */
  mark(ids) {
    this.stage.update({ marked: new Set(ids) });
  }

  walk(step) {
    const id = this.list.next(step);
    if (id === null) return;
    this.focus(id);
    announce(`${this.nameOf(id)}${this.selected.has(id) ? ", selected" : ""}`);
  }

  look(name) {
    this.looks[name] = !this.looks[name];
    write("looks", this.looks);
    const button = find(`[data-tool="${name}"]`, this.element);
    button?.setAttribute("aria-pressed", String(this.looks[name]));
    this.stage.update(this.looks);
  }

  tools() {
    const run = {
      in: () => this.stage.zoom(1.4),
      out: () => this.stage.zoom(1 / 1.4),
      fit: () => this.stage.fit(),
      undo: () => this.undo(),
      redo: () => this.redo(),
      clear: () => this.clear(),
    };
    for (const name of ["outlines", "numbers", "spotlight"]) {
      run[name] = () => this.look(name);
      find(`[data-tool="${name}"]`, this.element)?.setAttribute("aria-pressed", String(this.looks[name]));
    }
    this.element.addEventListener("click", (event) => run[event.target.closest("[data-tool]")?.dataset.tool]?.());
  }

  /** A digit key. A zero alone is no number: false leaves it to the picture's own keys. */
  number(digit) {
    return pressDigit(digit, this.shapes.length, (number) => {
      const shape = this.shapes.find((each) => each.number === number);
      if (shape) this.toggle(shape.id);
    });
  }

  keys() {
    const view = t("Picture");
    const choose = t("Selection");
    const arrow = (dx, dy, step) => () => {
      if (document.activeElement !== this.stage.frame && document.activeElement !== document.body) return false;
      if (this.stage.view.fitted) this.walk(step);
      else this.stage.pan(dx * STEP, dy * STEP);
      return true;
    };
    onKey({ keys: ["n", "]"], shown: ["n"], says: t("Next object"), group: choose, run: () => this.walk(1) });
    onKey({ keys: ["p", "["], shown: ["p"], says: t("Previous object"), group: choose, run: () => this.walk(-1) });
    if (!this.readOnly) {
      const here = () => (this.focused === null ? false : this.toggle(this.focused));
      onKey({ keys: ["Space", "Enter"], says: t("Select or remove the object in focus"), group: choose, run: here });
      onKey({
        keys: [],
        digits: true,
        shown: ["1", "2", "…"],
        says: t("Select or remove by number"),
        group: choose,
        run: (event) => this.number(event.key),
      });
      onKey({
        keys: ["a"],
        says: t("All objects named as the one in focus"),
        group: choose,
        run: () => this.toggleKind(),
      });
      onKey({ keys: ["c"], says: t("Empty the selection"), group: choose, run: () => this.clear() });
      onKey({ keys: ["u", "Ctrl+z"], says: t("Undo"), group: choose, run: () => this.undo() });
      onKey({
        keys: ["y", "Ctrl+y", "Ctrl+Shift+z"],
        shown: ["y", "Ctrl+y"],
        says: t("Redo"),
        group: choose,
        run: () => this.redo(),
      });
    }
    onKey({ keys: ["+", "="], shown: ["+"], says: t("Zoom in"), group: view, run: () => this.stage.zoom(1.4) });
    onKey({ keys: ["-"], says: t("Zoom out"), group: view, run: () => this.stage.zoom(1 / 1.4) });
    onKey({ keys: ["0"], says: t("Whole picture"), group: view, run: () => this.stage.fit() });
    onKey({ keys: ["f"], says: t("Zoom to the object in focus"), group: view, run: () => this.stage.show(this.focused) });
    onKey({
      keys: ["ArrowRight"],
      shown: ["ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight"],
      says: t("Move the picture, or walk the objects"),
      group: view,
      run: arrow(-1, 0, 1),
    });
    onKey({ keys: ["ArrowLeft"], run: arrow(1, 0, -1) });
    onKey({ keys: ["ArrowDown"], run: arrow(0, -1, 1) });
    onKey({ keys: ["ArrowUp"], run: arrow(0, 1, -1) });
    onKey({ keys: ["m"], says: t("Outlines on or off"), group: view, run: () => this.look("outlines") });
    onKey({ keys: ["l"], says: t("Numbers on or off"), group: view, run: () => this.look("numbers") });
    onKey({ keys: ["d"], says: t("Darken all that is not selected"), group: view, run: () => this.look("spotlight") });
  }
}
