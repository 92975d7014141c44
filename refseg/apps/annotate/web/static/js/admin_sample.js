// One sample with everything known about it; walking through the filtered list; reopening and discarding.

import { call, page, query } from "./api.js";
import { Board } from "./board.js";
import { ago, all, ask, fill, find, make, notify, plural } from "./dom.js";
import { onKey } from "./keyboard.js";
import { flagTag, meaning, showPairs, stateTag } from "./lists.js";
import "./shell.js";

const element = find("#board");
const id = Number(element.dataset.sample);
const board = new Board(element, () => {}, { readOnly: true });
const filters = Object.fromEntries(new URLSearchParams(location.search));
const place = filters.place === undefined ? null : Number(filters.place);
delete filters.place;

const WORDS = {
  reopen: ["Reopen", "It goes to validators who have not seen it."],
  return: ["Return", "Its author gets it back as a draft."],
  discard: ["Discard", "It is not exported, and goes to nobody."],
};

let sample = null;

function answer(label, who, selection, ...more) {
  const show = () => {
    board.history.reset(selection.targets);
    board.refresh();
    for (const other of all("button", find("#answers"))) other.setAttribute("aria-pressed", String(other === button));
  };
  const button = make(
    "button",
    { type: "button", class: "line", "aria-pressed": String(label === "author"), onclick: show },
    make("b", {}, who),
    ` (${label}): `,
    selection.words,
  );
  return make("li", {}, button, more);
}

function verdict(item) {
  const words =
    item.result === "rejected"
      ? `rejected, ${String(item.reason).replace("_", " ")}`
      : `${meaning(item)}, ${item.result}`;
  const numbers = board.shapes.filter((shape) => item.targets.includes(shape.id)).map((shape) => shape.number);
  const note = item.note && make("p", { class: "hint" }, `“${item.note}”`);
  return answer(
    item.round > 1 ? `validator, reopened ${plural(item.round - 1, "time")}` : "validator",
    item.validator.name,
    { targets: item.targets, words: numbers.length ? `${words} (${numbers.join(", ")})` : words },
    make("p", { class: "hint" }, ago(item.created_at)),
    note,
  );
}

function event({ at, actor, move, from, to, reason }) {
  const who = actor?.name ?? actor ?? "the system";
  return make(
    "li",
    {},
    make("b", {}, move),
    ` by ${who}, ${from ?? "new"} → ${to ?? "–"} `,
    make("span", { class: "hint" }, ago(at)),
    reason && make("p", { class: "hint" }, `“${reason}”`),
  );
}

function show() {
  find("#asked").textContent = sample.text;
  const state = find("#state");
  state.dataset.state = sample.state;
  state.textContent = sample.state;
  find("#kind").textContent = sample.kind;
  fill(
    find("#flags"),
    sample.flags.map((code) => flagTag(code)),
  );
  showPairs(find("#about"), [
    ["means", meaning(sample)],
    ["picture", `${sample.picture.id}, ${sample.split}`],
    ["written", ago(sample.created_at)],
    ...(sample.suggestion ? [["suggested sentence", sample.suggestion]] : []),
    ...(sample.reason ? [["reason", String(sample.reason).replace("_", " ")]] : []),
  ]);
  const numbers = board.shapes.filter((shape) => sample.targets.includes(shape.id)).map((shape) => shape.number);
  const words = sample.no_target ? "no target" : `${plural(numbers.length, "object")} (${numbers.join(", ")})`;
  fill(
    find("#answers"),
    answer("author", sample.author.name, { targets: sample.targets, words }),
    sample.verdicts.map(verdict),
  );
  fill(find("#history"), sample.history.map(event));
  const button = (name) =>
    make(
      "button",
      { type: "button", class: `button small ${name === "discard" ? "danger" : ""}`, onclick: () => move(name) },
      `${WORDS[name][0]}…`,
    );
  const gold = make(
    "button",
    { type: "button", class: "button small", "aria-pressed": String(sample.gold), onclick: () => mark(!sample.gold) },
    sample.gold ? "No longer practise with it" : "Practise with it",
  );
  const masks = make("a", { class: "button small", href: page(`/edit?picture=${sample.picture.id}`) }, "Edit the masks");
  fill(find("#moves"), sample.moves.map(button), sample.state === "accepted" && gold, masks);
}

async function load() {
  sample = await call("GET", `/admin/samples/${id}`);
  const opened = board.open(sample.picture, sample.objects, sample.targets);
  show();
  await opened;
}

async function mark(gold) {
  try {
    await call("PUT", `/admin/samples/${id}/gold`, { gold });
    await load();
  } catch (problem) {
    notify(problem.message, { tone: "bad" });
  }
}

async function move(name) {
  const [title, words] = WORDS[name];
  find("#move-title").textContent = `${title} this sample?`;
  find("#move-words").textContent = words;
  find("#move-confirm").textContent = title;
  find("#reason").value = "";
  if ((await ask(find("#move-dialog"))) !== "yes") return;
  try {
    await call("POST", `/admin/samples/${id}/${name}`, { reason: find("#reason").value });
    notify({ reopen: "Reopened.", return: "Returned.", discard: "Discarded." }[name], { tone: "good" });
    await load();
  } catch (problem) {
    notify(problem.message, { tone: "bad" });
  }
}

/** Neighbours in the list that one came from. */
async function walk() {
  find("#back").href = page(`/admin/samples${query(filters)}`);
  if (place === null) return;
  const at = async (where) =>
    where < 0
      ? null
      : ((await call("GET", `/admin/samples${query({ ...filters, page: where + 1, per_page: 1 })}`)).items[0] ?? null);
  const [before, after] = await Promise.all([at(place - 1), at(place + 1)]);
  const link = (item, where, label, keys) => {
    if (!item) return null;
    const url = page(`/admin/samples/${item.id}${query({ ...filters, place: where })}`);
    onKey({ keys, says: `${label} sample`, group: "Samples", run: () => location.assign(url) });
    return make("a", { class: "button small", href: url }, label);
  };
  fill(find("#walk"), link(before, place - 1, "Previous", ["j"]), link(after, place + 1, "Next", ["k"]));
}

try {
  await load();
  await walk();
} catch (problem) {
  notify(problem.message, { tone: "bad" });
}
