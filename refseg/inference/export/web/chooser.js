// Which proposals an expression means: the twin of refseg/models/instances/{evidence,places,relations,chooser}.py.
// Vectors over proposals are arrays of numbers; matrices are arrays of rows.

const TINY = 1e-3, SOFT = 0.02, SAME_IOU = 0.6, INSIDE = 0.85, SURE = 0.58, EXCLUDABLE = 0.2, COLOUR_SHARE = 0.25, TRAIT_SHARE = 0.1;
const MILD = ["little", "lil", "baby", "main", "large", "huge", "big"];

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const sigmoid = (value) => 1 / (1 + Math.exp(-value));
const logSigmoid = (value) => Math.min(value, 0) - Math.log1p(Math.exp(-Math.abs(value)));
const sum = (list) => list.reduce((total, value) => total + value, 0);
const largest = (list) => list.reduce((best, value, at) => (value > list[best] ? at : best), 0);
const maximum = (list) => Math.max(...list);
const zeros = (count) => new Array(count).fill(0);
const order = (list) => list.map((_, at) => at).sort((one, other) => list[other] - list[one] || one - other);
const logSumExp = (list) => {
  const most = maximum(list);
  return most + Math.log(sum(list.map((value) => Math.exp(value - most))));
};

/** How boxes (x0, y0, x1, y1; 0 to 1) lie to each other; lengths are fractions of the picture's longer side. */
export function layOut(boxes, height, width) {
  const longer = Math.max(height, width, 1), across = width / longer, down = height / longer;
  const placed = boxes.map(([x0, y0, x1, y1]) => [x0 * across, y0 * down, x1 * across, y1 * down]);
  const wide = placed.map(([x0, , x1]) => Math.max(x1 - x0, 1e-4)), high = placed.map(([, y0, , y1]) => Math.max(y1 - y0, 1e-4));
  const areas = wide.map((value, i) => value * high[i]);
  const x = placed.map(([x0, , x1]) => (x0 + x1) / 2), y = placed.map(([, y0, , y1]) => (y0 + y1) / 2);
  const pairs = (value) => placed.map((one, i) => placed.map((other, j) => value(one, other, i, j)));
  const overlapX = pairs((one, other) => Math.min(one[2], other[2]) - Math.max(one[0], other[0]));
  const overlapY = pairs((one, other) => Math.min(one[3], other[3]) - Math.max(one[1], other[1]));
  const shared = pairs((one, other, i, j) => Math.max(overlapX[i][j], 0) * Math.max(overlapY[i][j], 0));
  return {
    x, y, width: wide, height: high, foot: placed.map((box) => box[3]),
    area: areas.map((value) => value / (across * down)),
    cut: placed.map(([x0, y0, x1, y1]) => Math.max(1 - Math.max(Math.min(x0, y0, across - x1, down - y1), 0) / SOFT, 0)),
    middle: [across / 2, down / 2],
    iou: pairs((one, other, i, j) => shared[i][j] / (areas[i] + areas[j] - shared[i][j])),
    inside: pairs((one, other, i, j) => shared[i][j] / areas[i]),
    gap: pairs((one, other, i, j) => Math.hypot(Math.max(-overlapX[i][j], 0), Math.max(-overlapY[i][j], 0))),
    apart: pairs((one, other, i, j) => Math.hypot(x[i] - x[j], y[i] - y[j])),
    across: pairs((one, other, i, j) => Math.max(overlapX[i][j], 0) / Math.min(wide[i], wide[j])),
  };
}

/** Proposals of a thing that a better fitting one shows already. */
function doubles(layout, fit) {
  const ranked = order(fit);
  const kept = ranked.filter((at) => fit[at] > 0.03 * fit[ranked[0]]);
  const found = fit.map(() => false), alive = [];
  for (const row of kept) {
    const shown = alive.some((column) => {
      const part = layout.inside[row][column] > INSIDE && fit[row] < 0.6 * fit[column] && layout.area[row] > 0.15 * layout.area[column];
      return layout.iou[row][column] > SAME_IOU || part;
    });
    if (shown) found[row] = true;
    else alive.push(row);
  }
  return found;
}

