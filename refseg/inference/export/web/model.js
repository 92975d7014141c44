// The model `instances` in a browser: three networks of pictures and one of words in onnxruntime-web, the rest here.

import { Chooser, layOut } from "./chooser.js";
import { cropOf, OUTSIDE, paste, toOriginal } from "./masks.js";
import { Parser } from "./parse.js";
import { colourShares, looksDrawn, propose } from "./proposals.js";
import { resize } from "./resize.js";
import { Lexicon, spelled, WordPieces } from "./words.js";

const CROPS_AT_ONCE = 8, MAX_LETTERS = 10000;
const roundHalfEven = (value) => {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low;
};

async function fetched(url, kind) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url.split("/").at(-1)}: the page's folder does not hold it (${answer.status})`);
  return answer[kind]();
}

export class Model {
  /** Load from the folder `base` (an address that ends with /); `ort` is onnxruntime-web. */
  static async load(ort, base) {
    const description = await fetched(`${base}model.json`, "json");
    const { words } = description;
    const session = async (name) =>
      ort.InferenceSession.create(new Uint8Array(await fetched(`${base}${name}.onnx`, "arrayBuffer")), { executionProviders: ["wasm"] });
    const [detector, regions, masks, colours, pieces, anchors] = await Promise.all([
      session("detector"), session("regions"), session("masks"),
      fetched(`${base}colours.bin`, "arrayBuffer"),
      description.language ? fetched(`${base}wordpieces.txt`, "text") : null,
      description.language ? fetched(`${base}anchors.bin`, "arrayBuffer") : null,
    ]);
    const model = new Model();
    Object.assign(model, { ort, description, words, detector, regions, masks, colours: new Float32Array(colours) });
    model.pieces = pieces ? new WordPieces(pieces.replace(/\n+$/, "").split("\n"), description.language.maxWords) : null;
    model.anchors = anchors ? new Float32Array(anchors) : null;
    model.openWords = () => (model.wordsSession ??= session("words"));
    model.lexicon = new Lexicon(words, model.pieces, (word) => model.similarity(word), description.lexicon);
    model.parser = new Parser(words, spelled, (word) => model.lexicon.isWord(word));
    model.chooser = new Chooser(words, description.weights, description.chooser, (word) => model.lexicon.means(word));
    return model;
  }

  /** Cosines of a word with all anchors. */
  async similarity(word) {
    if (!this.pieces) return null;
    const ids = this.pieces.ids(word), session = await this.openWords();
    const { sentence } = await session.run({
      ids: new this.ort.Tensor("int64", BigInt64Array.from(ids.map(BigInt)), [1, ids.length]),
      mask: new this.ort.Tensor("bool", new Uint8Array(ids.length).fill(1), [1, ids.length]),
    });
    const vector = sentence.data, width = vector.length;
    return Array.from({ length: this.anchors.length / width }, (_, row) => {
      let sum = 0;
      for (let at = 0; at < width; at++) sum += vector[at] * this.anchors[row * width + at];
      return sum;
    });
  }

  /** Encode an RGB picture {data, width, height} for all its expressions. */
  async encode(picture) {
    const { input, detector: config } = this.description;
    const scale = input.size / Math.max(picture.width, picture.height);
    const width = Math.max(1, roundHalfEven(picture.width * scale)), height = Math.max(1, roundHalfEven(picture.height * scale));
    const image = resize(picture, width, height);
    const { side } = config, small = resize(image, side, side).data;
    const values = new Float32Array(3 * side * side);
    for (let channel = 0; channel < 3; channel++) {
      for (let at = 0; at < side * side; at++) {
        values[channel * side * side + at] = (small[at * 3 + channel] - config.mean[channel]) / config.std[channel];
      }
    }
    const outputs = await this.detector.run({ images: new this.ort.Tensor("float32", values, [1, 3, side, side]) });
    const rows = propose(outputs, this.words, config.proposals, side);
    const boxes = rows.map((row) => row.box);
    let colours = [];
    if (rows.length) {
      const inputs = { boxes: new this.ort.Tensor("float32", Float32Array.from(boxes.flat(), (value) => value * side), [rows.length, 4]) };
      for (const name of this.regions.inputNames) {
        if (name !== "boxes") inputs[name] = new this.ort.Tensor("float32", outputs[name].data, outputs[name].dims.slice(1));
      }
      const { masks } = await this.regions.run(inputs);
      colours = colourShares(image, rows, masks, this.colours, this.words.colourNames.length);
    }
    const candidates = { classProbs: rows.map((row) => row.chance), colours, layout: layOut(boxes, height, width), drawn: looksDrawn(outputs.second_logits, this.words) };
    return { picture: { width: picture.width, height: picture.height }, image, boxes, candidates, fine: new Map() };
  }

