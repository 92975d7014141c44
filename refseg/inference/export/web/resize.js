// Resizing as Pillow's bilinear filter does it: antialiased, two passes, weights and sums in integers, so that the
// networks see the same pixels here and in Python.

const BITS = 22;

function weightsOf(inputs, from, to, outputs) {
  const scale = Math.fround(to - from) / outputs; // single precision, as the box
  const stretch = Math.max(scale, 1);
  const inverse = 1 / stretch, length = Math.ceil(stretch) * 2 + 1;
  const starts = new Int32Array(outputs);
  const counts = new Int32Array(outputs);
  const values = new Int32Array(outputs * length);
  for (let at = 0; at < outputs; at++) {
    const centre = from + (at + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - stretch + 0.5));
    const count = Math.min(inputs, Math.trunc(centre + stretch + 0.5)) - start;
    const row = [];
    let total = 0;
    for (let i = 0; i < count; i++) {
      const distance = Math.abs((i + start - centre + 0.5) * inverse);
      const weight = distance < 1 ? 1 - distance : 0;
      row.push(weight);
      total += weight;
    }
    for (let i = 0; i < count; i++) {
      values[at * length + i] = Math.trunc(0.5 + (total ? row[i] / total : row[i]) * (1 << BITS));
    }
    starts[at] = start;
    counts[at] = count;
  }
  return { starts, counts, values, length };
}

const clip = (sum) => Math.min(255, Math.max(0, sum >> BITS));

/** An RGB picture {data, width, height} at another size; `part` (x0, y0, x1, y1) is what is taken of it. */
export function resize(image, width, height, part = [0, 0, image.width, image.height]) {
  const box = part.map(Math.fround); // as Pillow stores it
  const whole = box[0] === 0 && box[1] === 0 && box[2] === image.width && box[3] === image.height;
  if (whole && width === image.width && height === image.height) return { ...image, data: image.data.slice() };
  const across = weightsOf(image.width, box[0], box[2], width);
  const down = weightsOf(image.height, box[1], box[3], height);
  let { data } = image;
  let columns = image.width;
  const half = 1 << (BITS - 1);
  if (width !== image.width || box[0] !== 0 || box[2] !== width) {
    const wide = new Uint8Array(width * image.height * 3);
    for (let y = 0; y < image.height; y++) {
      for (let x = 0; x < width; x++) {
        let red = half, green = half, blue = half;
        const first = across.starts[x], base = x * across.length;
        for (let i = 0; i < across.counts[x]; i++) {
          const at = (y * columns + first + i) * 3, weight = across.values[base + i];
          red += data[at] * weight;
          green += data[at + 1] * weight;
          blue += data[at + 2] * weight;
        }
        const to = (y * width + x) * 3;
        wide[to] = clip(red);
        wide[to + 1] = clip(green);
        wide[to + 2] = clip(blue);
      }
    }
    data = wide;
    columns = width;
  }
  if (height === image.height && box[1] === 0 && box[3] === height) return { data, width, height };
  const result = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const first = down.starts[y], base = y * down.length;
    for (let x = 0; x < width * 3; x++) {
      let sum = half;
      for (let i = 0; i < down.counts[y]; i++) sum += data[(first + i) * columns * 3 + x] * down.values[base + i];
      result[y * width * 3 + x] = clip(sum);
    }
  }
  return { data: result, width, height };
}