/** Log plausibility that thing i stands in a relation to thing j. */
function relation(kind, layout) {
  const { x, y, foot } = layout;
  const pairs = (value) => x.map((_, i) => x.map((__, j) => value(i, j)));
  const ahead = (values, sign, i, j) => logSigmoid((sign * (values[j] - values[i])) / SOFT);
  const near = (i, j) => -Math.min(layout.gap[i][j] / 0.12, 3);
  const aligned = (i, j) => Math.log(0.15 + 0.85 * clamp(layout.across[i][j], 0, 1));
  switch (kind) {
    case "left_of": return pairs((i, j) => ahead(x, 1, i, j) + 0.3 * near(i, j));
    case "right_of": return pairs((i, j) => ahead(x, -1, i, j) + 0.3 * near(i, j));
    case "above": return pairs((i, j) => ahead(y, 1, i, j) + 0.5 * aligned(i, j) + 0.3 * near(i, j));
    case "under": return pairs((i, j) => ahead(y, -1, i, j) + 0.5 * aligned(i, j) + 0.3 * near(i, j));
    case "behind": return pairs((i, j) => ahead(foot, 1, i, j) + 0.5 * aligned(i, j) + 0.5 * near(i, j));
    case "in_front_of": return pairs((i, j) => ahead(foot, -1, i, j) + 0.5 * aligned(i, j) + 0.5 * near(i, j));
    case "on": return pairs((i, j) => ahead(y, 1, i, j) + Math.log(0.1 + 0.9 * clamp(layout.across[i][j], 0, 1)) + near(i, j));
    case "in": return pairs((i, j) => Math.log(0.05 + 0.95 * clamp(layout.inside[i][j], 0, 1)));
    case "with":
    case "of": return pairs((i, j) => 0.7 * Math.log(0.05 + 0.95 * clamp(layout.inside[j][i], 0, 1)) + 0.3 * near(i, j));
    case "next_to":
    case "nearest": return pairs((i, j) => {
      const level = -Math.min(Math.abs(foot[i] - foot[j]) / 0.25, 2);
      return (kind === "nearest" ? 0 : 0.3) * level + near(i, j) - Math.min(layout.apart[i][j] / 0.3, 3);
    });
    default: return pairs(() => 0);
  }
}

function between(layout, first, second) {
  const { x, y } = layout;
  const line = [x[second] - x[first], y[second] - y[first]];
  const length = Math.max(Math.hypot(...line), 1e-3);
  return x.map((_, i) => {
    if (i === first || i === second) return -5;
    const dx = x[i] - x[first], dy = y[i] - y[first];
    const along = (dx * line[0] + dy * line[1]) / length / length, aside = Math.abs(dx * line[1] - dy * line[0]) / length;
    return Math.max(logSigmoid(along / 0.06) + logSigmoid((1 - along) / 0.06) - aside / 0.25 - Math.abs(along - 0.5), -5);
  });
}

function softRank(values, member, soft = SOFT / 4) {
  return values.map((value, i) => sum(values.map((other, j) => (i === j ? 0 : sigmoid((other - value) / soft) * member[j]))));
}

function moments(values, share) {
  const total = Math.max(sum(share), TINY);
  const mean = sum(values.map((value, i) => share[i] * value)) / total;
  return [mean, sum(values.map((value, i) => share[i] * (value - mean) ** 2)) / total];
}

function standardised(values, share) {
  const [mean, variance] = moments(values, share);
  return values.map((value) => clamp((value - mean) / Math.sqrt(variance + 1e-3), -2, 2));
}

function margins(evidence, count) {
  if (count >= evidence.length) return evidence.map(() => 1);
  const ranked = order(evidence);
  const last = evidence[ranked[count - 1]], next = evidence[ranked[count]];
  const chosen = new Set(ranked.slice(0, count));
  return evidence.map((value, i) => (chosen.has(i) ? value - next + 1e-4 : value - last - 1e-4));
}

function axisOf(side, layout) {
  if (side === "left" || side === "right") return [layout.x, side === "right" ? 1 : -1];
  if (side === "top" || side === "bottom") return [layout.y, side === "bottom" ? 1 : -1];
  return [layout.foot, side === "near" ? 1 : -1];
}

