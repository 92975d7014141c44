// Draws the picture, the outlines of its objects and their numbers on the stage's canvas.

import { hatching } from "./palette.js";

const HALO = "rgba(8, 12, 18, 0.78)";
const SHADE = "rgba(8, 12, 18, 0.62)";

/** One path per object, in picture coordinates. */
export function pathOf(rings) {
  const path = new Path2D();
  for (const ring of rings) {
    path.moveTo(ring[0], ring[1]);
    for (let i = 2; i < ring.length; i += 2) path.lineTo(ring[i], ring[i + 1]);
    path.closePath();
  }
  return path;
}

export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
  }

  /**
   * Draws everything anew.
   * @param view where the picture lies
   * @param image the loaded picture or null
   * @param shapes objects as {id, number, look, path, anchor, box}
   * @param state {selected: Set, focus: id or null, marked: Set, outlines, numbers, spotlight: booleans}
   */
  paint(view, image, shapes, state) {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = view.stage;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const pen = this.pen;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const place = () => pen.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
    place();
    if (image) {
      pen.imageSmoothingEnabled = view.scale < 4;
      pen.imageSmoothingQuality = "high";
      pen.drawImage(image, 0, 0, view.picture.width, view.picture.height);
    }
    // Large objects first, so that a small one in front of them is never covered.
    shapes = [...shapes].sort((a, b) => b.area - a.area);
    const selected = shapes.filter((shape) => state.selected.has(shape.id));
    if (state.spotlight && selected.length > 0) this.shade(view, selected);
    if (!state.outlines) {
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      state.overlay?.(pen, view);
      return;
    }
    for (const shape of shapes) {
      if (!state.selected.has(shape.id) && shape.id !== state.focus) this.outline(view, shape, 1.5, 0.9);
    }
    // Outline and thin hatching only: a fill would change the colours that sentences speak of.
    for (const shape of selected) {
      this.hatch(view, shape);
      this.outline(view, shape, 3, 1);
    }
    for (const focused of shapes.filter((shape) => shape.id === state.focus || state.marked.has(shape.id)))
      this.outline(view, focused, 3.5, 1, true);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (state.numbers) {
      for (const shape of shapes) {
        const marked = state.selected.has(shape.id);
        const [left, top, right, bottom] = shape.box;
        const large = Math.max(right - left, bottom - top) * view.scale > 16;
        if (marked || shape.id === state.focus || large) this.number(view, shape, marked, shape.id === state.focus);
      }
    }
    state.overlay?.(pen, view);
  }

  shade(view, selected) {
    const layer = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    const pen = layer.getContext("2d");
    pen.setTransform(this.pen.getTransform());
    pen.fillStyle = SHADE;
    pen.fillRect(0, 0, view.picture.width, view.picture.height);
    pen.globalCompositeOperation = "destination-out";
    pen.fillStyle = "#000";
    for (const shape of selected) pen.fill(shape.path, "nonzero");
    this.pen.save();
    this.pen.setTransform(1, 0, 0, 1, 0, 0);
    this.pen.drawImage(layer, 0, 0);
    this.pen.restore();
  }

  hatch(view, shape) {
    const pen = this.pen;
    pen.save();
    const pattern = hatching(pen, shape.look);
    pattern.setTransform(new DOMMatrix().scale(1 / view.scale));
    pen.fillStyle = pattern;
    pen.fill(shape.path, "nonzero");
    pen.restore();
  }

  outline(view, shape, width, strength, bright = false) {
    const pen = this.pen;
    pen.save();
    pen.lineJoin = "round";
    pen.globalAlpha = strength;
    pen.strokeStyle = bright ? "#ffffff" : HALO;
    pen.lineWidth = (width + (bright ? 3 : 2)) / view.scale;
    pen.stroke(shape.path);
    pen.strokeStyle = shape.look.colour;
    pen.lineWidth = width / view.scale;
    pen.setLineDash(shape.look.dash.map((length) => length / view.scale));
    pen.stroke(shape.path);
    pen.restore();
  }

  number(view, shape, marked, focused) {
    const pen = this.pen;
    const [x, y] = view.toScreen(shape.anchor[0], shape.anchor[1]);
    const text = marked ? `✓${shape.number}` : String(shape.number);
    pen.font = `${marked || focused ? 700 : 600} ${marked || focused ? 13 : 11.5}px system-ui, sans-serif`;
    const height = marked || focused ? 20 : 17;
    const width = Math.max(height, pen.measureText(text).width + 9);
    pen.beginPath();
    pen.roundRect(x - width / 2, y - height / 2, width, height, marked ? 4 : height / 2);
    pen.fillStyle = marked ? shape.look.colour : "rgba(12, 16, 22, 0.82)";
    pen.fill();
    pen.lineWidth = focused ? 2.5 : 1.5;
    pen.strokeStyle = marked || focused ? "#ffffff" : shape.look.colour;
    pen.stroke();
    pen.fillStyle = marked ? shape.look.text : "#ffffff";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(text, x, y + 0.5);
  }
}
