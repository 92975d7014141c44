// The editor's tools: polygon, brush, eraser, click, box and cut. Each turns points of the picture into a mask, by mouse,
// pen, finger or keys, and hands it over; what it draws meanwhile lies over the picture.

import { Mask } from "./masks.js";

const LINE = "#ffffff";
const SHADOW = "rgba(8, 12, 18, 0.85)";
const NEAR = 10; // screen pixels from a polygon's first point within which a click closes it

/** What all tools do: keep a cursor for the keyboard, and pass points on. */
class Tool {
  /** @param desk {stage, size(): [height, width], mask(mask), redraw()} */
  constructor(desk) {
    this.desk = desk;
    this.cursor = null;
  }

  down() {}
  move() {}
  up() {}
  cancel() {}
  finish() {}
  back() {
    return false;
  }

  hover(point) {
    this.cursor = point;
    this.desk.redraw();
  }

  /** Moves the cursor by keys, from the middle of the picture at first. */
  step(dx, dy) {
    const [height, width] = this.desk.size();
    const [x, y] = this.cursor ?? [width / 2, height / 2];
    this.cursor = [Math.max(0, Math.min(width, x + dx)), Math.max(0, Math.min(height, y + dy))];
    this.desk.redraw();
  }

  /** What a press of the space key does at the cursor. */
  press() {
    if (!this.cursor) this.step(0, 0);
    this.down(this.cursor, {});
    this.up(this.cursor, {});
  }

  draw(pen, view) {
    if (this.cursor) cross(pen, view.toScreen(...this.cursor));
  }
}

/** Points one after another; the first again, a double click or Enter closes. Dragging draws freely. */
export class Polygon extends Tool {
  constructor(desk, finished = (mask) => desk.mask(mask)) {
    super(desk);
    this.finished = finished;
    this.points = [];
  }

  down(point) {
    const { view } = this.desk.stage;
    this.cursor = point;
    if (this.points.length > 2) {
      const [x, y] = view.toScreen(...point);
      const [firstX, firstY] = view.toScreen(...this.points[0]);
      if (Math.hypot(x - firstX, y - firstY) < NEAR) return this.finish();
    }
    this.points.push(point);
    return this.desk.redraw();
  }

  move(point) {
    this.cursor = point;
    const last = this.points.at(-1);
    const gap = 4 / this.desk.stage.view.scale;
    if (last && Math.hypot(point[0] - last[0], point[1] - last[1]) > gap) this.points.push(point);
    this.desk.redraw();
  }

  cancel() {
    this.points = [];
    this.desk.redraw();
  }

  back() {
    if (this.points.length === 0) return false;
    this.points.pop();
    this.desk.redraw();
    return true;
  }

  finish() {
    const points = this.points;
    this.points = [];
    if (points.length > 2) this.finished(Mask.polygon(this.desk.size(), points));
    else this.desk.redraw();
  }

  draw(pen, view) {
    const points = [...this.points, ...(this.cursor && this.points.length ? [this.cursor] : [])];
    line(pen, view, points, 2);
    for (const point of this.points) dot(pen, view.toScreen(...point), point === this.points[0] ? 6 : 3.5);
    super.draw(pen, view);
  }
}

/** Paints with a round brush; `remove` makes it an eraser. */
export class Brush extends Tool {
  constructor(desk, remove = false) {
    super(desk);
    this.remove = remove;
    this.points = null;
  }

  down(point) {
    this.points = [point];
    this.cursor = point;
    this.desk.redraw();
  }

  move(point) {
    this.points?.push(point);
    this.cursor = point;
    this.desk.redraw();
  }

  up() {
    const points = this.points;
    this.points = null;
    if (points) this.desk.mask(Mask.stroke(this.desk.size(), points, this.desk.radius()), this.remove ? "remove" : null);
  }

  cancel() {
    this.points = null;
    this.desk.redraw();
  }

  draw(pen, view) {
    const radius = this.desk.radius() * view.scale;
    if (this.points) {
      pen.save();
      pen.globalAlpha = 0.55;
      pen.lineCap = "round";
      pen.lineJoin = "round";
      pen.lineWidth = 2 * radius;
      pen.strokeStyle = this.remove ? "#d55e00" : "#56b4e9";
      trace(pen, view, this.points.length > 1 ? this.points : [this.points[0], this.points[0]]);
      pen.stroke();
      pen.restore();
    }
    if (!this.cursor) return;
    const [x, y] = view.toScreen(...this.cursor);
    ring(pen, x, y, radius);
    if (radius < 4) super.draw(pen, view);
  }
}

/** Asks the model what lies at a point. */
export class Click extends Tool {
  constructor(desk, ask) {
    super(desk);
    this.ask = ask;
  }

  up(point) {
    this.cursor = point;
    this.ask({ point });
  }
}

/** Two corners of a box; asks the model for what it holds. */
export class Box extends Tool {
  constructor(desk, ask) {
    super(desk);
    this.ask = ask;
    this.from = null;
  }

  down(point) {
    this.from ??= point;
    this.cursor = point;
    this.desk.redraw();
  }

  move(point) {
    this.cursor = point;
    this.desk.redraw();
  }

  up(point) {
    const [[x0, y0], [x1, y1]] = [this.from, point];
    const gap = 4 / this.desk.stage.view.scale;
    if (Math.abs(x1 - x0) < gap || Math.abs(y1 - y0) < gap) return; // one corner so far
    this.from = null;
    this.ask({ box: [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)] });
  }

  cancel() {
    this.from = null;
    this.desk.redraw();
  }

  back() {
    const begun = this.from !== null;
    this.cancel();
    return begun;
  }

  draw(pen, view) {
    if (this.from && this.cursor) {
      const [[x0, y0], [x1, y1]] = [this.from, this.cursor];
      line(pen, view, [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]], 2);
    }
    super.draw(pen, view);
  }
}

function trace(pen, view, points) {
  pen.beginPath();
  points.forEach((point, index) => {
    const [x, y] = view.toScreen(...point);
    if (index === 0) pen.moveTo(x, y);
    else pen.lineTo(x, y);
  });
}

function line(pen, view, points, width) {
  if (points.length < 2) return;
  for (const [colour, wide] of [
    [SHADOW, width + 2],
    [LINE, width],
  ]) {
    trace(pen, view, points);
    pen.lineWidth = wide;
    pen.strokeStyle = colour;
    pen.stroke();
  }
}

function dot(pen, [x, y], radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fillStyle = LINE;
  pen.fill();
  pen.lineWidth = 1.5;
  pen.strokeStyle = SHADOW;
  pen.stroke();
}

function ring(pen, x, y, radius) {
  for (const [colour, width] of [
    [SHADOW, 3],
    [LINE, 1.5],
  ]) {
    pen.beginPath();
    pen.arc(x, y, Math.max(1, radius), 0, 2 * Math.PI);
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    pen.stroke();
  }
}

function cross(pen, [x, y]) {
  for (const [colour, width] of [
    [SHADOW, 3],
    [LINE, 1.5],
  ]) {
    pen.beginPath();
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ]) {
      pen.moveTo(x + 3 * dx, y + 3 * dy);
      pen.lineTo(x + 10 * dx, y + 10 * dy);
    }
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    pen.stroke();
  }
}