export class Chooser {
  /** `words`: words.json, `weights`: by name of RULES, `config`: of the chooser, `means`: word -> meaning. */
  constructor(words, weights, config, means) {
    Object.assign(this, { words, weights, config, means });
    this.people = words.people.map((name) => words.classes.indexOf(name));
    this.person = words.classes.indexOf("person");
    this.partitives = new Set(words.partitives);
    this.pronouns = new Set(words.pronouns);
    this.garments = new Set(words.garments);
  }

  /** Words whose meanings an expression needs. */
  wordsOf(expression) {
    const found = new Set();
    const visit = (phrase) => {
      for (const word of [phrase.head, ...phrase.also, phrase.traits.at(-1) ?? ""]) if (word) found.add(word);
      if (phrase.unknown.length) for (const word of [phrase.unknown.join(" "), ...phrase.unknown]) found.add(word);
      phrase.relations.forEach((each) => each.anchors.forEach(visit));
      if (phrase.excluded) visit(phrase.excluded);
    };
    expression.phrases.forEach(visit);
    return [...found];
  }

  /** {logits, noTarget, labels, reasons} of an expression; `candidates`: {classProbs, colours, layout, drawn}. */
  choose(expression, candidates) {
    if (!candidates.classProbs.length) return { logits: [], noTarget: 20, labels: [], reasons: ["nothing was detected in the picture"] };
    const parts = expression.phrases.map((phrase) => this.answer(phrase, candidates));
    if (parts.length === 1) return parts[0];
    const first = parts.reduce((best, part) => (part.noTarget < best.noTarget ? part : best));
    let there = parts.filter((part) => part.noTarget <= 0);
    if (!there.length) there = [first];
    const which = candidates.classProbs.map((_, i) => largest(there.map((part) => part.logits[i])));
    return {
      logits: which.map((part, i) => there[part].logits[i]),
      noTarget: Math.min(...parts.map((part) => part.noTarget)),
      labels: which.map((part, i) => there[part].labels[i]),
      reasons: first.reasons,
    };
  }

  answer(phrase, candidates) {
    const weight = this.weights, found = this.evaluate(phrase, candidates, null);
    const { evidence } = found, total = sum(found.member);
    let { penalty, reasons } = found, logits, out = null;
    if (phrase.excluded !== null) {
      out = this.excluded(phrase.excluded, found, candidates);
      logits = phrase.many ? this.members(found) : margins(evidence.map((value, i) => value - 1e3 * Number(out[i])), 1);
      logits = logits.map((value, i) => (out[i] ? -Math.abs(value) - 1 : value));
    } else if (phrase.count > 1 && !phrase.relations.length) {
      const ranked = evidence.map((value, i) => value + 4 * Math.max(Math.log(Math.max(found.member[i], TINY)), -3));
      logits = margins(ranked, Math.min(phrase.count, ranked.length));
      const short = Math.max(phrase.count - 0.3 - total, 0);
      if (total > 0.5) penalty += weight.none_short * short;
      if (short > 0.5) reasons = [...reasons, `there are not ${phrase.count} of them`];
      if (phrase.count > ranked.length) penalty += weight.none_short;
    } else if (phrase.many) logits = this.members(found);
    else logits = margins(evidence, 1);
    const several = phrase.many || phrase.count > 1;
    if (several && !logits.some((value) => value > 0)) {
      const allowed = out === null ? logits.map((value) => value > -20) : out.map((value) => !value);
      if (allowed.some(Boolean)) {
        const first = largest(evidence.map((value, i) => (allowed[i] ? value : -1e4)));
        logits = logits.map((value, i) => (i === first ? Math.abs(value) + 1e-3 : value));
      }
    }
    return { logits, noTarget: penalty, labels: found.labels, reasons };
  }

  members(found) {
    const most = maximum(found.fit);
    const least = Math.max(this.weights.member * most, Math.min(this.weights.least_member, most));
    return found.fit.map((fit, i) => {
      if (!(found.member[i] > 0)) return -4 - 0;
      const logit = 4 * Math.log(Math.max(fit, TINY) / Math.max(least, TINY)) + 0.1;
      return Math.min(logit, 3 * (found.absolute[i] + 0.9));
    });
  }

