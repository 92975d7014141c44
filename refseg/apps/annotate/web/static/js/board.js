// The board: picture, list of objects, one selection with undo, and the keys that work on them.

import { announce, find, notify, plural } from "./dom.js";
import { History } from "./history.js";
import { onKey } from "./keyboard.js";
import { ObjectList } from "./objects.js";
import { Stage, prepare } from "./stage.js";
import { read, write } from "./store.js";

const STEP = 60; // screen pixels that an arrow key moves the picture
const SECOND_DIGIT = 700; // milliseconds in which a second digit counts to the same number

export class Board {
  /** @param changed called with the new selection (a Set of object ids) after each change by the person */
  constructor(element, changed = () => {}, { readOnly = false } = {}) {
    this.element = element;
    this.changed = changed;
    this.readOnly = readOnly;
    this.history = new History();
    this.shapes = [];
    this.tip = find(".stage-tip", element);
    this.stage = new Stage(find(".stage", element), {
      toggle: (id, amend) => this.toggle(id, amend, true),
      cycleBack: () => this.cycleBack(),
      focus: (id, others) => this.focus(id, { others, fromStage: true }),
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

  /** Shows a picture with its objects, and a selection with the steps that led to it. */
  async open(picture, objects, selected = [], steps = []) {
    this.shapes = prepare(objects, picture.height);
    const known = new Set(this.shapes.map((shape) => shape.id));
    const clean = (ids) => [...ids].filter((id) => known.has(id));
    this.history.reset(steps.length ? clean(steps[0]) : []);
    for (const ids of steps.slice(1)) this.history.push(clean(ids));
    this.history.push(clean(selected));
    this.list.open(this.shapes);
    this.focused = null;
    find(".object-count", this.element).textContent = String(this.shapes.length);
    this.refresh();
    try {
      await this.stage.open(picture, this.shapes);
    } catch {
      notify("The picture could not be loaded. It is tried again when you reload the page.", { tone: "bad" });
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

  cycleBack() {
    const before = this.history.canUndo ? JSON.parse(this.history.states[this.history.place - 1]) : [];
    this.history.push(before, true);
    this.speak("As before the click");
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
    this.speak("Undone");
    this.settle();
  }

  redo() {
    if (!this.history.canRedo) return;
    this.stage.forgetCycle();
    this.history.redo();
    this.speak("Done again");
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
    const more = others > 0 ? ` · click again for ${plural(others, "more object")} here` : "";
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
    const now = performance.now();
    const follows = now - (this.digitAt ?? -Infinity) < SECOND_DIGIT;
    if (digit === "0" && !follows) return false;
    const typed = follows ? `${this.digits}${digit}` : digit;
    this.digits = typed;
    this.digitAt = now;
    clearTimeout(this.digitTimer);
    const pick = () => {
      const shape = this.shapes.find((each) => each.number === Number(typed));
      this.digitAt = -Infinity;
      if (shape) this.toggle(shape.id);
    };
    // Wait for a second digit only where a number with two could be meant.
    if (Number(typed) * 10 > this.shapes.length) pick();
    else this.digitTimer = setTimeout(pick, SECOND_DIGIT);
    return true;
  }

  keys() {
    const view = "Picture";
    const choose = "Selection";
    const arrow = (dx, dy, step) => () => {
      if (document.activeElement !== this.stage.frame && document.activeElement !== document.body) return false;
      if (this.stage.view.fitted) this.walk(step);
      else this.stage.pan(dx * STEP, dy * STEP);
      return true;
    };
    onKey({ keys: ["n", "]"], shown: ["n"], says: "Next object", group: choose, run: () => this.walk(1) });
    onKey({ keys: ["p", "["], shown: ["p"], says: "Previous object", group: choose, run: () => this.walk(-1) });
    if (!this.readOnly) {
      const here = () => (this.focused === null ? false : this.toggle(this.focused));
      onKey({ keys: ["Space", "Enter"], says: "Select or remove the object in focus", group: choose, run: here });
      onKey({
        keys: [],
        digits: true,
        shown: ["1", "2", "…"],
        says: "Select or remove by number",
        group: choose,
        run: (event) => this.number(event.key),
      });
      onKey({
        keys: ["a"],
        says: "All objects named as the one in focus",
        group: choose,
        run: () => this.toggleKind(),
      });
      onKey({ keys: ["c"], says: "Empty the selection", group: choose, run: () => this.clear() });
      onKey({ keys: ["u", "Ctrl+z"], says: "Undo", group: choose, run: () => this.undo() });
      onKey({
        keys: ["y", "Ctrl+y", "Ctrl+Shift+z"],
        shown: ["y", "Ctrl+y"],
        says: "Redo",
        group: choose,
        run: () => this.redo(),
      });
    }
    onKey({ keys: ["+", "="], shown: ["+"], says: "Zoom in", group: view, run: () => this.stage.zoom(1.4) });
    onKey({ keys: ["-"], says: "Zoom out", group: view, run: () => this.stage.zoom(1 / 1.4) });
    onKey({ keys: ["0"], says: "Whole picture", group: view, run: () => this.stage.fit() });
    onKey({ keys: ["f"], says: "Zoom to the object in focus", group: view, run: () => this.stage.show(this.focused) });
    onKey({
      keys: ["ArrowRight"],
      shown: ["ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight"],
      says: "Move the picture, or walk the objects",
      group: view,
      run: arrow(-1, 0, 1),
    });
    onKey({ keys: ["ArrowLeft"], run: arrow(1, 0, -1) });
    onKey({ keys: ["ArrowDown"], run: arrow(0, -1, 1) });
    onKey({ keys: ["ArrowUp"], run: arrow(0, 1, -1) });
    onKey({ keys: ["m"], says: "Outlines on or off", group: view, run: () => this.look("outlines") });
    onKey({ keys: ["l"], says: "Numbers on or off", group: view, run: () => this.look("numbers") });
    onKey({ keys: ["d"], says: "Darken all that is not selected", group: view, run: () => this.look("spotlight") });
  }
}
