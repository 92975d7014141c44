// The stage: one picture with its objects; zoom, pan, hover and selection by mouse, pen and fingers.

import { lookOf } from "./palette.js";
import { Painter, pathOf } from "./painter.js";
import { anchorOf, objectsAt } from "./shapes.js";
import { View } from "./view.js";

const SLIP = 6; // screen pixels that a click may move and still be a click, and that a repeated click may lie away
const SMALL = 36; // screen pixels; a finger is broader than that
const REACH = { mouse: 4, pen: 6, touch: 14 }; // screen pixels within which a small object is still hit

/**
 * Objects with what drawing and hit tests need; numbers follow reading order, top left first, in bands of the height.
 * They begin `turn` objects later: validators see others than writers, so that a sentence cannot speak of them.
 */
export function prepare(objects, height, turn = 0) {
  const band = ({ box }) => Math.floor(((box[1] + box[3]) * 3) / height);
  const ordered = [...objects].sort((a, b) => band(a) - band(b) || a.box[0] - b.box[0] || a.area - b.area);
  ordered.push(...ordered.splice(0, turn));
  return ordered.map((object, index) => ({
    ...object,
    number: index + 1,
    look: lookOf(index),
    path: pathOf(object.rings),
    anchor: anchorOf(object.rings, object.box),
  }));
}

export class Stage {
  /**
   * @param frame element that holds the canvas
   * @param on {toggle(id, amend), cycleBack(id), focus(id, others)}: what the page does with clicks and hovering
   */
  constructor(frame, on) {
    this.frame = frame;
    this.canvas = frame.querySelector("canvas");
    this.on = on;
    this.view = new View();
    this.painter = new Painter(this.canvas);
    this.image = null;
    this.shapes = [];
    this.state = {
      selected: new Set(),
      focus: null,
      marked: new Set(),
      outlines: true,
      numbers: true,
      spotlight: false,
    };
    this.pointers = new Map();
    this.cycle = null;
    this.enabled = true;
    this.tool = null; // draws in place of clicks and drags: {down, move, up, cancel, hover}, each with a picture's point
    this.drawing = null;
    this.listen();
    new ResizeObserver(() => this.measure()).observe(frame);
    this.measure();
  }

  measure() {
    this.view.resize(this.frame.clientWidth, this.frame.clientHeight);
    this.draw();
  }

  /** Shows a picture; resolves once it is loaded, rejects if it cannot be read. */
  async open(picture, shapes) {
    this.shapes = shapes;
    this.image = null;
    this.cycle = null;
    this.pointers.clear(); // a button that is down was pressed on the picture before
    this.picture = picture;
    this.state.focus = null;
    this.state.marked = new Set();
    this.view.picture = { width: picture.width, height: picture.height };
    this.view.fit();
    this.draw();
    const image = new Image();
    image.decoding = "async";
    image.src = picture.url;
    this.loading = image;
    await image.decode();
    if (this.loading !== image) return;
    this.image = image;
    this.draw();
  }

  update(changes) {
    Object.assign(this.state, changes);
    this.draw();
  }

