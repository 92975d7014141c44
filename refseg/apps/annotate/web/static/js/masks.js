// Masks, exact to the picture's pixel: COCO's run-length encoding, drawing into them, their outlines.
// A mask keeps the pixels of its box only; masks are never changed, each step makes a new one.

export class Mask {
  /** @param size [height, width] of the picture; @param box [x, y, width, height]; @param data a byte a pixel, row by row */
  constructor(size, box = [0, 0, 0, 0], data = new Uint8Array(0)) {
    Object.assign(this, { size, box, data });
  }

  get empty() {
    return this.data.length === 0;
  }

  get area() {
    this.counted ??= this.data.reduce((sum, value) => sum + value, 0);
    return this.counted;
  }

  /** Left, top, right, bottom: outer edges of its pixels. */
  get edges() {
    const [x, y, width, height] = this.box;
    return [x, y, x + width, y + height];
  }

  at(x, y) {
    const [left, top, width, height] = this.box;
    const column = x - left;
    const row = y - top;
    return column >= 0 && row >= 0 && column < width && row < height && this.data[row * width + column] === 1;
  }

  // The encoding ------------------------------------------------------------------------------------------------

  static fromRle({ size, counts }) {
    const height = size[0];
    const runs = decode(counts);
    let [left, right, top, bottom] = [Infinity, -1, Infinity, -1];
    const ones = [];
    let place = 0;
    runs.forEach((length, index) => {
      if (index % 2 === 1 && length > 0) {
        ones.push([place, length]);
        const [first, last] = [place, place + length - 1];
        left = Math.min(left, Math.floor(first / height));
        right = Math.max(right, Math.floor(last / height));
        const whole = Math.floor(first / height) !== Math.floor(last / height);
        top = whole ? 0 : Math.min(top, first % height);
        bottom = whole ? height - 1 : Math.max(bottom, last % height);
      }
      place += length;
    });
    if (ones.length === 0) return new Mask(size);
    const width = right - left + 1;
    const data = new Uint8Array(width * (bottom - top + 1));
    for (const [first, length] of ones)
      for (let at = first; at < first + length; at += 1)
        data[((at % height) - top) * width + Math.floor(at / height) - left] = 1;
    return new Mask(size, [left, top, width, bottom - top + 1], data);
  }

  toRle() {
    const [height, width] = this.size;
    const [left, top, boxWidth, boxHeight] = this.box;
    const runs = [];
    let value = 0;
    let length = 0;
    const add = (next, count) => {
      if (count === 0) return;
      if (next !== value) {
        runs.push(length);
        value = next;
        length = 0;
      }
      length += count;
    };
    add(0, left * height);
    for (let column = 0; column < boxWidth; column += 1) {
      add(0, top);
      for (let row = 0; row < boxHeight; row += 1) add(this.data[row * boxWidth + column], 1);
      add(0, height - top - boxHeight);
    }
    add(0, (width - left - boxWidth) * height);
    runs.push(length);
    return { size: this.size, counts: encode(runs) };
  }

  // Drawing -----------------------------------------------------------------------------------------------------

  /** The pixels whose centres lie in a polygon [[x, y], ...], by the nonzero rule. */
  static polygon(size, points) {
    return drawn(size, bounds(points, 0), (top, bottom, set) => {
      for (let row = top; row < bottom; row += 1) {
        const y = row + 0.5;
        const crossings = [];
        points.forEach(([x1, y1], index) => {
          const [x0, y0] = points.at(index - 1);
          if (y0 <= y !== y1 <= y) crossings.push([x0 + ((y - y0) / (y1 - y0)) * (x1 - x0), y1 > y0 ? 1 : -1]);
        });
        crossings.sort((a, b) => a[0] - b[0]);
        let winding = 0;
        crossings.forEach(([x, turn], index) => {
          winding += turn;
          if (winding === 0) return;
          const end = crossings[index + 1][0];
          for (let column = Math.ceil(x - 0.5); column < end - 0.5; column += 1) set(column, row);
        });
      }
    });
  }

