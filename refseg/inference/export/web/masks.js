// Fine masks: the twin of crop_of and paste in refseg/models/instances/masks.py and of refseg/inference/postprocess.py.

import { resize } from "./resize.js";

const { fround } = Math;
const MARGIN = 0.125;
export const OUTSIDE = -10;

function frameOf([x0, y0, x1, y1]) {
  const across = Math.max(MARGIN * (x1 - x0), 1 - (x1 - x0) / 2), down = Math.max(MARGIN * (y1 - y0), 1 - (y1 - y0) / 2);
  return [x0 - across, y0 - down, x1 + across, y1 + down];
}

/** The frame of a box in pixels at side x side; what lies outside of the picture is 128. */
export function cropOf(image, box, side) {
  let [x0, y0, x1, y1] = frameOf(box);
  const across = (x1 - x0) / (side - 1) / 2, down = (y1 - y0) / (side - 1) / 2;
  [x0, y0, x1, y1] = [x0 - across, y0 - down, x1 + across, y1 + down];
  const left = Math.floor(x0) - 1, top = Math.floor(y0) - 1;
  const width = Math.ceil(x1) + 1 - left, height = Math.ceil(y1) + 1 - top;
  const data = new Uint8Array(width * height * 3).fill(128);
  const from = Math.max(left, 0), to = Math.min(left + width, image.width);
  for (let y = Math.max(top, 0); y < Math.min(top + height, image.height); y++) {
    if (to <= from) break;
    data.set(image.data.subarray((y * image.width + from) * 3, (y * image.width + to) * 3), ((y - top) * width + from - left) * 3);
  }
  return resize({ data, width, height }, side, side, [x0 - left, y0 - top, x1 - left, y1 - top]).data;
}

/** Write the logits (side x side) of a box's frame into a map {data, width, height} of a picture. */
export function paste(logits, side, box, map) {
  const [x0, y0, x1, y1] = frameOf(box);
  const positions = (low, high, size) => {
    const first = Math.max(0, Math.ceil(low - 0.5)), last = Math.min(size - 1, Math.floor(high - 0.5));
    const found = [];
    for (let at = first; at <= last; at++) {
      const place = fround(((at + 0.5 - low) / (high - low)) * 2 - 1);
      found.push([at, Math.min(Math.max(((place + 1) / 2) * (side - 1), 0), side - 1)]);
    }
    return found;
  };
  const columns = positions(x0, x1, map.width);
  for (const [row, y] of positions(y0, y1, map.height)) {
    const above = Math.floor(y), below = Math.min(above + 1, side - 1), down = y - above;
    for (const [column, x] of columns) {
      const left = Math.floor(x), right = Math.min(left + 1, side - 1), across = x - left;
      const upper = logits[above * side + left] * (1 - across) + logits[above * side + right] * across;
      const lower = logits[below * side + left] * (1 - across) + logits[below * side + right] * across;
      map.data[row * map.width + column] = upper * (1 - down) + lower * down;
    }
  }
}

/** A map of logits at the size of the picture itself: {mask (0 or 1 a pixel), area, highest (probability), certainty}. */
export function toOriginal(map, width, height, threshold) {
  const axis = (size, available) =>
    Array.from({ length: size }, (_, at) => {
      const centre = Math.min(Math.max((at + 0.5) * (available / size) - 0.5, 0), available - 1), low = Math.floor(centre);
      return [low, Math.min(low + 1, available - 1), fround(centre - low)];
    });
  const columns = axis(width, map.width), mask = new Uint8Array(width * height);
  let area = 0, total = 0, highest = 0;
  axis(height, map.height).forEach(([above, below, down], y) => {
    columns.forEach(([left, right, across], x) => {
      const upper = map.data[above * map.width + left] * (1 - across) + map.data[above * map.width + right] * across;
      const lower = map.data[below * map.width + left] * (1 - across) + map.data[below * map.width + right] * across;
      const probability = 1 / (1 + Math.exp(-(upper * (1 - down) + lower * down)));
      highest = Math.max(highest, probability);
      if (probability > threshold) {
        mask[y * width + x] = 1;
        area += 1;
        total += probability;
      }
    });
  });
  return { mask, area, highest, certainty: area ? total / area : 0 };
}