  excluded(phrase, base, candidates) {
    const out = this.evaluate(phrase, candidates, base.member);
    if (phrase.many && phrase.count === 0) return this.members(out).map((value) => value > 0);
    const evidence = out.evidence.map((value, i) => value + 2 * Math.log(Math.max(base.member[i], TINY)));
    const least = EXCLUDABLE * maximum(out.fit);
    return margins(evidence, Math.max(1, phrase.count)).map((value, i) => value > 0 && out.fit[i] > least);
  }

  evaluate(phrase, candidates, within) {
    const { layout } = candidates, weight = this.weights, { config } = this;
    const noun = this.fit(phrase, candidates);
    const { fit, labels } = noun;
    let { penalty } = noun, reasons = noun.reasons;
    const best = Math.max(maximum(fit), TINY), double = doubles(layout, fit);
    const share = fit.map((value) => value / best);
    let member = fit.map((value, i) =>
      sigmoid(14 * (share[i] - weight.member)) * Number(value > 0.02) * Number(!double[i]) * (within ? within[i] : 1));
    let evidence = fit.map((value, i) => weight.fit * Math.log(value + TINY) + weight.area * Math.log(layout.area[i] + TINY) +
      (within ? 3 * Math.log(Math.max(within[i], TINY)) : 0));
    let absolute = zeros(fit.length);
    let soft = share.map((value, i) => value * value * Number(!double[i]));
    const worn = this.isWorn(phrase);
    const usual = worn ? TRAIT_SHARE : COLOUR_SHARE;
    const shown = phrase.colours.length && config.colours ? this.colourShare(phrase.colours, candidates.colours) : null;
    if (shown) {
      const name = worn ? "trait_colour" : "colour";
      const among = standardised(shown, soft);
      const most = maximum(shown.map((value, i) => value * Number(share[i] > 0.5)));
      const log = shown.map((value) => clamp(Math.log((value + 0.02) / (usual + 0.02)), -2, 0.7));
      evidence = evidence.map((value, i) =>
        value + weight[name] * (0.6 * clamp(Math.log((shown[i] + 0.03) / (most + 0.03)), -3, 0.3) + 0.5 * among[i]));
      absolute = absolute.map((value, i) => value + Math.min(log[i], 0));
      soft = soft.map((value, i) => value * Math.min(0.1 + shown[i], 1));
      if (phrase.rank !== null || phrase.many || phrase.places.length || phrase.size) {
        member = member.map((value, i) => value * sigmoid((log[i] + 0.8) / 0.25));
      }
    }
    const otherwise = config.colours ? this.notColoured(phrase, candidates) : null;
    if (otherwise) {
      const name = worn ? "trait_colour" : "colour";
      evidence = evidence.map((value, i) => value + weight[name] * otherwise[i]);
      absolute = absolute.map((value, i) => value + Math.min(otherwise[i], 0));
    }
    const linked = zeros(fit.length);
    if (config.relations) {
      for (const link of phrase.relations) {
        const related = this.relation(link, candidates, fit);
        if (related === null) continue;
        penalty += related.mismatch;
        related.log.forEach((value, i) => {
          linked[i] += value;
          absolute[i] += 0.6 * Math.min(value, 0);
        });
      }
      evidence = evidence.map((value, i) => value + weight.relation * linked[i]);
    }
    if (config.places) {
      const sure = member.map((value, i) => value * sigmoid((fit[i] - SURE) / 0.05));
      const placed = this.placeEvidence(phrase, { layout, soft: config.relative ? soft : soft.map(() => 1), member, sure });
      evidence = evidence.map((value, i) => value + placed.evidence[i]);
      absolute = absolute.map((value, i) => value + placed.absolute[i]);
      penalty += placed.missing;
      reasons = [...reasons, ...placed.reasons];
    }
    const most = maximum(fit);
    let against = fit.map((value) => -weight.none_fit * Math.log((value + TINY) / (most + TINY)));
    if (shown) {
      const wrong = shown.map((value) => clamp(-Math.log((value + 0.01) / (usual + 0.01)) - 0.3, 0, 2.5));
      const counts = Math.max(weight[worn ? "none_trait_colour" : "none_colour"], weight.none_drawn_colour * candidates.drawn);
      against = against.map((value, i) => value + counts * wrong[i]);
      if (Math.min(...wrong.filter((_, i) => fit[i] >= 0.5 * most)) > 1) reasons = [...reasons, `none is ${phrase.colours.join(" and ")}`];
    }
    if (otherwise) {
      against = against.map((value, i) => value + weight.none_colour * clamp(-otherwise[i] - 0.7, 0, 2.5));
      if (maximum(otherwise.filter((_, i) => fit[i] >= 0.5 * most)) < -1.5) reasons = [...reasons, `all are ${phrase.not_colours.join(" and ")}`];
    }
    if (phrase.relations.length && config.relations) {
      against = against.map((value, i) => value + weight.none_relation * clamp(-linked[i] - 1.2, 0, 3));
    }
    penalty += Math.min(...against);
    return { fit, member, evidence, absolute, penalty, mismatch: penalty - noun.penalty, labels, reasons };
  }

