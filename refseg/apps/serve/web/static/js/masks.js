// Masks: COCO's run-length encoding to regions, and back from regions to pixels.

/** Run lengths of COCO's compressed text: base-32 digits, continuation bit, differences after the second run. */
export function runsOf(counts) {
  const runs = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0;
    let shift = 0;
    let digit;
    do {
      digit = counts.charCodeAt(at++) - 48;
      value |= (digit & 31) << shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16 && shift < 32) value |= -1 << shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/** A mask's tightest region: { left, top, width, height, bits } with a byte a pixel, row by row; null if empty. */
export function regionOf({ size: [rows], counts }) {
  const runs = runsOf(counts);
  const spans = [];
  let at = 0;
  let [left, right, top, bottom] = [Infinity, -1, Infinity, -1];
  runs.forEach((length, index) => {
    if (index % 2 === 1 && length) {
      for (let start = at; start < at + length; ) {
        const column = Math.floor(start / rows);
        const end = Math.min(at + length, (column + 1) * rows);
        const [first, last] = [start - column * rows, end - 1 - column * rows];
        spans.push([column, first, last]);
        left = Math.min(left, column);
        right = Math.max(right, column);
        top = Math.min(top, first);
        bottom = Math.max(bottom, last);
        start = end;
      }
    }
    at += length;
  });
  if (right < 0) return null;
  const [width, height] = [right - left + 1, bottom - top + 1];
  const bits = new Uint8Array(width * height);
  for (const [column, first, last] of spans)
    for (let row = first; row <= last; row++) bits[(row - top) * width + column - left] = 1;
  return { left, top, width, height, bits };
}

/** Whether a region has the pixel. */
export function has(region, x, y) {
  const [column, row] = [x - region.left, y - region.top];
  return (
    column >= 0 && row >= 0 && column < region.width && row < region.height && region.bits[row * region.width + column] === 1
  );
}

/** What a region has and the others have not; null where nothing is left. */
export function without(region, others) {
  const bits = region.bits.slice();
  let left = 0;
  for (let row = 0; row < region.height; row++)
    for (let column = 0; column < region.width; column++) {
      const at = row * region.width + column;
      if (bits[at] && others.some((other) => has(other, column + region.left, row + region.top))) bits[at] = 0;
      left += bits[at];
    }
  return left ? { ...region, bits } : null;
}

/** The union of regions as a byte a pixel of the whole picture. */
export function union(regions, width, height) {
  const bits = new Uint8Array(width * height);
  for (const region of regions)
    for (let row = 0; row < region.height; row++)
      for (let column = 0; column < region.width; column++)
        if (region.bits[row * region.width + column]) bits[(row + region.top) * width + column + region.left] = 1;
  return bits;
}