  /** What an expression means: {text, noTarget, noTargetScore, score, mask, instances: [{mask, box, label, score}], remarks}. */
  async ask(state, text, { threshold, noTargetThreshold } = this.description.thresholds) {
    const cleaned = text.replace(/\s+/gu, " ").replace(/\p{Cc}/gu, "").trim();
    if (!cleaned) throw new Error("the expression is empty; say what to look for, such as 'the dog on the left'");
    if (cleaned.length > MAX_LETTERS) throw new Error(`an expression of ${cleaned.length} letters: at most ${MAX_LETTERS} are taken`);
    const expression = this.parser.parse(this.cut(cleaned));
    await this.lexicon.learn(this.chooser.wordsOf(expression));
    const choice = this.chooser.choose(expression, state.candidates);
    const chosen = choice.logits.map((_, at) => at).sort((one, other) => choice.logits[other] - choice.logits[one] || one - other)
      .filter((at) => choice.logits[at] > 0).slice(0, this.description.maxMasks);
    const words = this.parser.heard(expression, (phrase) => this.chooser.meaning(phrase));
    const remarks = this.remarks(expression, choice, words);
    const { width, height } = state.picture;
    let noTargetScore = 1 / (1 + Math.exp(-choice.noTarget)), noTarget = noTargetScore > noTargetThreshold;
    const empty = { text: cleaned, mask: new Uint8Array(width * height), instances: [], remarks };
    if (noTarget) return { ...empty, noTarget, noTargetScore, score: 1 - noTargetScore };
    const maps = await this.fineMasks(state, chosen);
    const union = { width: state.image.width, height: state.image.height, data: new Float32Array(state.image.width * state.image.height).fill(OUTSIDE) };
    for (const map of maps) map.data.forEach((value, at) => (union.data[at] = Math.max(union.data[at], value)));
    const whole = toOriginal(union, width, height, threshold);
    if (!whole.area) {
      noTargetScore = Math.max(noTargetScore, 1 - whole.highest);
      return { ...empty, noTarget: true, noTargetScore, score: 1 - noTargetScore };
    }
    const instances = chosen.map((row, at) => ({
      mask: toOriginal(maps[at], width, height, threshold).mask,
      box: state.boxes[row].map((value, i) => value * (i % 2 ? height : width)),
      label: this.words.classes[choice.labels[row]],
      score: state.candidates.classProbs[row][choice.labels[row]],
    }));
    return { text: cleaned, noTarget: false, noTargetScore, score: whole.certainty, mask: whole.mask, instances, remarks };
  }

  /** The text as far as the tokenizer reads it. */
  cut(text) {
    const bytes = new TextEncoder().encode(text);
    return bytes.length <= this.description.maxBytes
      ? text
      : new TextDecoder().decode(bytes.slice(0, this.description.maxBytes)).replace(/\uFFFD+$/u, "");
  }

  async fineMasks(state, chosen) {
    const side = this.description.crop, missing = chosen.filter((row) => !state.fine.has(row));
    const { image } = state;
    const pixels = (row) => state.boxes[row].map((value, i) => value * (i % 2 ? image.height : image.width));
    for (let start = 0; start < missing.length; start += CROPS_AT_ONCE) {
      const part = missing.slice(start, start + CROPS_AT_ONCE);
      const crops = new Uint8Array(part.length * side * side * 3);
      part.forEach((row, at) => crops.set(cropOf(image, pixels(row), side), at * side * side * 3));
      const { logits } = await this.masks.run({ crops: new this.ort.Tensor("uint8", crops, [part.length, side, side, 3]) });
      part.forEach((row, at) => {
        const map = { width: image.width, height: image.height, data: new Float32Array(image.width * image.height).fill(OUTSIDE) };
        paste(logits.data.subarray(at * side * side, (at + 1) * side * side), side, pixels(row), map);
        state.fine.set(row, map);
      });
    }
    return chosen.map((row) => state.fine.get(row));
  }

  remarks(expression, choice, words) {
    const said = expression.slips.map(([wrong, right]) => `“${wrong}” was read as “${right}”`);
    if (expression.cut) said.push("the expression is longer than the model reads");
    said.push(...words.read_as.map(([action, instead]) => `“${action}” was read as “${instead}”`));
    said.push(...expression.unchecked.map((piece) => `not checked: “${piece}”`));
    if (words.ignored.length) said.push(`not used: ${words.ignored.slice(0, 6).join(", ")}`);
    if (words.ignored.length || words.read_as.length || expression.unchecked.length) {
      said.push(`used: ${words.used.join(", ") || "nothing"}`);
    }
    if (choice.noTarget > 0) said.push(...choice.reasons);
    return said;
  }
}
