// Outlines of objects and hit tests on them. A ring is closed, a flat array x0, y0, x1, y1, ... in picture coordinates; the
// pixel (column, row) covers [column, column + 1] x [row, row + 1]. Holes run the other way round: the non-zero rule.

/** True where the point lies in the rings, by the non-zero rule. */
export function contains(rings, x, y) {
  let winding = 0;
  for (const ring of rings) {
    for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
      const side = (ring[i] - ring[j]) * (y - ring[j + 1]) - (x - ring[j]) * (ring[i + 1] - ring[j + 1]);
      if (ring[j + 1] <= y) {
        if (ring[i + 1] > y && side > 0) winding += 1;
      } else if (ring[i + 1] <= y && side < 0) winding -= 1;
    }
  }
  return winding !== 0;
}

/** Distance of a point to the nearest outline, in picture pixels. */
export function distance(rings, x, y) {
  let best = Infinity;
  for (const ring of rings) {
    for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
      const dx = ring[i] - ring[j];
      const dy = ring[i + 1] - ring[j + 1];
      const length = dx * dx + dy * dy;
      const t = length === 0 ? 0 : Math.max(0, Math.min(1, ((x - ring[j]) * dx + (y - ring[j + 1]) * dy) / length));
      best = Math.min(best, (x - ring[j] - t * dx) ** 2 + (y - ring[j + 1] - t * dy) ** 2);
    }
  }
  return Math.sqrt(best);
}

/** A point well inside an object, for its number: of a grid over its box, the one farthest from the outline. */
export function anchorOf(rings, [left, top, right, bottom], steps = 9) {
  const width = right - left;
  const height = bottom - top;
  let best = [left + width / 2, top + height / 2];
  let depth = -1;
  for (let row = 0; row < steps; row += 1) {
    for (let column = 0; column < steps; column += 1) {
      const x = left + ((column + 0.5) * width) / steps;
      const y = top + ((row + 0.5) * height) / steps;
      if (!contains(rings, x, y)) continue;
      const far = distance(rings, x, y);
      if (far > depth) {
        depth = far;
        best = [x, y];
      }
    }
  }
  return best;
}

/** Objects under a point, smallest first; within `reach` picture pixels of an outline where none holds the point. */
export function objectsAt(shapes, x, y, reach = 0) {
  const inside = (shape, margin) => {
    const [left, top, right, bottom] = shape.box;
    return x >= left - margin && y >= top - margin && x <= right + margin && y <= bottom + margin;
  };
  const smallestFirst = (a, b) => a.area - b.area;
  const hits = shapes.filter((shape) => inside(shape, 0.5) && contains(shape.rings, x, y));
  if (hits.length > 0 || reach <= 0) return hits.sort(smallestFirst);
  return shapes.filter((shape) => inside(shape, reach) && distance(shape.rings, x, y) <= reach).sort(smallestFirst);
}
