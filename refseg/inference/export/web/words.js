// Nouns to class weights: the twin of refseg/models/instances/{words,spelling,nouns}.py and of WordPieces in encoders/text/minilm.py.

const SAID = 0.9, SURELY_NONE = 0.5, NEAR_MISS = 0.15;
const LETTERS = "abcdefghijklmnopqrstuvwxyz";

function* slips(word) {
  for (let at = 0; at <= word.length; at++) {
    const head = word.slice(0, at), tail = word.slice(at);
    if (tail) yield head + tail.slice(1);
    if (tail.length > 1) yield head + tail[1] + tail[0] + tail.slice(2);
    for (const letter of LETTERS) {
      yield head + letter + tail;
      if (tail) yield head + letter + tail.slice(1);
    }
  }
}

const squeeze = (word) => [...word].filter((letter, at) => at === 0 || word[at - 1] !== letter).join("");
const sorted = (word) => [...word].sort().join("");
const squeezed = new WeakMap();

/** The known word (a Map's key) as which a misspelt one is read, or null; `frequency`: word -> rank, larger first. */
export function spelled(word, known, frequency) {
  if (!/^[a-z]{3,24}$/i.test(word)) return null;
  const least = Math.min(word.length, 4) - (word.length > 4 ? 1 : 0);
  let found = new Set();
  for (const other of slips(word)) if (known.has(other) && other.length >= least) found.add(other);
  if (word.length === 3) found = new Set([...found].filter((other) => sorted(other) === sorted(word)));
  if (!found.size && word.length >= 7) {
    if (!squeezed.has(known)) {
      const table = new Map();
      for (const other of known.keys()) table.set(squeeze(other), [...(table.get(squeeze(other)) ?? []), other]);
      squeezed.set(known, table);
    }
    found = new Set(squeezed.get(known).get(squeeze(word)) ?? []);
  }
  if (!found.size) return null;
  const rank = (other) => [
    Number(other[0] !== word[0]), Number(sorted(other) !== sorted(word)), Number(squeeze(other) !== squeeze(word)),
    -(frequency.get(other) ?? -1e6),
  ];
  const first = (one, other) => {
    const left = rank(one), right = rank(other);
    const at = left.findIndex((value, i) => value !== right[i]);
    return at < 0 ? 0 : left[at] - right[at];
  };
  return [...found].sort(first)[0];
}

/** BERT's basic tokens: lower case without accents, punctuation marks by themselves. */
export function splitWords(text) {
  const plain = text.toLowerCase().normalize("NFD").replace(/\p{Mn}/gu, "");
  return plain.replace(/[!-/:-@[-`{-~]|\p{P}/gu, (mark) => ` ${mark} `).split(/\s+/).filter(Boolean);
}

export class WordPieces {
  constructor(pieces, maxWords) {
    this.numbers = new Map(pieces.map((piece, number) => [piece, number]));
    this.maxWords = maxWords;
  }

  ids(text) {
    const inner = splitWords(text).flatMap((word) => this.split(word)).slice(0, this.maxWords - 2);
    return [this.numbers.get("[CLS]"), ...inner, this.numbers.get("[SEP]")];
  }

  split(word) {
    const found = [];
    let start = 0;
    while (start < word.length) {
      let end = Math.min(word.length, start + 24);
      let piece;
      for (; end > start; end--) {
        piece = this.numbers.get(start === 0 ? word.slice(0, end) : `##${word.slice(start, end)}`);
        if (piece !== undefined) break;
      }
      if (piece === undefined) return [this.numbers.get("[UNK]")];
      found.push(piece);
      start = end;
    }
    return found;
  }
}

/** A guess at the singular. */
function singular(word) {
  const ends = [["ies", "y"], ["ves", "f"], ["ches", "ch"], ["shes", "sh"], ["sses", "ss"], ["xes", "x"], ["s", ""]];
  for (const [end, instead] of ends) {
    if (word.endsWith(end) && word.length > end.length + 2 && !word.endsWith("ss")) return word.slice(0, -end.length) + instead;
  }
  return word;
}

/** Meanings {word, weights: [[class, weight]], how, readAs}; `similarity(word)` gives cosines with all anchors, or null. */
export class Lexicon {
  constructor(words, pieces, similarity, { temperature, least }) {
    this.index = new Map(words.classes.map((name, number) => [name, number]));
    this.table = new Map(Object.entries(words.table));
    this.order = new Map([...this.table.keys()].map((name, place) => [name, -place]));
    this.anchors = words.anchors; // [noun, class or "none"]
    this.anchorOf = new Map(words.anchors);
    this.pieces = pieces;
    this.similarity = similarity;
    this.temperature = temperature;
    this.least = least;
    this.kept = new Map();
  }

  isWord(word) {
    return this.anchorOf.has(word) || (this.pieces?.numbers.has(word) ?? false);
  }

  async learn(words) {
    for (const word of words) if (!this.kept.has(word)) this.kept.set(word, await this.lookUp(word));
  }

  means(word) {
    return this.kept.get(word);
  }

  named(word) {
    const shares = this.table.get(word);
    if (shares === undefined) return null;
    const how = Math.max(...Object.values(shares)) === 1 ? "name" : "said";
    return { word, weights: Object.entries(shares).map(([name, share]) => [this.index.get(name), share]), how, readAs: "" };
  }

  async lookUp(word) {
    const found = this.named(word);
    if (found) return found;
    const noun = this.anchorOf.get(word) ?? this.anchorOf.get(singular(word));
    if (noun !== undefined) {
      const none = noun === "none";
      return { word, weights: none ? [] : [[this.index.get(noun), SAID]], how: none ? "none" : "said", readAs: noun };
    }
    if (!word.includes(" ") && !(this.pieces?.numbers.has(word) ?? false)) {
      const other = spelled(word, this.table, this.order);
      if (other !== null) return { ...this.named(other), word, how: "spelling", readAs: other };
    }
    return this.similar(word);
  }

  async similar(word) {
    const cosines = await this.similarity(word);
    if (cosines === null) return { word, weights: [], how: "unknown", readAs: "" };
    const best = new Map();
    this.anchors.forEach(([noun, name], at) => {
      if (cosines[at] > (best.get(name)?.[0] ?? -1)) best.set(name, [cosines[at], noun]);
    });
    let first = null;
    for (const name of best.keys()) if (first === null || best.get(name)[0] > best.get(first)[0]) first = name;
    const [largest, nearest] = best.get(first);
    if (largest < this.least) return { word, weights: [], how: "unknown", readAs: nearest };
    const grown = [...best].map(([name, [value]]) => [name, Math.exp((value - largest) / this.temperature)]);
    const total = grown.reduce((sum, [, value]) => sum + value, 0);
    const weights = grown.map(([name, value]) => [name, value / total]).filter(([name, share]) => name !== "none" && share >= NEAR_MISS);
    if (first === "none" && largest < SURELY_NONE) return { word, weights: [], how: "unknown", readAs: nearest };
    if (first === "none" || !weights.length) return { word, weights: [], how: "none", readAs: nearest };
    const most = Math.max(...weights.map(([, share]) => share));
    return { word, weights: weights.map(([name, share]) => [this.index.get(name), (SAID * share) / most]), how: "similar", readAs: nearest };
  }
}