  notColoured(phrase, candidates) {
    if (!phrase.not_colours.length) return null;
    const usual = this.isWorn(phrase) ? TRAIT_SHARE : COLOUR_SHARE;
    return this.colourShare(phrase.not_colours, candidates.colours).map((shown) => Math.log(1 - 0.95 * Math.min(shown / usual, 1)));
  }

  colourShare(words, colours) {
    const asked = [...new Set(words)].map((word) => this.words.colourNames.map((name) => this.words.colours[word][name] ?? 0));
    return colours.map((shares) =>
      sum(asked.map((row) => Math.min(sum(row.map((value, i) => value * shares[i])), 1))) / asked.length);
  }

  /** Whether a phrase's colours are those of clothes. */
  isWorn(phrase) {
    if (phrase.traits.length || this.garments.has(phrase.head)) return true;
    return phrase.head !== "" && this.means(phrase.head).weights.some(([index, share]) => index === this.person && share >= 0.9);
  }

  nounFit(meaning, probabilities) {
    const wanted = meaning.weights.map(([index]) => index).filter((index) => this.people.includes(index));
    const tells = wanted.length > 0 && meaning.weights.some(([index]) => index === this.person);
    const fit = [], labels = [];
    for (const row of probabilities) {
      const values = meaning.weights.map(([index, share]) => row[index] * share), at = largest(values);
      const factor = tells
        ? (maximum(wanted.map((index) => row[index])) + 0.1) / (maximum(this.people.map((index) => row[index])) + 0.1)
        : 1;
      fit.push(values[at] * factor);
      labels.push(meaning.weights[at][0]);
    }
    return { fit, labels };
  }

  fit(phrase, candidates) {
    const probabilities = candidates.classProbs, weight = this.weights, meaning = this.meaning(phrase);
    const anything = () => {
      const labels = probabilities.map((row) => largest(row));
      return { fit: probabilities.map((row, i) => row[labels[i]]), labels };
    };
    const base = (most) => weight.none_bias - weight.none_fit * Math.log((most + TINY) / this.config.least_score);
    if (meaning === null) {
      const { fit, labels } = anything();
      if (saysNothing(phrase)) {
        return { fit, labels, penalty: 4, reasons: ["no word of the expression names or describes anything"] };
      }
      return { fit, labels, penalty: base(maximum(fit)), reasons: [] };
    }
    if (!meaning.weights.length) {
      const { fit, labels } = anything();
      const stated = phrase.places.length > 0 || phrase.rank !== null || phrase.colours.length > 0;
      const penalty = stated ? -0.5 : meaning.how === "none" ? 4 : 1;
      const why = `“${meaning.word}” is none of the things that the detector knows`;
      return { fit: fit.map((value) => 0.3 * value), labels, penalty, reasons: [why] };
    }
    let { fit, labels } = this.nounFit(meaning, probabilities);
    for (const noun of phrase.also) {
      const other = this.means(noun);
      if (!other.weights.length) continue;
      const more = this.nounFit(other, probabilities);
      const raised = more.fit.map((value) => weight.also * value);
      labels = labels.map((label, i) => (raised[i] > fit[i] ? more.labels[i] : label));
      fit = fit.map((value, i) => Math.max(value, raised[i]));
    }
    const most = maximum(fit);
    const reasons = most < this.config.least_score ? [`no ${meaning.readAs || meaning.word} was detected`] : [];
    return { fit, labels, penalty: base(most), reasons };
  }

