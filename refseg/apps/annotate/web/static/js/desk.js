// The objects of a picture while they are edited: steps with undo, the selection, drawing them on the stage, and what of
// them the server does not have yet.

import { lookOf } from "./palette.js";
import { pathOf } from "./painter.js";
import { anchorOf } from "./shapes.js";

const LONGEST = 300; // steps that can be undone

const outlines = new WeakMap();

/** Rings, path and place of the number of a mask, made once. */
function outlineOf(mask) {
  if (!outlines.has(mask)) {
    const rings = mask.rings();
    outlines.set(mask, { rings, path: pathOf(rings), anchor: anchorOf(rings, mask.edges) });
  }
  return outlines.get(mask);
}

export class Desk {
  /** @param changed called after each change of objects (true) or of the selection only (false) */
  constructor(changed) {
    this.changed = changed;
    this.reset([]);
  }

  /** Starts with objects {key, name, mask, source, score} that the server has under `ids` (key to number). */
  reset(objects, ids = new Map(), revision = 0) {
    this.steps = [objects];
    this.place = 0;
    this.selected = new Set();
    this.ids = ids;
    this.revision = revision;
    this.kept = new Map(objects.map((each) => [each.key, each]));
    this.next = 1;
  }

  get objects() {
    return this.steps[this.place];
  }

  get active() {
    const chosen = this.objects.filter((each) => this.selected.has(each.key));
    return chosen.length === 1 ? chosen[0] : null;
  }

  get chosen() {
    return this.objects.filter((each) => this.selected.has(each.key));
  }

  newKey() {
    this.next += 1;
    return `new-${this.next}`;
  }

  /** The next step; with `amend` it takes the last one's place. */
  push(objects, selected = this.selected, amend = false) {
    if (amend && this.place > 0) this.place -= 1;
    this.steps.length = this.place + 1;
    this.steps.push(objects);
    if (this.steps.length > LONGEST) this.steps.shift();
    this.place = this.steps.length - 1;
    this.select(selected, true);
  }

  /** Goes a step back (-1) or forth (1); false where there is none. */
  walk(step) {
    const to = this.place + step;
    if (to < 0 || to >= this.steps.length) return false;
    this.place = to;
    this.select(this.selected, true);
    return true;
  }

  select(keys, changed = false) {
    const there = new Set(this.objects.map((each) => each.key));
    this.selected = new Set([...keys].filter((key) => there.has(key)));
    this.changed(changed);
  }

  // Steps ---------------------------------------------------------------------------------------------------------

  add(mask, { name, source = "drawn", score = null }, amend = false) {
    if (mask.empty) return null;
    const object = { key: this.newKey(), name, mask, source, score };
    const before = amend && this.place > 0 ? this.steps[this.place - 1] : this.objects;
    this.push([...before, object], [object.key], amend);
    return object;
  }

  /** Lets every selected object go through `change` (to an object, several, or none). */
  alter(change) {
    const altered = this.objects.flatMap((each) => (this.selected.has(each.key) ? change(each) : [each]));
    this.push(altered);
  }

  remove() {
    if (this.selected.size > 0) this.alter(() => []);
  }

  rename(name) {
    this.alter((each) => [{ ...each, name }]);
  }

  merge() {
    const chosen = [...this.chosen].sort((a, b) => b.mask.area - a.mask.area);
    if (chosen.length < 2) return false;
    const [first, ...rest] = chosen;
    const mask = rest.reduce((sum, each) => sum.union(each.mask), first.mask);
    const gone = new Set(rest.map((each) => each.key));
    const merged = this.objects.filter((each) => !gone.has(each.key));
    this.push(merged.map((each) => (each.key === first.key ? { ...each, mask } : each)), [first.key]);
    return true;
  }

  /** The unconnected parts of the active object as objects of their own; false where it is in one piece. */
  split() {
    const { active } = this;
    const parts = active?.mask.parts() ?? [];
    if (parts.length < 2) return false;
    const made = parts.map((mask, index) => (index === 0 ? { ...active, mask } : this.like(active, mask)));
    const objects = this.objects.flatMap((each) => (each.key === active.key ? made : [each]));
    this.push(objects, made.map((each) => each.key));
    return true;
  }

  /** What of the active object lies in a mask becomes an object of its own. */
  cut(mask) {
    const { active } = this;
    if (!active) return false;
    const [inside, outside] = [active.mask.shared(mask), active.mask.minus(mask)];
    if (inside.empty || outside.empty) return false;
    const made = this.like(active, inside);
    const objects = this.objects.flatMap((each) =>
      each.key === active.key ? [{ ...active, mask: outside }, made] : [each],
    );
    this.push(objects, [made.key]);
    return true;
  }

  like({ name }, mask) {
    return { key: this.newKey(), name, mask, source: "drawn", score: null };
  }

  // Drawing -------------------------------------------------------------------------------------------------------

  /** As the stage and the list want them; numbers are places in the list. */
  shapes() {
    return this.objects.map((each, index) => ({
      id: each.key,
      name: each.name,
      note: each.source === "proposed" && each.score ? `${Math.round(each.score * 100)} %` : "",
      box: each.mask.edges,
      area: each.mask.area,
      number: index + 1,
      look: lookOf(index),
      ...outlineOf(each.mask),
    }));
  }

  // Saving --------------------------------------------------------------------------------------------------------

  /** What the server does not have: objects new and changed, numbers of removed ones. */
  get unsaved() {
    const now = new Set(this.objects.map((each) => each.key));
    const objects = [];
    for (const each of this.objects) {
      const kept = this.kept.get(each.key);
      if (kept === each) continue;
      const same = kept !== undefined && (kept.mask === each.mask || kept.mask.equals(each.mask));
      if (same && kept.name === each.name) continue;
      objects.push({ each, same });
    }
    return { objects, removed: [...this.kept.keys()].filter((key) => !now.has(key)) };
  }

  get dirty() {
    const { objects, removed } = this.unsaved;
    return objects.length > 0 || removed.length > 0;
  }

  /** The server has these now. */
  saved({ revision, numbers }, objects, removed) {
    this.revision = revision;
    for (const [key, number] of Object.entries(numbers)) this.ids.set(key, number);
    for (const each of objects) this.kept.set(each.key, each);
    for (const key of removed) {
      this.kept.delete(key);
      this.ids.delete(key); // undone, it comes back as a new object
    }
  }
}
