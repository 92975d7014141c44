// Proposals of a picture: the twin of refseg/models/instances/proposals.py after the detector's network.

const { fround } = Math;
const sigmoid = (value) => fround(1 / (1 + Math.exp(-value)));

function iou(one, other) {
  const across = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const down = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const shared = Math.max(across, 0) * Math.max(down, 0);
  const area = (box) => Math.max(box[2] - box[0], 0) * Math.max(box[3] - box[1], 0);
  return shared / Math.max(area(one) + area(other) - shared, 1e-38);
}

const byScore = (rows) => rows.sort((one, other) => other.score - one.score || one.place - other.place);

function labelOf(chance, left = -1) {
  let best = -1;
  for (let at = 0; at < chance.length; at++) if (at !== left && (best < 0 || chance[at] > chance[best])) best = at;
  return best;
}

/** A head's boxes after suppression: [{box (0 to 1), chance (a probability a class), label, score, place}]. */
function bestOf(boxes, logits, second, words, config, side) {
  const outputs = logits.dims[2], places = logits.dims[1];
  let rows = [];
  for (let place = 0; place < places; place++) {
    let most = -Infinity;
    for (let at = 0; at < outputs; at++) most = Math.max(most, logits.data[place * outputs + at]);
    rows.push({ place, score: sigmoid(most) });
  }
  rows = byScore(rows).slice(0, config.candidates).filter((row) => row.score >= fround(config.min_score));
  const person = words.classes.indexOf("person"), people = words.people.map((name) => words.classes.indexOf(name));
  for (const row of rows) {
    row.box = [0, 1, 2, 3].map((i) => fround(Math.min(Math.max(boxes.data[row.place * 4 + i], 0), side) / side));
    row.chance = new Float32Array(words.classes.length);
    for (let at = 0; at < outputs; at++) {
      const column = second ? words.secondColumns[at] : at;
      row.chance[column] = Math.max(row.chance[column], sigmoid(logits.data[row.place * outputs + at]));
    }
    if (second) row.chance[person] = Math.max(row.chance[person], ...people.map((at) => row.chance[at]));
    row.label = labelOf(row.chance, second ? person : -1);
  }
  rows = rows.filter(({ box }) => box[2] - box[0] > 1e-3 && box[3] - box[1] > 1e-3);
  const kept = [];
  for (const row of rows) if (!kept.some((other) => other.label === row.label && iou(other.box, row.box) > config.overlap)) kept.push(row);
  return kept;
}

/** One proposal for boxes of both heads that are one thing. */
function merge(rows, parts, overlap) {
  rows.forEach((row, place) => {
    row.place = place;
    row.label = labelOf(row.chance);
    row.score = row.chance[row.label];
    row.part = parts.has(row.label);
  });
  const left = byScore([...rows]), merged = [];
  while (left.length) {
    const first = left.shift();
    const same = (row) => iou(first.box, row.box) > overlap && ((!first.part && !row.part) || first.label === row.label);
    const chance = first.chance.slice();
    for (let at = 0; at < left.length; ) {
      if (!same(left[at])) {
        at += 1;
        continue;
      }
      left[at].chance.forEach((value, column) => (chance[column] = Math.max(chance[column], value)));
      left.splice(at, 1);
    }
    merged.push({ box: first.box, chance });
  }
  return merged;
}

/** Boxes and probabilities of a picture's proposals from the detector's outputs. */
export function propose(outputs, words, config, side) {
  const rows = [
    ...bestOf(outputs.boxes, outputs.logits, false, words, config, side),
    ...bestOf(outputs.second_boxes, outputs.second_logits, true, words, config, side),
  ];
  const parts = new Set(words.partClasses.map((name) => words.classes.indexOf(name)));
  return merge(rows, parts, config.merge_overlap).slice(0, config.most);
}

/** 0 to 1: how surely something drawn was found. */
export function looksDrawn(logits, words) {
  let most = -Infinity;
  for (let at = 0; at < logits.data.length; at++) if (words.drawnOutputs.includes(at % logits.dims[2])) most = Math.max(most, logits.data[at]);
  return Math.min(1, 2 * sigmoid(most));
}

/** Shares of the colour names in each box, weighted with its coarse mask; `table` has a row a colour. */
export function colourShares(image, rows, masks, table, names) {
  const size = masks.dims[1];
  return rows.map(({ box }, number) => {
    const shares = new Float64Array(names);
    let total = 0;
    const at = (low, high, i, most) =>
      Math.min(Math.max(Math.trunc(fround(fround(low + fround(fround(high - low) * fround((i + 0.5) / size))) * most)), 0), most - 1);
    for (let i = 0; i < size; i++) {
      const y = at(box[1], box[3], i, image.height);
      for (let j = 0; j < size; j++) {
        const x = at(box[0], box[2], j, image.width), pixel = (y * image.width + x) * 3;
        const code = ((image.data[pixel] >> 3) << 10) | ((image.data[pixel + 1] >> 3) << 5) | (image.data[pixel + 2] >> 3);
        const weight = sigmoid(masks.data[(number * size + i) * size + j]) ** 2 + 1e-6;
        total += weight;
        for (let name = 0; name < names; name++) shares[name] += weight * table[code * names + name];
      }
    }
    return [...shares].map((value) => value / total);
  });
}