  meaning(phrase) {
    if (phrase.head && !this.pronouns.has(phrase.head)) {
      const meaning = this.means(phrase.head);
      if (meaning.weights.length || !phrase.also.length) {
        return !meaning.weights.length && this.partitives.has(phrase.head) ? null : meaning;
      }
    }
    if (this.pronouns.has(phrase.head) || phrase.traits.length) {
      return phrase.traits.length && !phrase.head ? this.means(phrase.traits.at(-1)) : null;
    }
    if (phrase.unknown.length) {
      const found = [phrase.unknown.join(" "), ...[...phrase.unknown].reverse()].map((word) => this.means(word));
      return found.find((each) => each.weights.length) ?? found.find((each) => each.how === "none") ?? found.at(-1);
    }
    return null;
  }

  relation(link, candidates, fit) {
    const { layout } = candidates, anchors = [];
    for (const phrase of link.anchors) {
      const meaning = this.meaning(phrase);
      if (meaning === null ? !phrase.places.length && phrase.rank === null : !meaning.weights.length) return null;
      anchors.push(this.evaluate(phrase, candidates, null));
    }
    if (link.kind === "between" && !link.negated) {
      const log = this.betweenOf(anchors, layout);
      return log === null ? null : { log, mismatch: anchors[0].mismatch };
    }
    const first = anchors[0];
    const there = Math.min(maximum(first.fit) / this.config.least_score, 1);
    let share;
    if (link.anchors[0].many) {
      const total = Math.max(sum(first.member), TINY);
      share = first.member.map((value) => value / total);
    } else {
      const most = maximum(first.evidence), grown = first.evidence.map((value) => Math.exp(2 * (value - most))), total = sum(grown);
      share = grown.map((value) => value / total);
    }
    const holds = relation(link.kind, layout);
    const log = fit.map((_, i) => {
      const row = holds[i].map((value, j) => (i === j || layout.iou[i][j] > 0.75 ? -6 : value) + Math.log(share[j] + 1e-6));
      const value = Math.max(logSumExp(row), -5);
      if (link.negated) return Math.log(1 - 0.95 * there * Math.exp(value));
      return value * (link.kind === "nearest" ? 1.5 : 1) * there;
    });
    if (link.negated) return { log, mismatch: 0 };
    return { log, mismatch: first.mismatch };
  }

  betweenOf(anchors, layout) {
    let first, second;
    if (anchors.length === 1) {
      const strength = anchors[0].evidence.map((value, i) => value + 4 * Math.log(Math.max(anchors[0].member[i], TINY)));
      if (strength.length < 3) return null;
      [first, second] = order(strength);
    } else [first, second] = anchors.slice(0, 2).map((found) => largest(found.evidence));
    return first === second ? null : between(layout, first, second);
  }

