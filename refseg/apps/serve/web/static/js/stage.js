// The canvas: the picture, the layers' masks over it, and the pointer.

import { find } from "./dom.js";
import { has } from "./masks.js";

const [SHORTEST, LONGEST] = [960, 1600]; // of the canvas' longer side: small pictures are enlarged, large ones reduced
const COLOURS = [
  [255, 82, 82],
  [42, 165, 232],
  [255, 214, 0],
  [46, 204, 134],
  [201, 100, 240],
  [255, 145, 0],
  [128, 147, 255],
  [184, 192, 204],
];

export class Stage {
  /** `layers()` gives the layers to draw; `on` has hover(thing or null) and click(thing, alone). */
  constructor(layers, on) {
    this.layers = layers;
    this.on = on;
    this.canvas = find("#canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.image = null;
    this.hovered = null;
    this.frame = 0;
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerleave", () => this.hover(null));
    this.canvas.addEventListener("click", (event) => {
      const thing = this.#under(event);
      if (thing) this.on.click(thing, event.altKey);
    });
  }

  /** Shows a picture: something that can be drawn, of that size. */
  show(image, width, height) {
    const longest = Math.max(width, height);
    const scale = Math.min(Math.max(longest, SHORTEST), LONGEST) / longest;
    Object.assign(this, { image, width, height });
    this.canvas.width = Math.max(1, Math.round(width * scale));
    this.canvas.height = Math.max(1, Math.round(height * scale));
    this.draw();
  }

  /** A thing under the pointer, or whose button has the focus; null for none. */
  hover(thing) {
    if (thing === this.hovered) return;
    this.hovered = thing;
    this.canvas.classList.toggle("hit", thing !== null);
    this.on.hover(thing);
    this.draw();
  }

  /** Draws once before the next frame, however often it is called. */
  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    if (!this.image) return;
    const { width, height } = this.canvas;
    this.context.drawImage(this.image, 0, 0, width, height);
    const shown = this.layers().filter((layer) => layer.visible && layer.regions.length);
    if (!shown.length) return;
    const pixels = this.context.getImageData(0, 0, width, height);
    // What nobody means is a little darker.
    const meant = new Uint8Array(width * height);
    for (const layer of shown)
      for (const thing of layer.regions) this.#fill(pixels, meant, thing, COLOURS[layer.colour], layer);
    for (let at = 0; at < meant.length; at++)
      if (!meant[at]) for (let channel = 0; channel < 3; channel++) pixels.data[4 * at + channel] *= 0.68;
    this.context.putImageData(pixels, 0, 0);
    if (shown.length > 1 || shown[0].regions.length > 1) this.#number(shown);
  }

  /** A thing's region in pixels of the canvas, made once. */
  #scaled(thing) {
    const { width, height } = this.canvas;
    if (thing.scaled?.across === this.width / width) return thing.scaled;
    const [across, down] = [this.width / width, this.height / height];
    const { region } = thing;
    const [left, top] = [Math.floor(region.left / across), Math.floor(region.top / down)];
    const right = Math.min(width, Math.ceil((region.left + region.width) / across) + 1);
    const bottom = Math.min(height, Math.ceil((region.top + region.height) / down) + 1);
    const bits = new Uint8Array((right - left) * (bottom - top));
    for (let y = top; y < bottom; y++)
      for (let x = left; x < right; x++)
        if (has(region, Math.floor((x + 0.5) * across), Math.floor((y + 0.5) * down))) bits[(y - top) * (right - left) + x - left] = 1;
    thing.scaled = { left, top, width: right - left, height: bottom - top, bits, across };
    return thing.scaled;
  }

  /** Colours one thing: filled where it is kept, an outline of dashes where it is left out. */
  #fill(pixels, meant, thing, colour, layer) {
    const { left, top, width, height, bits } = this.#scaled(thing);
    const kept = !layer.leftOut.has(thing.index);
    const opacity = thing === this.hovered ? 0.72 : 0.42;
    const edge = Math.max(1, Math.round(this.canvas.width / 500));
    const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && bits[y * width + x];
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        if (!bits[y * width + x]) continue;
        const border = !inside(x - edge, y) || !inside(x + edge, y) || !inside(x, y - edge) || !inside(x, y + edge);
        const at = (y + top) * this.canvas.width + x + left;
        if (kept || border) meant[at] = 1;
        if (!kept && !(border && (x + y) % 8 < 4)) continue;
        const share = border ? 1 : opacity;
        for (let channel = 0; channel < 3; channel++) {
          const place = 4 * at + channel;
          pixels.data[place] = pixels.data[place] * (1 - share) + colour[channel] * share;
        }
      }
  }

  #number(shown) {
    const size = Math.max(14, Math.round(this.canvas.width / 45));
    this.context.font = `700 ${size}px system-ui, sans-serif`;
    this.context.textBaseline = "top";
    for (const layer of shown)
      for (const thing of layer.regions) {
        if (thing.index < 0 || layer.leftOut.has(thing.index)) continue;
        const text = shown.length > 1 ? `${layer.number}.${thing.index + 1}` : `${thing.index + 1}`;
        const x = (thing.region.left * this.canvas.width) / this.width;
        const y = (thing.region.top * this.canvas.height) / this.height;
        this.context.fillStyle = `rgb(${COLOURS[layer.colour]})`;
        this.context.fillRect(x, y, this.context.measureText(text).width + 8, size + 4);
        this.context.fillStyle = "#000";
        this.context.fillText(text, x + 4, y + 2);
      }
  }

  #point(event) {
    if (event.pointerType !== "touch") this.hover(this.#under(event));
  }

  /** The thing under the pointer; of several the smallest. */
  #under(event) {
    if (!this.image) return null;
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.height);
    const things = this.layers()
      .filter((layer) => layer.visible)
      .flatMap((layer) => layer.regions.filter((thing) => thing.index >= 0 && has(thing.region, x, y)));
    return things.sort((one, other) => one.area - other.area)[0] ?? null;
  }
}
