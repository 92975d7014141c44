// Sentences as layers: each has a colour, an answer, and things that are kept or left out.

import { ApiError } from "./api.js";
import { announce, debounce, find, make, percent, plural } from "./dom.js";
import { regionOf, without } from "./masks.js";

const COLOURS = 8;
const TYPING = 160; // milliseconds without a key before the server is asked

export class Layers {
  /**
   * `ask(texts, signal, waiting)` resolves to the answers of the server, or null without a picture; `stage()` gives the
   * stage; `changed(asked)` is called when sentences (`asked` false) or what is drawn changed.
   */
  constructor({ ask, stage, changed, maxLetters, maxTexts }) {
    Object.assign(this, { ask, stage, changed, maxLetters, maxTexts });
    this.list = find("#layers");
    this.all = [];
  }

  get texts() {
    return this.all.map((layer) => layer.text);
  }

  /** Layers with an answer that is shown. */
  get answered() {
    return this.all.filter((layer) => layer.answer && layer.visible);
  }

  add(text = "", focus = false) {
    if (this.all.length >= this.maxTexts) return null;
    const used = new Set(this.all.map((layer) => layer.colour));
    const free = Array.from({ length: COLOURS }, (_, index) => index).find((index) => !used.has(index));
    const row = find("#layer").content.firstElementChild.cloneNode(true);
    const layer = {
      row, text, colour: free ?? this.all.length % COLOURS, visible: true, answer: null, regions: [],
      leftOut: new Set(), controller: null,
    };
    row.classList.add(`c${layer.colour}`);
    const input = find(".sentence", row);
    input.value = text;
    input.maxLength = this.maxLetters;
    const later = debounce(() => this.refresh(layer), TYPING);
    input.addEventListener("input", () => {
      layer.text = input.value;
      this.#cancel(layer); // what is being computed is about an older sentence
      this.changed();
      later();
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing && layer.text.trim()) {
        event.preventDefault();
        this.add("", true);
      }
    });
    find(".swatch", row).addEventListener("click", () => {
      layer.visible = !layer.visible;
      this.#label();
      this.changed();
      this.stage().draw();
    });
    find(".remove", row).addEventListener("click", () => this.remove(layer));
    this.all.push(layer);
    this.list.append(row);
    this.#label();
    if (focus) input.focus();
    this.changed();
    return layer;
  }

  remove(layer) {
    this.#cancel(layer);
    const at = this.all.indexOf(layer);
    this.all.splice(at, 1);
    layer.row.remove();
    if (!this.all.length) this.add();
    find(".sentence", this.all[Math.min(at, this.all.length - 1)].row).focus();
    this.#label();
    this.changed();
    this.stage().draw();
  }

  /** Other sentences in the place of these. */
  replace(texts) {
    for (const layer of this.all) {
      this.#cancel(layer);
      layer.row.remove();
    }
    this.all = [];
    for (const text of texts.length ? texts : [""]) this.add(text);
    this.refreshAll();
  }

  /** Puts a sentence into the first empty layer, or a new one. */
  put(text) {
    const empty = this.all.find((layer) => !layer.text.trim());
    if (!empty) return void this.refresh(this.add(text));
    empty.text = find(".sentence", empty.row).value = text;
    this.changed();
    this.refresh(empty);
  }

  /** Forgets all answers: the picture is another one. */
  forget() {
    for (const layer of this.all) {
      this.#cancel(layer);
      this.#take(layer, null);
    }
  }

  refreshAll() {
    for (const layer of this.all) this.refresh(layer);
  }

  /** Asks about one layer's sentence; what was asked before and is not answered yet is cancelled. */
  async refresh(layer) {
    this.#cancel(layer);
    if (!layer || !this.all.includes(layer)) return;
    const text = layer.text.trim();
    if (!text) return this.#take(layer, null);
    const controller = (layer.controller = new AbortController());
    layer.row.setAttribute("aria-busy", "true");
    try {
      const answers = await this.ask([text], controller.signal, () => this.#say(layer, "The server is busy …"));
      if (controller === layer.controller && answers) this.#take(layer, answers[0]);
    } catch (error) {
      if (controller !== layer.controller || controller.signal.aborted) return;
      this.#take(layer, null);
      this.#say(layer, error instanceof ApiError ? error.message : String(error));
    } finally {
      if (controller === layer.controller) layer.row.removeAttribute("aria-busy");
    }
  }

  /** Leaves a thing out, or takes it in again; `alone` leaves all others out. */
  toggle(thing, alone = false) {
    const layer = this.all.find((each) => each.regions.includes(thing));
    if (!layer) return;
    const things = layer.answer.instances.map((_, index) => index);
    if (alone) layer.leftOut = new Set(things.filter((index) => index !== thing.index));
    else if (!layer.leftOut.delete(thing.index)) layer.leftOut.add(thing.index);
    this.#things(layer);
    this.changed();
    this.stage().draw();
    const out = layer.leftOut.has(thing.index);
    announce(`${layer.answer.instances[thing.index].label} ${thing.index + 1} ${out ? "left out" : "kept"}`);
  }

  /** Marks the button of a thing under the pointer. */
  mark(thing) {
    for (const layer of this.all)
      for (const button of layer.row.querySelectorAll(".thing"))
        button.classList.toggle("hit", thing !== null && layer.regions.includes(thing) && Number(button.dataset.index) === thing.index);
  }

  #cancel(layer) {
    layer?.controller?.abort(new DOMException("superseded", "AbortError"));
    if (layer) layer.controller = null;
    layer?.row.removeAttribute("aria-busy");
  }

  #say(layer, text) {
    find(".answer", layer.row).textContent = text;
  }

  #take(layer, answer) {
    layer.answer = answer;
    layer.leftOut = new Set();
    layer.regions = [];
    if (answer) {
      layer.regions = answer.instances
        .map((instance, index) => ({ index, area: instance.area, region: regionOf(instance.mask) }))
        .filter((thing) => thing.region);
      const whole = regionOf(answer.mask);
      const rest = whole && without(whole, layer.regions.map((thing) => thing.region));
      if (rest) layer.regions.push({ index: -1, area: 0, region: rest }); // specks that are no thing of their own
    }
    const line = find(".answer", layer.row);
    line.classList.toggle("none", Boolean(answer?.no_target));
    line.replaceChildren(...(answer ? this.#words(answer) : []));
    find(".remarks", layer.row).replaceChildren(...(answer?.remarks ?? []).map((remark) => make("li", {}, remark)));
    this.#things(layer);
    this.changed();
    this.stage().draw();
    if (answer) announce(`${answer.text}: ${line.textContent}`);
  }

  #words(answer) {
    if (answer.no_target)
      return [
        make("b", {}, "None: "),
        `nothing in this picture is “${answer.text}” (probability of none ${percent(answer.no_target_score)})`,
      ];
    return [
      make("b", {}, answer.instances.length ? plural(answer.instances.length, "thing") : "unclear"),
      `, score ${percent(answer.score)}, probability of none ${percent(answer.no_target_score)}`,
    ];
  }

  #things(layer) {
    const instances = layer.answer?.instances ?? [];
    const box = find(".things", layer.row);
    const focused = box.contains(document.activeElement) ? document.activeElement.dataset.index : null;
    box.replaceChildren(
      ...instances.map((instance, index) => {
        const thing = layer.regions.find((each) => each.index === index) ?? null;
        const named = instance.label !== layer.answer.text ? instance.label : "";
        return make(
          "button",
          {
            type: "button", class: "thing", "data-index": index, "aria-pressed": String(!layer.leftOut.has(index)),
            "aria-label": `${named || "thing"} ${index + 1}, ${percent(instance.score)}, kept`,
            onclick: (event) => thing && this.toggle(thing, event.altKey),
            onpointerenter: () => this.stage().hover(thing),
            onpointerleave: () => this.stage().hover(null),
            onfocus: () => this.stage().hover(thing),
            onblur: () => this.stage().hover(null),
          },
          `${index + 1} · ${named ? `${named} ` : ""}${percent(instance.score)}`,
        );
      }),
    );
    if (focused !== null) find(`[data-index="${focused}"]`, box)?.focus();
  }

  #label() {
    this.all.forEach((layer, index) => {
      layer.number = index + 1;
      const name = this.all.length > 1 ? `Sentence ${index + 1}` : "Sentence";
      const input = find(".sentence", layer.row);
      input.setAttribute("aria-label", name);
      input.placeholder = index ? "another thing" : "the red car on the left";
      const swatch = find(".swatch", layer.row);
      swatch.setAttribute("aria-pressed", String(layer.visible));
      swatch.setAttribute("aria-label", `Show ${name.toLowerCase()}`);
      find(".remove", layer.row).setAttribute("aria-label", `Remove ${name.toLowerCase()}`);
      find(".things", layer.row).setAttribute("aria-label", `Things of ${name.toLowerCase()}`);
    });
    find("#add").disabled = this.all.length >= this.maxTexts;
  }
}