  placeEvidence(phrase, around) {
    const { layout, soft, member, sure } = around, weight = this.weights;
    const evidence = zeros(soft.length), absolute = zeros(soft.length), reasons = [];
    const add = (values, factor = 1) => values.forEach((value, i) => (evidence[i] += factor * value));
    let missing = 0;
    const total = sum(member), root = layout.area.map(Math.sqrt);
    for (const place of phrase.places) {
      add(this.place(place, around, phrase.places.length));
      if (place.half && !place.strong) {
        const beyond = layout.x.map((x) => (x - layout.middle[0]) * (place.side === "right" ? 1 : -1));
        beyond.forEach((value, i) => (absolute[i] += logSigmoid((value + 0.02) / 0.03)));
        add(beyond.map((value) => Math.max(logSigmoid((value + 0.05) / 0.06), -3)), weight.half);
        if (total < 1.5 && phrase.rank === null) {
          missing += weight.none_side * sigmoid((-beyond[largest(member)] - 0.12) / 0.03) * 3;
        }
      }
    }
    if (phrase.rank !== null) {
      const [values, sign] = axisOf(phrase.rank.side, layout);
      const rank = softRank(values.map((value) => sign * value), member);
      add(rank.map((value, i) =>
        -weight.rank * Math.min(Math.abs(value - (phrase.rank.number - 1)), 3) + 2 * Math.log(Math.max(member[i], 0.02))));
      const short = Math.max(phrase.rank.number - 0.4 - total, 0);
      missing += weight.none_short * short;
      if (short > 0.5) reasons.push(`there are fewer than ${phrase.rank.number} of them`);
    }
    if (phrase.size) {
      const kind = this.words.sizes[phrase.size], minus = (list) => list.map((value) => -value);
      const values = {
        tall: layout.height, short: minus(layout.height), wide: layout.width, thin: minus(layout.width), big: root,
      }[kind] ?? minus(root);
      const strength = MILD.includes(phrase.size) ? 0.4 : 1;
      add(standardised(values, soft), strength * weight.size);
      if (strength === 1) add(softRank(values, sure, 0.004).map((value) => -Math.min(value, 2)), weight.outermost);
      if (["small", "short", "thin"].includes(kind)) add(layout.area.map((value) => -Math.log(value + TINY)), weight.area);
    }
    return { evidence, absolute, missing, reasons };
  }

  place(place, around, several) {
    const { layout, soft, member, sure } = around, weight = this.weights;
    if (place.side === "clock") {
      const angle = (2 * Math.PI * place.hour) / 12, right = Math.sin(angle), down = -Math.cos(angle);
      const values = layout.x.map((x, i) => (x - layout.middle[0]) * right + (layout.y[i] - layout.middle[1]) * down);
      return standardised(values, soft).map((value) => weight.clock * value);
    }
    if (place.side === "edge") return layout.cut.map((value) => weight.edge * Math.log(0.1 + value));
    if (place.side === "middle") {
      const spread = [layout.x, layout.y].map((values) => Math.sqrt(moments(values, soft)[1]));
      const values = spread[0] >= 0.5 * spread[1] ? layout.x : layout.y;
      const rank = softRank(values, member), centre = Math.max(sum(member) - 1, 0) / 2, deviations = standardised(values, soft);
      return values.map((_, i) => {
        const off = Math.min(Math.abs(rank[i] - centre), 2);
        const central = Math.abs(layout.x[i] - layout.middle[0]) + 0.4 * Math.abs(layout.y[i] - layout.middle[1]);
        const relative = Math.abs(deviations[i]) + 0.5 * off * Number(centre > 0.3);
        return -weight.middle * relative - weight.centre * Math.min(central / 0.15, 3);
      });
    }
    const [values, sign] = axisOf(place.side, layout), towards = values.map((value) => sign * value);
    const name = { left: "left_right", right: "left_right", top: "vertical", bottom: "vertical" }[place.side] ?? place.side;
    const evidence = standardised(towards, soft).map((value) => weight[name] * value);
    const depth = place.side === "near" || place.side === "far";
    if (depth) {
      const size = layout.area.map((area) => Math.sqrt(area) * (place.side === "near" ? 1 : -1));
      standardised(size, soft).forEach((value, i) => (evidence[i] += weight[`${place.side}_size`] * value));
    }
    if (several === 1) {
      softRank(towards, sure).forEach((rank, i) => (evidence[i] -= weight[depth ? "near_outermost" : "outermost"] * Math.min(rank, 5)));
    }
    return evidence;
  }
}

/** Whether nothing of the phrase was read. */
function saysNothing(phrase) {
  const said = [phrase.colours, phrase.not_colours, phrase.places, phrase.relations, phrase.traits].some((list) => list.length > 0);
  return !said && !phrase.head && !phrase.size && phrase.rank === null && !phrase.many && phrase.excluded === null;
}
