// The page: a picture, sentences, masks. This module wires the others.

import * as address from "./address.js";
import { ApiError, get, settings } from "./api.js";
import { announce, banner, debounce, find, make } from "./dom.js";
import * as downloads from "./downloads.js";
import { Layers } from "./layers.js";
import { Search } from "./search.js";
import { Picture, exampleOf, listen, showExamples } from "./source.js";
import { Stage } from "./stage.js";

const state = { picture: null, image: null, width: 0, height: 0, model: null, threshold: null, noTarget: null, view: "picture" };
let models = [];
let examples = [];
let search = null;

const layers = new Layers({
  ask,
  stage: () => stage,
  changed,
  maxLetters: settings.maxLetters,
  maxTexts: Math.min(settings.maxTexts, 12),
});
const stage = new Stage(() => layers.all, {
  hover: (thing) => layers.mark(thing),
  click: (thing, alone) => layers.toggle(thing, alone),
});

/** The answers to sentences about the picture, null without one. */
async function ask(texts, signal, waiting) {
  const { picture } = state;
  if (!picture) return null;
  const question = { texts, threshold: state.threshold, no_target_threshold: state.noTarget };
  const { answers } = await picture.ask(question, state.model, signal, waiting);
  return picture === state.picture ? answers : null;
}

function changed() {
  downloads.enable(layers);
  const said = layers.answered.map((layer) => `${layer.answer.text}: ${find(".answer", layer.row).textContent}`);
  find("#canvas").setAttribute("aria-label", [state.picture?.name ?? "Picture", ...said].join(". "));
  address.write({
    texts: layers.texts,
    model: state.model,
    threshold: state.threshold,
    noTarget: state.noTarget,
    example: state.picture?.example ?? null,
    view: state.view,
    search: search?.text ?? "",
  });
}

/** Shows a picture, or the ways to choose one for null, and asks all sentences about it. */
async function take(picture) {
  state.picture?.leave();
  Object.assign(state, { picture, image: null });
  layers.forget();
  show("picture");
  find("#empty").hidden = picture !== null;
  find("#shown").hidden = true;
  find("#drop").classList.toggle("filled", picture !== null);
  find("#picture-bar").hidden = picture === null;
  find("#suggestions").hidden = true;
  changed();
  if (!picture) return find("#choose").focus();
  banner("");
  find("#picture-name").textContent = picture.name;
  const said = find("#picture-state");
  said.textContent = "The model looks at it …";
  try {
    // The server looks at the picture while the browser draws it and the person types.
    const sent = picture.sent(state.model, () => (said.textContent = "The server is busy …"));
    sent.catch(() => {});
    const drawn = await picture.drawable(state.model);
    if (picture !== state.picture) return;
    Object.assign(state, drawn);
    find("#shown").hidden = false;
    stage.show(drawn.image, drawn.width, drawn.height);
    layers.refreshAll();
    suggest(picture);
    await sent;
    if (picture === state.picture) {
      said.textContent = `${drawn.width} × ${drawn.height}`;
      announce(`${picture.name} is ready`);
    }
  } catch (error) {
    if (picture !== state.picture) return;
    said.textContent = "";
    banner(`${picture.name}: ${error instanceof ApiError ? error.message : "the browser cannot show it"}`);
    take(null);
  }
}

function suggest(picture) {
  const example = examples.find((each) => each.id === picture.example);
  const line = find("#suggestions");
  line.hidden = !example;
  for (const old of line.querySelectorAll("button")) old.remove();
  for (const text of example?.texts ?? [])
    line.append(make("button", { type: "button", class: "thing", onclick: () => layers.put(text) }, text));
}

function show(view) {
  state.view = settings.search ? view : "picture";
  for (const name of ["picture", "search"]) find(`#view-${name}`).hidden = name !== state.view;
  for (const tab of document.querySelectorAll(".tab"))
    if (tab.dataset.view === state.view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
}

const model = () => models.find((each) => each.name === state.model) ?? models[0];

/** Sliders and their values, from the state or, where it says nothing, the model. */
function showThresholds() {
  const rows = [
    ["#threshold", state.threshold ?? model()?.threshold ?? 0.5],
    ["#no-target", state.noTarget ?? model()?.no_target_threshold ?? 0.5],
  ];
  for (const [selector, value] of rows) {
    find(selector).value = value;
    find(`${selector}-value`).textContent = `${Math.round(value * 100)} %`;
  }
}

function listenToSliders() {
  const later = debounce(() => layers.refreshAll(), 120);
  const on = (selector, field) =>
    find(selector).addEventListener("input", (event) => {
      state[field] = Number(event.target.value);
      showThresholds();
      changed();
      later();
    });
  on("#threshold", "threshold");
  on("#no-target", "noTarget");
  find("#reset").addEventListener("click", () => {
    Object.assign(state, { threshold: null, noTarget: null });
    showThresholds();
    changed();
    layers.refreshAll();
  });
}

async function showModels() {
  ({ models } = await get("v1/models"));
  const select = find("#model");
  select.replaceChildren(...models.map(({ name }) => make("option", { value: name }, name)));
  find("#model-label").hidden = models.length < 2;
  if (!models.some((each) => each.name === state.model)) state.model = null;
  select.value = model().name;
  select.addEventListener("change", () => {
    state.model = select.value === models[0].name ? null : select.value;
    showThresholds();
    changed();
    layers.refreshAll();
  });
  showThresholds();
}

function listenToTheme() {
  const themes = ["auto", "light", "dark"];
  const button = find("#theme");
  const set = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    localStorage.setItem("refseg-theme", theme);
  };
  const stored = localStorage.getItem("refseg-theme");
  let at = Math.max(0, themes.indexOf(stored));
  set(themes[at]);
  button.addEventListener("click", () => set(themes[(at = (at + 1) % themes.length)]));
}

async function takeExample(example) {
  try {
    await take(await exampleOf(example));
  } catch (error) {
    banner(error.message);
  }
}

async function start() {
  listenToTheme();
  const given = address.read();
  Object.assign(state, { model: given.model, threshold: given.threshold, noTarget: given.noTarget });
  listen(take);
  listenToSliders();
  downloads.listen(() => ({ ...state, layers, model: model()?.name ?? null }));
  find("#add").addEventListener("click", () => layers.add("", true));
  find("#help-button").addEventListener("click", () => find("#help").showModal());
  find("#views").hidden = !settings.search;
  for (const tab of document.querySelectorAll(".tab"))
    tab.addEventListener("click", () => {
      show(tab.dataset.view);
      changed();
    });
  layers.replace(given.texts);
  search = new Search((blob, name, text) => {
    layers.replace([text]);
    take(new Picture(blob, name));
  }, changed);
  try {
    await showModels();
    examples = await showExamples(takeExample);
  } catch (error) {
    return banner(error.message);
  }
  show(given.view);
  if (given.search && settings.search) search.run(given.search);
  const example = examples.find((each) => each.id === given.example);
  if (example) takeExample(example);
}

start();
