// Where the picture lies on the stage: screen = picture * scale + offset, in CSS pixels.

const LARGEST = 32; // screen pixels for one picture pixel
const KEEP = 48; // screen pixels of the picture that always stay in sight

export class View {
  constructor() {
    this.stage = { width: 1, height: 1 };
    this.picture = { width: 1, height: 1 };
    this.scale = 1;
    this.x = 0;
    this.y = 0;
  }

  /** Scale at which the whole picture is seen. */
  get whole() {
    return Math.min(this.stage.width / this.picture.width, this.stage.height / this.picture.height);
  }

  get fitted() {
    return Math.abs(this.scale - this.whole) < 1e-6;
  }

  /** Tells the stage's size; a picture seen whole stays whole. */
  resize(width, height) {
    const whole = this.fitted;
    const centre = this.toPicture(this.stage.width / 2, this.stage.height / 2);
    this.stage = { width: Math.max(1, width), height: Math.max(1, height) };
    if (whole) this.fit();
    else {
      this.x = this.stage.width / 2 - centre[0] * this.scale;
      this.y = this.stage.height / 2 - centre[1] * this.scale;
      this.keepInSight();
    }
  }

  fit() {
    this.scale = this.whole;
    this.x = (this.stage.width - this.picture.width * this.scale) / 2;
    this.y = (this.stage.height - this.picture.height * this.scale) / 2;
  }

  toPicture(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  toScreen(x, y) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  /** Zooms by a factor; the picture's point under (x, y) of the screen stays there. */
  zoom(factor, x = this.stage.width / 2, y = this.stage.height / 2) {
    const [px, py] = this.toPicture(x, y);
    const scale = Math.max(this.whole, Math.min(LARGEST, this.scale * factor));
    if (scale <= this.whole * 1.0001) {
      this.fit();
      return;
    }
    this.scale = scale;
    this.x = x - px * scale;
    this.y = y - py * scale;
    this.keepInSight();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.keepInSight();
  }

  /** Moves and zooms so that a box of the picture is seen well. */
  show([left, top, right, bottom]) {
    const [width, height] = [right - left, bottom - top];
    const room = 0.6;
    const scale = Math.min(
      (this.stage.width * room) / Math.max(width, 1),
      (this.stage.height * room) / Math.max(height, 1),
    );
    this.scale = Math.max(this.whole, Math.min(8, scale));
    if (this.fitted) {
      this.fit();
      return;
    }
    this.x = this.stage.width / 2 - (left + width / 2) * this.scale;
    this.y = this.stage.height / 2 - (top + height / 2) * this.scale;
    this.keepInSight();
  }

  keepInSight() {
    if (this.fitted) {
      this.fit();
      return;
    }
    const width = this.picture.width * this.scale;
    const height = this.picture.height * this.scale;
    this.x = Math.max(KEEP - width, Math.min(this.stage.width - KEEP, this.x));
    this.y = Math.max(KEEP - height, Math.min(this.stage.height - KEEP, this.y));
  }
}
