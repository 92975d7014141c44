// Referring expressions as structures: the twin of refseg/models/instances/{expression,links,phrases,words,structure}.py.
// `parse` gives {text, phrases, used, ignored, slips, cut, unchecked, read_as, words, placed}, as structure.py.

const has = (map, key) => Object.prototype.hasOwnProperty.call(map, key);
const unique = (list) => [...new Set(list)];
const EDGE = "[\\p{L}\\p{N}_]";
const START = `(?<!${EDGE})`, END = `(?!${EDGE})`; // word boundaries of any script
const CLOCK = new RegExp(`${START}(?:at |at the )?(1[0-2]|[1-9]) ?o ?'? ?cl(?:o|oc|ock)${END}`, "gu");
const OUTERMOST = new RegExp(
  `${START}(?:very far|far|furthest|farthest|most|extreme|very|all the way)(?: over)?(?: on| to| at)?(?: the)?` +
    ` (left|right|top|bottom)${END}|${START}(left|right|top|bottom) most${END}`,
  "gu",
);
const HYPHENS = new RegExp(`${START}(${EDGE}+)-(most|hand)${END}`, "gu");
const GROWN = new RegExp(`${START}grown[- ]?(ups|up)${END}`, "gu");
const NUMBERED = new RegExp(`${START}(\\d+) (st|nd|rd|th)${END}`, "gu");
const CONTRACTED = new RegExp(`${START}(is|are|was|were|do|does|did|has|have)n'?t${END}`, "gu");
const SHIRT = new RegExp(`${START}t shirt`, "gu");
const WORD = /[a-z0-9]+(?:'[a-z]+)?|[,;]/g;
const CUT_OFF = new RegExp(
  `${START}(?:(?:mostly |partly |partially |half |almost |slightly |barely )*(?:cut ?off|cropped(?: out| off)?|` +
    "out of (?:the )?(?:view|picture|pic|frame|shot|image|photo|screen))|" +
    `(?:partial|partially|partly|barely|half|hardly) (?:(?:in|shown|showing|visible|seen|in view)${END})|` +
    `(?:partial|partially|partly)(?: view of)?|(?:all|only)(?: that)? you (?:can )?see is(?: a)?(?: bit| part| piece)?)${END}`,
  "gu",
);
const AFTER_ADVERB = ["in", "over", "alone", "around", "the", "about", "by", "dressed", ""];
const HOUR = "hour";
const CLOSENESS = ["nearest", "closest", "near", "closer"];
const EVERYONE = ["all", "everyone", "everybody"];
const JOINS = ["and", ",", "plus"];

export const emptyPhrase = () => ({
  head: "", also: [], colours: [], size: "", places: [], rank: null, count: 0, many: false, relations: [],
  traits: [], excluded: null, unknown: [], not_colours: [],
});
const emptySegment = () => ({ name: "", said: [], words: [] });
const NEGATABLE = [
  "next_to", "nearest", "on", "in", "under", "behind", "in_front_of", "with", "left_of", "right_of", "above",
];

export class Parser {
  /** `words`: the lists of words.json, `spelled`: (word, known, frequency) -> word or null, `isWord`: word -> boolean. */
  constructor(words, spelled, isWord) {
    this.words = words;
    this.spelled = spelled;
    this.isWord = isWord;
    this.sets = {};
    for (const name of [
      "strong", "quantifiers", "picture", "pronouns", "partitives", "containers", "garments", "parts", "fillers",
      "pluralPeople", "noPlural", "notPlacesAfter", "bodySides", "patterns", "actions", "looks", "negations", "animate",
      "attributive", "possessing", "readAsWith",
    ]) this.sets[name] = new Set(words[name]);
    this.table = new Map(Object.entries(words.table));
    this.placedNames = new Set([...this.table.keys()].filter(
      (name) => name.includes(" ") && name.split(" ").some((word) => has(words.sides, word))));
    const linking = [...words.links.map(([wording]) => wording), ...words.excluding].flatMap((each) => each.split(" "));
    this.lists = new Set([
      ...words.known, ...[...this.table.keys()].flatMap((name) => name.split(" ")), ...words.picture, ...words.strong,
      ...words.fillers, ...linking,
    ]);
    const told = new Set([...words.actions, ...words.looks, ...words.negations]);
    const silent = [...words.fillers, ...words.picture, ...words.pronouns, ...words.partitives, ...linking, ",", "and"];
    this.silent = new Set(silent.filter((word) => !told.has(word)));
    const links = words.links.map(([wording, name]) => [wording.split(" "), name]);
    links.sort((one, other) => other[0].length - one[0].length); // stable, as Python's
    this.links = new Map();
    for (const link of links) {
      if (!this.links.has(link[0][0])) this.links.set(link[0][0], []);
      this.links.get(link[0][0]).push(link);
    }
    const ordered = [
      "the", "and", ...words.known, ...words.frequentLinks,
      ...[...this.table.keys()].filter((word) => /^\p{L}+$/u.test(word)),
    ];
    this.frequency = new Map();
    unique(ordered).forEach((word, place) => {
      if (word.length >= 3) this.frequency.set(word, -place);
    });
  }

  parse(text) {
    let words = this.wordsOf(text);
    const cut = words.length > this.words.maxWords;
    const slips = [];
    words = this.withPlacedNames(words.slice(0, this.words.maxWords).map((word) => this.repaired(word, slips)));
    const notes = { used: [], unchecked: [] };
    const phrases = this.union(words, notes);
    const expression = {
      text, phrases, used: [], ignored: [], slips, cut, unchecked: unique(notes.unchecked), read_as: [], words,
      placed: unique(notes.used),
    };
    return { ...expression, ...this.heard(expression, null) };
  }

  // ---- heard, of expression.py
  /** {used, ignored, read_as} of an expression; `meaningOf`: phrase -> meaning or null (`Chooser.meaning`), or null. */
  heard(expression, meaningOf) {
    const used = new Set(expression.placed);
    const readAs = expression.phrases.flatMap((phrase) => this.collect(phrase, used, meaningOf));
    const told = new Set([...expression.unchecked.flatMap((piece) => piece.split(" ")), ...readAs.map(([word]) => word)]);
    const order = expression.words.flatMap((word) => word.split(" "));
    return {
      used: unique(order.filter((word) => used.has(word) && !["the", "a", "an"].includes(word))),
      ignored: unique(order.filter((word) => !used.has(word) && !this.silent.has(word) && !told.has(word) && word.length > 1)),
      read_as: unique(readAs.map((pair) => pair.join("\n"))).map((pair) => pair.split("\n")),
    };
  }

  /** The noun that gives a phrase its meaning; null where none does, "" where it has none and needs none. */
  noun(phrase, meaningOf) {
    if (meaningOf) {
      const meaning = meaningOf(phrase);
      if (meaning === null) return "";
      return meaning.weights.length ? meaning.word : null;
    }
    if (phrase.head) return this.sets.pronouns.has(phrase.head) ? "" : phrase.head;
    return phrase.traits.at(-1) ?? (phrase.unknown.length ? null : "");
  }

  collect(phrase, used, meaningOf) {
    const { actions, possessing, readAsWith } = this.sets;
    const noun = this.noun(phrase, meaningOf), spoken = [noun ?? "", phrase.size, ...phrase.colours, ...phrase.not_colours];
    if (noun) spoken.push(...phrase.also);
    if (phrase.colours.length || phrase.not_colours.length) spoken.push(...phrase.traits);
    for (const word of spoken.flatMap((name) => name.split(" "))) if (word) used.add(word);
    const readAs = phrase.excluded === null ? [] : this.collect(phrase.excluded, used, meaningOf);
    for (const link of phrase.relations) {
      if (!this.counts(link, meaningOf)) continue;
      for (const word of link.said) {
        if (readAsWith.has(word)) readAs.push([word, "with"]);
        else if (!actions.has(word) || possessing.has(word)) used.add(word);
      }
      for (const anchor of link.anchors) readAs.push(...this.collect(anchor, used, meaningOf));
    }
    return readAs;
  }

  counts(link, meaningOf) {
    return link.anchors.every((anchor) => {
      const noun = this.noun(anchor, meaningOf);
      return noun !== null && (noun !== "" || anchor.places.length > 0 || anchor.rank !== null);
    });
  }

  wordsOf(text) {
    let plain = text.normalize("NFKC").toLowerCase().replaceAll("\u2019", "'").replaceAll("`", "'");
    plain = plain.replace(CLOCK, (_, hour) => ` ${HOUR}${hour} `);
    plain = plain.replaceAll("t-shirt", "tshirt").replaceAll("w/", "with ").replaceAll("&", " and ");
    plain = plain.replace(SHIRT, "tshirt").replace(HYPHENS, "$1$2").replace(CONTRACTED, "$1 not").replace(GROWN, "grown$1");
    plain = plain.replace(CUT_OFF, " cutoff ").replace(OUTERMOST, (_, first, second) => ` ${first || second}most `);
    plain = plain.replace(NUMBERED, "$1$2").replace(/[.!?]+/g, " , ");
    const words = (plain.match(WORD) ?? []).map((word) => {
      const at = word.indexOf("'");
      if (at < 0) return word;
      const end = word.slice(at + 1);
      return end === "s" || end === "" ? word.slice(0, at) : word.replaceAll("'", "");
    });
    while (words.length && words.at(-1) === ",") words.pop();
    return words;
  }

  repaired(word, slips) {
    if (this.lists.has(word) || word === "," || word.startsWith(HOUR) || word.length < 3 || this.isWord(word)) return word;
    const other = this.spelled(word, this.frequency, this.frequency);
    if (other) slips.push([word, other]);
    return other || word;
  }

  /** The words with each name that holds the word of a side ("front left door") as one. */
  withPlacedNames(words) {
    const result = [];
    for (let at = 0; at < words.length; ) {
      const length = [4, 3, 2].find((n) => at + n <= words.length && this.placedNames.has(words.slice(at, at + n).join(" "))) ?? 1;
      result.push(words.slice(at, at + length).join(" "));
      at += length;
    }
    return result;
  }

  // ---- words.py
  isNoun(word) {
    const { words, sets } = this;
    if (sets.fillers.has(word) || has(words.sides, word) || (has(words.colours, word) && word !== "orange")) return false;
    return this.table.has(word) || (sets.pronouns.has(word) && !["it", "other", "others"].includes(word));
  }

  nounIn(words) {
    return words.some((word) => this.isNoun(word) || ["piece", "slice", "pair", "group"].includes(word));
  }

  isCertain(noun) {
    return Math.max(0, ...Object.values(this.table.get(noun) ?? {})) >= 0.9;
  }

  isTrait(noun) {
    return this.sets.garments.has(noun) || this.sets.parts.has(noun);
  }

  isPlural(noun) {
    if (this.sets.pluralPeople.has(noun)) return true;
    const last = noun ? noun.split(" ").at(-1) : "";
    if (this.sets.noPlural.has(last) || !last.endsWith("s") || last.endsWith("ss")) return false;
    const stems = [noun.slice(0, -1), noun.slice(0, -2), `${noun.slice(0, -3)}y`, `${noun.slice(0, -3)}f`, `${noun.slice(0, -3)}fe`];
    return stems.some((stem) => this.table.has(stem));
  }

  linkAt(words, at) {
    for (const [wording, name] of this.links.get(words[at]) ?? []) {
      if (wording.every((word, i) => words[at + i] === word)) return [name, wording.length];
    }
    return null;
  }

  // ---- expression.py
  union(words, notes) {
    for (const [at, excluding] of this.excluding(words)) {
      let before = words.slice(0, at);
      const after = words.slice(at + excluding.length);
      if (EVERYONE.includes(excluding[0])) before = [...before, excluding[0]];
      if (before.length && after.length) {
        let base = this.readPhrase(before, notes), out = this.readPhrase(after, notes);
        if (!base.head || this.sets.pronouns.has(base.head)) base = { ...base, head: base.head || out.head, many: true };
        if (!out.head || this.sets.pronouns.has(out.head)) out = { ...out, head: base.head, also: base.also };
        notes.used.push(...excluding);
        return [{ ...base, excluded: out, many: base.many || !excluding.includes("not") }];
      }
    }
    const parts = this.conjuncts(words);
    let phrases = parts.map((part) => this.readPhrase(part, notes));
    const only = phrases[0];
    if (phrases.length === 1 && !only.head && only.unknown.length && !only.relations.length) {
      const noun = words.find((word) => this.isNoun(word) && !this.sets.pronouns.has(word)) ?? "";
      phrases = [{ ...only, head: noun, many: only.many || this.isPlural(noun) }];
    }
    if (phrases.length > 1) {
      notes.used.push("and");
      const tail = parts.at(-1).slice(1);
      const shared = tail.includes("both") || tail.includes("all") ? phrases.at(-1).colours : [];
      phrases = phrases.map((phrase) => ({ ...phrase, colours: phrase.colours.length ? phrase.colours : shared }));
      if (tail.includes("both")) {
        const last = phrases.at(-1);
        phrases[phrases.length - 1] = { ...last, count: 0, many: this.isPlural(last.head) };
      }
    }
    return phrases;
  }

  excluding(words) {
    for (const wording of this.words.excluding) {
      const parts = wording.split(" ");
      for (let at = 0; at < words.length - parts.length; at++) {
        if (parts.every((part, i) => words[at + i] === part) && (at > 0 || EVERYONE.includes(parts[0]))) return [[at, parts]];
      }
    }
    if (words.slice(1, -1).includes("but")) {
      const at = words.indexOf("but");
      if (words.slice(0, at).some((word) => this.sets.quantifiers.has(word))) return [[at, ["but"]]];
    }
    return [];
  }

  conjuncts(given) {
    const text = given.join(" ").replaceAll("as well as", "and").replaceAll("along with", "and").replaceAll("and also", "and");
    const words = this.withPlacedNames(text.replaceAll(", and", "and").split(" ").filter(Boolean));
    const parts = [[]];
    words.forEach((word, at) => {
      const rest = words.slice(at + 1), part = parts.at(-1);
      const joins = JOINS.includes(word) && part.length > 0 && rest.length > 0 &&
        ((this.startsPhrase(rest) && !this.continues(part, rest)) || this.twoGarments(part, rest));
      if (joins) parts.push([]);
      else part.push(word);
    });
    if (parts.length === 1 || !parts.every((part) => this.nounIn(this.untilJoin(part)))) return [words];
    return parts;
  }

  untilJoin(words) {
    for (let at = 1; at < words.length; at++) {
      if (!CLOSENESS.includes(words[at]) && this.linkAt(words, at) !== null) return words.slice(0, at);
    }
    return words;
  }

  startsPhrase(rest) {
    const nouns = this.untilJoin(rest).filter((word) => this.nounIn([word]));
    return nouns.length > 0 && !this.isTrait(nouns.at(-1));
  }

  continues(part, rest) {
    const links = part.map((_, at) => this.linkAt(part, at)).filter((link) => link !== null).map((link) => link[0]);
    if (links.includes("between") && !part.includes("and")) return true;
    if (links.at(-1) === "wearing") return !this.startsPhrase(rest);
    return ["with", "of"].includes(links.at(-1)) && !["the", "a", "an"].includes(rest[0]);
  }

  twoGarments(part, rest) {
    const { garments } = this.sets;
    const alone = part.every((word) => garments.has(word) || !this.nounIn([word])) && part.every((_, at) => this.linkAt(part, at) === null);
    const each = [part, rest].every((words) => words[0] === "the" || words.slice(0, 2).some((word) => has(this.words.sizes, word)));
    return alone && each && rest.some((word) => garments.has(word));
  }

  // ---- phrases.py and links.py
  readPhrase(words, notes, depth = 0) {
    const segments = [emptySegment()];
    let at = 0;
    while (at < words.length) {
      let link = this.linkAt(words, at);
      if (link !== null && CLOSENESS.includes(words[at]) && segments.length === 1 && !this.hasContent(segments[0].words)) {
        link = link[1] === 1 ? null : link;
      }
      if (link !== null && !this.isCompound(words, at) && !this.isAttribute(words, at, segments)) {
        segments.push({ name: link[0], said: words.slice(at, at + link[1]), words: [] });
        at += link[1];
        continue;
      }
      segments.at(-1).words.push(words[at]);
      at += 1;
    }
    let phrase = this.simple(segments[0].words, notes);
    at = 1;
    while (at < segments.length) {
      const segment = segments[at];
      const last = phrase.relations.at(-1);
      if (["wearing", "with", "in"].includes(segment.name) && last && this.dresses(segment.words, last)) {
        const [anchor] = this.linked(last.anchors.at(-1), segment, emptySegment(), notes, 3);
        const dressed = { ...last, anchors: [...last.anchors.slice(0, -1), anchor] };
        phrase = { ...phrase, relations: [...phrase.relations.slice(0, -1), dressed] };
        at += 1;
        continue;
      }
      const [next, eaten] = this.linked(phrase, segment, segments[at + 1] ?? emptySegment(), notes, depth);
      phrase = next;
      at += 1 + eaten;
    }
    return phrase;
  }

  dresses(inner, last) {
    const person = (this.table.get(last.anchors.at(-1).head)?.person ?? 0) >= 0.9;
    const nouns = inner.filter((word) => this.isNoun(word));
    const worn = nouns.every((noun) => this.isTrait(noun)) &&
      inner.some((word) => has(this.words.colours, word) || this.isTrait(word));
    return person && worn && !inner.some((word) => has(this.words.sides, word) && !this.sets.garments.has(word));
  }

  hasContent(words) {
    const { fillers } = this.sets;
    return words.some((word) => !fillers.has(word) && !has(this.words.colours, word) && !has(this.words.numbers, word));
  }

  isCompound(words, at) {
    return words[at] === "front" || (words[at] === "no" && words[at + 1] === "one");
  }

  isAttribute(words, at, segments) {
    const { attributive, animate } = this.sets;
    if (!attributive.has(words[at]) || segments.length > 1 || this.nounIn(segments[0].words) || at + 1 >= words.length) return false;
    return Object.entries(this.table.get(words[at + 1]) ?? {}).some(([name, share]) => share >= 0.9 && animate.has(name));
  }

  isOfPicture(words) {
    return words.every((word) => this.sets.picture.has(word) || this.sets.fillers.has(word));
  }

  linked(given, segment, following, notes, depth) {
    const { name, said } = segment;
    let phrase = given, inner = segment.words;
    const { garments, parts, pronouns, partitives, containers } = this.sets;
    if (name === "without") return this.without(phrase, segment, following, notes);
    if (!inner.length && ["with", "wearing", "next_to", "in", "on", "to", "of", "from"].includes(name)) return [phrase, 0];
    if (name === "facing") return [phrase, 0];
    if (name === "to" || name === "from") {
      const side = inner.find((word) => has(this.words.sides, word));
      if (name === "from" && side !== undefined && phrase.rank !== null) {
        notes.used.push("from", ...inner);
        return [{ ...phrase, rank: { number: phrase.rank.number, side: this.words.sides[side] } }, 0];
      }
      const inside = this.simple(inner, { used: [], unchecked: [] });
      if (inside.places.length) notes.used.push(...inner.filter((word) => has(this.words.sides, word)));
      return [{ ...phrase, places: [...phrase.places, ...halves(inside.places)] }, 0];
    }
    if (this.isOfPicture(inner) && ["behind", "in_front_of", "left_of", "right_of", "nearest", "of"].includes(name)) {
      const nearby = { behind: "far", in_front_of: "near", left_of: "left", right_of: "right", nearest: "near" }[name];
      notes.used.push(...said);
      if (nearby === undefined) return [phrase, 0];
      if (following.name === "of" && this.isOfPicture(following.words)) {
        return [{ ...phrase, places: [...phrase.places, place(nearby, false, true)] }, 1];
      }
      return [{ ...phrase, places: [...phrase.places, place(nearby, false, nearby === "left" || nearby === "right")] }, 0];
    }
    let eaten = 0;
    if (
      following.name === "of" &&
      inner.some((word) => partitives.has(word) || containers.has(word) || word === "side" || word === "hand") &&
      !this.hasThing(inner)
    ) {
      eaten = 1;
      const sides = inner.filter((word) => word === "left" || word === "right");
      const picture = this.isOfPicture(following.words);
      if (!picture && sides.length && ["on", "in", "to"].includes(name)) {
        return [this.related(phrase, `${sides[0]}_of`, [sides[0]], following.words, notes), eaten];
      }
      if (!picture) inner = sides.length ? inner : [...inner, ...following.words];
    }
    const content = inner.filter((word) => !this.sets.fillers.has(word));
    if (["wearing", "in"].includes(name) && content.length === 1 && content[0] === "orange") {
      notes.used.push(...said);
      return [{ ...phrase, colours: [...phrase.colours, "orange"] }, 0];
    }
    const lead = this.leadingPlace(inner);
    let rest = [];
    if (["on", "in", "next_to", "to"].includes(name) && lead < inner.length) {
      rest = inner.slice(lead);
      inner = inner.slice(0, lead);
    }
    if (rest.length) phrase = this.merged(phrase, this.simple(rest, notes));
    let inside = this.simple(inner, notes);
    if (["on", "in", "next_to"].includes(name) && !inside.head && !inside.unknown.length && !inside.traits.length) {
      return [{
        ...phrase,
        places: [...phrase.places, ...halves(inside.places)],
        colours: [...phrase.colours, ...inside.colours],
        rank: phrase.rank ?? inside.rank,
        size: phrase.size || inside.size,
      }, eaten];
    }
    if (name === "of") return [this.of(phrase, inner, notes), eaten];
    if (!inside.head && inside.unknown.length && name === "with") inside = { ...inside, colours: [] };
    let wears = !inside.head || garments.has(inside.head) || parts.has(inside.head);
    if (pronouns.has(inside.head) && inside.traits.length) {
      inside = { ...inside, head: "" };
      wears = true;
    }
    if (["wearing", "with", "in"].includes(name) && wears) {
      if (inside.colours.length) notes.used.push(...said);
      return [{
        ...phrase,
        colours: [...phrase.colours, ...inside.colours],
        traits: [...phrase.traits, ...inside.traits, ...(inside.head ? [inside.head] : [])],
        places: [...phrase.places, ...inside.places],
      }, eaten];
    }
    if (["on", "next_to", "in"].includes(name) && wears && inside.places.length) {
      return [{
        ...phrase,
        places: [...phrase.places, ...halves(inside.places)],
        traits: [...phrase.traits, ...inside.traits],
      }, eaten];
    }
    if (depth < 3) return [this.related(phrase, name === "wearing" ? "with" : name, said, inner, notes), eaten];
    return [phrase, eaten];
  }

  without(phrase, segment, following, notes) {
    const { words: inner, said } = segment, { actions, looks, pronouns } = this.sets;
    if (!inner.length && NEGATABLE.includes(following.name) && this.hasThing(following.words)) {
      const base = { ...emptyPhrase(), head: "thing" };
      const link = this.related(base, following.name, following.said, following.words, notes).relations.at(-1);
      if (link && link.anchors.every((anchor) => this.isCertain(anchor.head))) {
        const negated = { ...link, negated: true, said: [...said, ...following.said] };
        return [{ ...phrase, relations: [...phrase.relations, negated] }, 1];
      }
    }
    if (!inner.length && following.name) {
      notes.unchecked.push([...said, ...following.said, ...following.words].join(" "));
      return [phrase, 1];
    }
    const inside = this.simple(inner, { used: [], unchecked: [] });
    const placed = inside.places.length > 0 || inside.rank !== null || inside.size !== "" || inside.count > 0;
    const worn = !inside.head || pronouns.has(inside.head) || this.isTrait(inside.head);
    const unseen = inner.some((word) => actions.has(word) || looks.has(word)) || inside.unknown.length > 0;
    if (inside.colours.length && worn && !placed && !unseen) {
      notes.used.push(...said);
      const traits = [...phrase.traits, ...inside.traits, ...(this.isTrait(inside.head) ? [inside.head] : [])];
      return [{ ...phrase, not_colours: [...phrase.not_colours, ...inside.colours], traits }, 0];
    }
    if (this.isCertain(inside.head) && !worn && !inside.traits.length && !placed && !unseen && !inside.also.length) {
      if (said.length !== 1 || !["not", "minus"].includes(said[0])) {
        const link = { kind: "with", anchors: [inside], negated: true, said };
        return [{ ...phrase, relations: [...phrase.relations, link] }, 0];
      }
      if (phrase.head && phrase.excluded === null) {
        notes.used.push(...said);
        return [{ ...phrase, excluded: { ...inside, many: true } }, 0];
      }
    }
    if (inside.head && !worn && !phrase.head && inside.traits.length) {
      const at = inner.findLastIndex((word) => this.isTrait(word)) + 1;
      notes.unchecked.push([...said, ...inner.slice(0, at)].join(" "));
      return [this.merged(phrase, this.simple(inner.slice(at), notes)), 0];
    }
    notes.unchecked.push([...said, ...inner].join(" "));
    return [phrase, 0];
  }

  leadingPlace(words) {
    let at = 0;
    while (at < words.length && ["the", "far", "very"].includes(words[at])) at += 1;
    const start = at;
    const going = ["side", "corner", "hand", "part", "of", "edge"];
    while (at < words.length && (has(this.words.sides, words[at]) || going.includes(words[at]))) at += 1;
    if (at === start || at === words.length || this.isNoun(words[at]) || has(this.words.colours, words[at]) || has(this.words.sizes, words[at])) {
      return words.length;
    }
    return at;
  }

  merged(phrase, more) {
    const worn = this.sets.garments.has(more.head) || this.sets.parts.has(more.head) || !more.head;
    return {
      ...phrase,
      head: phrase.head || more.head,
      also: worn || !phrase.head ? phrase.also : [...phrase.also, more.head],
      colours: [...phrase.colours, ...(worn || !phrase.head ? more.colours : [])],
      traits: [...phrase.traits, ...more.traits, ...(worn && more.head ? [more.head] : [])],
      places: [...phrase.places, ...more.places],
      rank: phrase.rank ?? more.rank,
      size: phrase.size || more.size,
      unknown: [...phrase.unknown, ...more.unknown],
    };
  }

  related(given, kind, said, inner, notes) {
    let phrase = given, anchors;
    if (kind === "between" && inner.includes("and")) {
      const cut = inner.indexOf("and");
      anchors = [inner.slice(0, cut), inner.slice(cut + 1)].filter((part) => part.length).map((part) => this.simple(part, notes));
    } else {
      anchors = [this.simple(inner, notes)];
    }
    anchors = anchors.map((anchor) =>
      this.sets.pronouns.has(anchor.head) && phrase.head ? { ...anchor, head: phrase.head, also: phrase.also } : anchor);
    if (anchors.length === 1 && anchors[0].places.length && anchors[0].head && has(this.words.sides, inner.at(-1))) {
      phrase = { ...phrase, places: [...phrase.places, anchors[0].places.at(-1)] };
      anchors = [{ ...anchors[0], places: anchors[0].places.slice(0, -1) }];
    }
    if (!anchors.some((anchor) => anchor.head || anchor.unknown.length || anchor.traits.length)) {
      return { ...phrase, places: [...phrase.places, ...anchors.flatMap((anchor) => anchor.places)] };
    }
    return { ...phrase, relations: [...phrase.relations, { kind, anchors, negated: false, said }] };
  }

  of(phrase, inner, notes) {
    const inside = this.simple(inner, notes);
    const { parts, partitives, pronouns } = this.sets;
    if (!phrase.head && parts.has(inside.head)) {
      return { ...phrase, traits: [...phrase.traits, inside.head], places: phrase.places.filter((each) => each.side !== "far") };
    }
    const partitive = !phrase.head || partitives.has(phrase.head) || parts.has(phrase.head) || pronouns.has(phrase.head);
    if (this.isOfPicture(inner)) return { ...phrase, places: halves(phrase.places) };
    if (partitive) {
      const one = ["piece", "slice", "half", "part", "bunch", "pair", "one"].includes(phrase.head) || phrase.size || phrase.rank;
      return {
        ...inside,
        places: [...phrase.places, ...inside.places],
        colours: [...phrase.colours, ...inside.colours],
        size: phrase.size || inside.size,
        rank: phrase.rank ?? inside.rank,
        count: phrase.count || inside.count,
        many: phrase.many || (inside.many && !one),
      };
    }
    return {
      ...phrase,
      also: [...phrase.also, ...(inside.head ? [inside.head] : [])],
      places: [...phrase.places, ...inside.places],
      rank: phrase.rank ?? inside.rank,
    };
  }

  hasThing(words) {
    return words.some((word) => this.isNoun(word) && !this.sets.partitives.has(word) && !this.sets.containers.has(word));
  }

  simple(words, notes) {
    const { sides, colours: colourWords, sizes, numbers, ordinals } = this.words;
    const { quantifiers, strong, fillers, picture } = this.sets;
    const places = [], colours = [], unknown = [], groups = [[]];
    let size = "", rank = 0, count = 0, many = false;
    const newGroup = () => {
      if (groups.at(-1).length) groups.push([]);
    };
    words.forEach((word, at) => {
      const following = words[at + 1] ?? "", before = at ? words[at - 1] : "";
      const two = `${before} ${word}`;
      if (word.startsWith(HOUR) && /^\d+$/.test(word.slice(HOUR.length))) {
        places.push(place("clock", false, false, Number(word.slice(HOUR.length))));
        notes.used.push(word);
      } else if (word === "all" && (following === "you" || (groups[0].length && AFTER_ADVERB.includes(following)))) {
        // "man all in black"
      } else if (quantifiers.has(word)) {
        many = true;
        count = word === "both" ? 2 : count;
        notes.used.push(word);
        if (word === "everyone" || word === "everybody") groups.at(-1).push(word);
      } else if (has(ordinals, word) && !(word === "second" && words[at + 1] === "hand")) {
        rank = ordinals[word];
        notes.used.push(word);
      } else if (has(numbers, word)) {
        if (before === "number") rank = numbers[word];
        else {
          count = numbers[word];
          many = true;
        }
        notes.used.push(word);
      } else if (has(sides, word)) {
        if (this.isPlace(words, at)) {
          const across = sides[word] === "left" || sides[word] === "right";
          let outermost = strong.has(before) || ((word.endsWith("most") || word.endsWith("est")) && across);
          outermost ||= before === "the" && at >= 2 && ["to", "furthest", "farthest", "way"].includes(words[at - 2]);
          if (places.length && (before === "farthest" || before === "furthest") && across) places.pop();
          places.push(place(sides[word], outermost, following === "side" || following === "hand"));
          notes.used.push(word);
        } else if (this.table.has(word) && word !== "back" && word !== "front") groups.at(-1).push(word);
      } else if (strong.has(word) && has(sides, following)) {
        // said of the side
      } else if (word === "far") {
        places.push(place("far"));
        notes.used.push(word);
      } else if (
        has(colourWords, word) &&
        !(word === "orange" && !this.names(words.slice(at + 1)) && !groups[0].length) &&
        !(this.table.has(two) && before && groups.at(-1).at(-1) === before) // "the traffic light"
      ) {
        if (["dark", "light", "bright"].includes(word) && has(colourWords, following)) return;
        colours.push(word);
        newGroup();
      } else if (has(sizes, word) && !(word === "baby" && !this.nounIn(words.slice(at + 1)))) {
        size ||= word;
        newGroup();
      } else if (this.table.has(two) && before && groups.at(-1).at(-1) === before) {
        groups.at(-1)[groups.at(-1).length - 1] = two;
      } else if (this.isNoun(word)) {
        groups.at(-1).push(word);
      } else if (fillers.has(word) || word === "," || picture.has(word)) {
        if (word === ",") newGroup();
      } else if (this.table.has(`${word} ${following}`)) {
        groups.at(-1).push(word);
      } else {
        unknown.push(word);
        newGroup();
      }
    });
    const seen = new Map(places.map((each) => [JSON.stringify(each), each]));
    return this.withNouns(groups.filter((group) => group.length), unknown, words, {
      ...emptyPhrase(),
      colours,
      size,
      places: [...seen.values()],
      rank: rank ? { number: rank, side: rankSide(places) } : null,
      count,
      many,
    });
  }

  names(words) {
    return this.nounIn(words) || words.at(-1) === "top";
  }

  isPlace(words, at) {
    const before = at ? words[at - 1] : "", following = words[at + 1] ?? "", word = words[at];
    const { sides, colours } = this.words;
    if ((word === "l" || word === "r") && at !== 0 && at !== words.length - 1) return false;
    if (this.sets.notPlacesAfter.has(before)) return false;
    const across = word === "left" || word === "right";
    if (across && this.sets.bodySides.has(following)) return false;
    if (across && (following === "hand" || following === "hands")) {
      const third = words[at + 2] ?? "";
      const named = third !== "" && (this.isNoun(third) || ["side", "corner", "picture", "most"].includes(third));
      return named || has(sides, before) || at + 2 === words.length;
    }
    if (
      word === "back" &&
      (["to", "turned", "facing", "of", "is", "end", "pack", "seat"].includes(following) || before === "with" || before === "s")
    ) return false;
    if ((word === "upper" || word === "lower") && (this.sets.parts.has(following) || following === "half" || following === "part")) return false;
    if (word === "top" && (has(colours, before) || this.sets.patterns.has(before) || ["tank", "crop", "halter", "counter", "stove", "a"].includes(before))) return false;
    return !(word === "right" && ["next", "by", "beside", "behind", "there", "here"].includes(following));
  }

  withNouns(groups, unknown, words, phrase) {
    const things = groups.filter((group) => group.some((noun) => !this.isTrait(noun)));
    const traits = groups.flat().filter((noun) => this.isTrait(noun));
    if (!things.length) {
      return { ...phrase, head: traits.at(-1) ?? "", traits: traits.slice(0, -1), many: phrase.many || phrase.count > 1, unknown };
    }
    let group = things[0].filter((noun) => !this.isTrait(noun));
    let head = group.at(-1);
    if (this.sets.pronouns.has(head) && group.length > 1) head = group.at(-2);
    if (this.sets.partitives.has(head) && group.length > 1) {
      head = group.at(-2);
      group = group.slice(0, -1);
    }
    const also = [
      ...group.slice(0, -1).filter((noun) => noun !== head),
      ...things.slice(1).flat().filter((noun) => !this.isTrait(noun) && noun !== head),
    ];
    let many = phrase.many || this.isPlural(head);
    if (["family", "crowd", "group", "team", "couple"].includes(head)) many = true;
    if ((words[0] === "a" || words[0] === "an") && !phrase.count) many = many && this.isPlural(head);
    return { ...phrase, head, also, traits, many, unknown };
  }
}

function place(side, strong = false, half = false, hour = 0) {
  return { side, strong, half, hour };
}

function halves(places) {
  return places.map((each) => ({ ...each, half: !each.strong && (each.side === "left" || each.side === "right") }));
}

function rankSide(places) {
  const sides = ["left", "right", "top", "bottom", "near", "far"];
  return places.find((each) => sides.includes(each.side))?.side ?? "left";
}