  /** The pixels whose centres lie within `radius` of a line through points; a single point gives a disc. */
  static stroke(size, points, radius) {
    return drawn(size, bounds(points, radius), (top, bottom, set) => {
      points.forEach(([x1, y1], index) => {
        const [x0, y0] = points[Math.max(0, index - 1)];
        const [dx, dy] = [x1 - x0, y1 - y0];
        const squared = dx * dx + dy * dy;
        const last = Math.min(bottom - 1, Math.floor(Math.max(y0, y1) + radius));
        for (let row = Math.max(top, Math.floor(Math.min(y0, y1) - radius)); row <= last; row += 1)
          for (let column = Math.floor(Math.min(x0, x1) - radius); column <= Math.max(x0, x1) + radius; column += 1) {
            const [x, y] = [column + 0.5, row + 0.5];
            const share =
              squared === 0 ? 0 : Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / squared));
            if ((x - x0 - share * dx) ** 2 + (y - y0 - share * dy) ** 2 <= radius * radius) set(column, row);
          }
      });
    });
  }

  union(other) {
    return combined(this, other, (one, two) => one || two);
  }

  minus(other) {
    return combined(this, other, (one, two) => one && !two);
  }

  shared(other) {
    return combined(this, other, (one, two) => one && two);
  }

  equals(other) {
    return (
      this.box.every((value, index) => value === other.box[index]) &&
      this.data.every((value, index) => value === other.data[index])
    );
  }

  /** Its connected parts (pixels that touch at a corner are connected), the largest first. */
  parts() {
    const [, , width, height] = this.box;
    const label = new Int32Array(this.data.length);
    const parts = [];
    for (let start = 0; start < this.data.length; start += 1) {
      if (!this.data[start] || label[start]) continue;
      const data = new Uint8Array(this.data.length);
      const waiting = [start];
      label[start] = parts.length + 1;
      while (waiting.length > 0) {
        const at = waiting.pop();
        data[at] = 1;
        const [column, row] = [at % width, Math.floor(at / width)];
        for (let y = Math.max(0, row - 1); y <= Math.min(height - 1, row + 1); y += 1)
          for (let x = Math.max(0, column - 1); x <= Math.min(width - 1, column + 1); x += 1) {
            const next = y * width + x;
            if (!this.data[next] || label[next]) continue;
            label[next] = parts.length + 1;
            waiting.push(next);
          }
      }
      parts.push(trimmed(this.size, this.box, data));
    }
    return parts.sort((a, b) => b.area - a.area);
  }

  /** Closed outlines x0, y0, x1, y1, ... along its pixels' edges, holes the other way round. */
  rings() {
    const [left, top, width, height] = this.box;
    const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && this.data[y * width + x] === 1;
    // Steps from a corner that have the mask on their right: right, down, left, up.
    const leaves = [
      (x, y) => inside(x, y) && !inside(x, y - 1),
      (x, y) => inside(x - 1, y) && !inside(x, y),
      (x, y) => inside(x - 1, y - 1) && !inside(x - 1, y),
      (x, y) => inside(x, y - 1) && !inside(x - 1, y - 1),
    ];
    const [across, down] = [
      [1, 0, -1, 0],
      [0, 1, 0, -1],
    ];
    const walked = new Uint8Array((width + 1) * (height + 1));
    const rings = [];
    for (let y = 0; y < height; y += 1)
      for (let x = 0; x < width; x += 1) {
        if (!leaves[0](x, y) || walked[y * (width + 1) + x] & 1) continue;
        const ring = [];
        let [column, row, step] = [x, y, 0];
        do {
          walked[row * (width + 1) + column] |= 1 << step;
          column += across[step];
          row += down[step];
          // Where two parts touch at a corner, turn right: each keeps to itself.
          const next = [(step + 1) % 4, step, (step + 3) % 4].find((turn) => leaves[turn](column, row));
          if (next !== step) ring.push(column + left, row + top);
          step = next;
        } while (column !== x || row !== y || step !== 0);
        rings.push(ring);
      }
    return rings;
  }
}

function bounds(points, margin) {
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  return [Math.min(...xs) - margin, Math.min(...ys) - margin, Math.max(...xs) + margin, Math.max(...ys) + margin];
}

/** A mask of what `draw` sets, cut at the picture's edges. */
function drawn(size, [x0, y0, x1, y1], draw) {
  const left = Math.max(0, Math.floor(x0));
  const top = Math.max(0, Math.floor(y0));
  const right = Math.min(size[1], Math.ceil(x1) + 1);
  const bottom = Math.min(size[0], Math.ceil(y1) + 1);
  if (right <= left || bottom <= top) return new Mask(size);
  const width = right - left;
  const data = new Uint8Array(width * (bottom - top));
  draw(top, bottom, (column, row) => {
    if (column >= left && column < right && row >= top && row < bottom) data[(row - top) * width + column - left] = 1;
  });
  return trimmed(size, [left, top, width, bottom - top], data);
}

function combined(one, two, keep) {
  const [a, b] = [one.edges, two.edges];
  if (one.empty && two.empty) return one;
  const [left, top, right, bottom] = one.empty
    ? b
    : two.empty
      ? a
      : [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
  const width = right - left;
  const data = new Uint8Array(width * (bottom - top));
  for (let y = top; y < bottom; y += 1)
    for (let x = left; x < right; x += 1) data[(y - top) * width + x - left] = keep(one.at(x, y), two.at(x, y)) ? 1 : 0;
  return trimmed(one.size, [left, top, width, bottom - top], data);
}

/** A mask with the smallest box around its pixels. */
function trimmed(size, [left, top, width, height], data) {
  let [x0, y0, x1, y1] = [width, height, -1, -1];
  for (let y = 0; y < height; y += 1)
    for (let x = 0; x < width; x += 1)
      if (data[y * width + x]) {
        x0 = Math.min(x0, x);
        x1 = Math.max(x1, x);
        y0 = Math.min(y0, y);
        y1 = y;
      }
  if (x1 < 0) return new Mask(size);
  const cut = new Uint8Array((x1 - x0 + 1) * (y1 - y0 + 1));
  for (let y = y0; y <= y1; y += 1) cut.set(data.subarray(y * width + x0, y * width + x1 + 1), (y - y0) * (x1 - x0 + 1));
  return new Mask(size, [left + x0, top + y0, x1 - x0 + 1, y1 - y0 + 1], cut);
}

/** Runs from COCO's compressed text: five bits a letter, differences to the run before the last from the third on. */
function decode(text) {
  const runs = [];
  let place = 0;
  while (place < text.length) {
    let value = 0;
    let shift = 0;
    let letter;
    do {
      letter = text.charCodeAt(place) - 48;
      value |= (letter & 0x1f) << shift;
      shift += 5;
      place += 1;
    } while (letter & 0x20);
    if (letter & 0x10 && shift < 32) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

function encode(runs) {
  const letters = [];
  runs.forEach((run, index) => {
    let value = index > 2 ? run - runs[index - 2] : run;
    let more = true;
    while (more) {
      let letter = value & 0x1f;
      value >>= 5;
      more = letter & 0x10 ? value !== -1 : value !== 0;
      if (more) letter |= 0x20;
      letters.push(String.fromCharCode(letter + 48));
    }
  });
  return letters.join("");
}