  /** Forgets the place of the last click: the next one starts with the nearest object. */
  forgetCycle() {
    this.cycle = null;
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.painter.paint(this.view, this.image, this.shapes, this.state);
    });
  }

  zoom(factor, x, y) {
    this.view.zoom(factor, x, y);
    this.draw();
  }

  pan(dx, dy) {
    this.view.pan(dx, dy);
    this.draw();
  }

  fit() {
    this.view.fit();
    this.draw();
  }

  show(id) {
    const shape = this.shapes.find((each) => each.id === id);
    if (!shape) return;
    this.view.show(shape.box);
    this.draw();
  }

  under(event) {
    const [x, y] = this.view.toPicture(...this.place(event));
    const reach = (REACH[event.pointerType] ?? REACH.mouse) / this.view.scale;
    const hits = objectsAt(this.shapes, x, y, reach);
    if (event.pointerType !== "touch") return hits;
    // Small objects beside the finger's middle are meant as often as the large one under it.
    const close = this.shapes.filter(
      ({ id, box: [left, top, right, bottom] }) =>
        Math.max(right - left, bottom - top) * this.view.scale < SMALL &&
        x > left - reach && x < right + reach && y > top - reach && y < bottom + reach &&
        !hits.some((hit) => hit.id === id),
    );
    return [...close, ...hits];
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => {
      this.pointers.delete(event.pointerId);
      this.stopDrawing();
    });
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && this.pointers.size === 0) this.hover([]);
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const unit = event.deltaMode === 1 ? 16 : 1;
        if (event.shiftKey) {
          this.pan(-(event.deltaX || event.deltaY) * unit, 0);
          return;
        }
        // A pinch on a track pad arrives as a wheel with the control key, in much smaller steps.
        const speed = event.ctrlKey ? 0.01 : 0.0016;
        this.zoom(Math.exp(-event.deltaY * unit * speed), ...this.place(event));
      },
      { passive: false },
    );
  }

  down(event) {
    this.frame.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const [x, y] = this.place(event);
    this.pointers.set(event.pointerId, { x, y, fromX: x, fromY: y, moved: false });
    if (this.pointers.size > 1) this.stopDrawing();
    else if (this.tool && this.enabled && event.button === 0) {
      this.drawing = event.pointerId;
      this.tool.down(this.view.toPicture(x, y), event);
      return;
    }
    if (this.pointers.size > 1) for (const pointer of this.pointers.values()) pointer.moved = true;
    else if (event.pointerType !== "mouse") this.hover(this.under(event));
  }

  move(event) {
    const pointer = this.pointers.get(event.pointerId);
    const [x, y] = this.place(event);
    if (this.tool && (!pointer || this.drawing === event.pointerId)) {
      const point = this.view.toPicture(x, y);
      if (pointer) this.tool.move(point, event);
      else this.tool.hover(point);
      return;
    }
    if (!pointer) {
      this.hover(this.under(event));
      return;
    }
    if (Math.hypot(x - pointer.fromX, y - pointer.fromY) > SLIP) pointer.moved = true;
    if (this.pointers.size === 2) this.pinch(event.pointerId, x, y);
    else if (pointer.moved) this.pan(x - pointer.x, y - pointer.y);
    else return; // not dragged yet: the small slip is kept for the first step of the drag
    pointer.x = x;
    pointer.y = y;
    this.canvas.classList.toggle("dragged", pointer.moved);
  }

  pinch(id, x, y) {
    const moving = this.pointers.get(id);
    const [, resting] = [...this.pointers].find(([other]) => other !== id);
    const before = Math.hypot(moving.x - resting.x, moving.y - resting.y);
    const after = Math.hypot(x - resting.x, y - resting.y);
    const middle = [(x + resting.x) / 2, (y + resting.y) / 2];
    this.view.pan((x - moving.x) / 2, (y - moving.y) / 2);
    this.zoom(before > 0 ? after / before : 1, ...middle);
  }

  up(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    this.canvas.classList.remove("dragged");
    if (this.drawing === event.pointerId) {
      this.drawing = null;
      this.tool?.up(this.view.toPicture(...this.place(event)), event);
      return;
    }
    if (!pointer || pointer.moved || event.button > 0) return;
    this.click(event, pointer);
    if (event.pointerType !== "mouse") this.hover([]);
  }

  /** A second finger takes over: what the first began to draw is forgotten. */
  stopDrawing() {
    if (this.drawing === null) return;
    this.drawing = null;
    this.tool?.cancel();
  }

  /** First click: the nearest object. Again at the same place: the next one below, and after the last the state before. */
  click(event, { fromX, fromY }) {
    if (!this.enabled) return;
    this.several = event.shiftKey;
    const [x, y] = this.view.toPicture(fromX, fromY);
    const near = this.cycle && Math.hypot(x - this.cycle.x, y - this.cycle.y) * this.view.scale <= SLIP;
    if (!near) {
      const ids = this.under(event).map((shape) => shape.id);
      if (ids.length === 0) return;
      if (event.pointerType === "touch" && this.choose(ids)) return;
      this.cycle = { x, y, ids, step: -1 };
    }
    const cycle = this.cycle;
    const amend = cycle.step >= 0;
    cycle.step += 1;
    if (cycle.step === cycle.ids.length) {
      cycle.step = -1;
      this.on.cycleBack(cycle.ids.at(-1));
    } else this.on.toggle(cycle.ids[cycle.step], amend);
    this.cycle = cycle; // the page forgets it on every other change of the selection
  }

  /** A finger covers small objects: where it lies on several and one of them is small, the page shows a choice. */
  choose(ids) {
    if (!this.on.choose || ids.length < 2) return false;
    const small = this.shapes.some((shape) => {
      const [left, top, right, bottom] = shape.box;
      return ids.includes(shape.id) && Math.max(right - left, bottom - top) * this.view.scale < SMALL;
    });
    if (small) this.on.choose(ids);
    return small;
  }

  hover(shapes) {
    const id = shapes.length > 0 ? shapes[0].id : null;
    const others = Math.max(0, shapes.length - 1);
    if (id === this.hovered && others === this.hoveredOthers) return;
    this.hovered = id;
    this.hoveredOthers = others;
    this.on.focus(id, others);
  }
}
