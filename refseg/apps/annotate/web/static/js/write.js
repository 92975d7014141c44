// The annotator's page: select targets, or none, and write the sentence that means them.

import { ApiError, call } from "./api.js";
import { Board } from "./board.js";
import { announce, ask, debounce, find, notify, plural } from "./dom.js";
import { DraftKeeper } from "./drafts.js";
import { onKey } from "./keyboard.js";
import { deliver } from "./outbox.js";
import { settled, showToday } from "./shell.js";
import { newKey } from "./store.js";
import { Advice } from "./advice.js";
import { References } from "./references.js";
import {
  LeaseKeeper,
  Waiting,
  draftStatus,
  draftWords,
  modelAction,
  openNext,
  pictureShown,
  setBusy,
  showChips,
  showSaved,
  skipItem,
  splitChoice,
} from "./task.js";
import { t } from "./texts.js";

const text = find("#text");
const board = new Board(find("#board"), (ids) => {
  if (ids.size > 0 && noTarget()) setNoTarget(false);
  changed();
});
const advice = new Advice(find("#advice"), find("#submit"));
const references = new References(board, useSuggestion);
const waiting = new Waiting(next);
const split = splitChoice(next);
const check = debounce(() => advice.ask(content(), task), 600);

let task = null;
let keeper = null;
let lease = null;
let clientKey = newKey();
let suggestion = null; // {id, text} of the suggestion taken, as long as the sentence is unchanged
let sending = false;

const noTarget = () => find('input[name="meaning"][value="none"]').checked;

function setNoTarget(none) {
  find(`input[name="meaning"][value="${none ? "none" : "some"}"]`).checked = true;
}

function content() {
  return {
    text: text.value,
    targets: [...board.selected],
    no_target: noTarget(),
    suggestion_id: suggestion && suggestion.text === text.value ? suggestion.id : null,
    client_key: clientKey,
    reason: null,
    note: "",
    history: board.steps,
  };
}

function show() {
  showChips(board);
  find("#target-count").textContent = String(board.selected.size);
  find("#text-count").textContent = text.value ? t("{done} of {goal}", { done: text.value.length, goal: text.maxLength }) : "";
  references.setNoTarget(noTarget());
}

function changed() {
  show();
  if (!task) return;
  keeper.change(content());
  advice.stale();
  check();
}

async function open(answer) {
  task = answer;
  keeper?.close();
  lease?.end();
  waiting.hide();
  busy(false);
  const { picture } = task;
  keeper = new DraftKeeper("write", picture.id, status);
  lease = new LeaseKeeper(task.lease, lost);
  const { content: draft, other } = keeper.open(task.draft);
  advice.clear();
  references.open(task);
  find("#picture-note").textContent = t("Picture {id}, {split}", picture);
  const shown = restore(draft);
  if (other) offer(other);
  if (draft?.text) announce(t("Your draft is back."));
  if (draft?.note) notify(draft.note, { seconds: 30 });
  await shown;
}

/** Puts a draft into the page; null empties it. */
function restore(draft) {
  clientKey = draft?.client_key ?? newKey();
  text.value = draft?.text ?? "";
  suggestion = draft?.suggestion_id ? { id: draft.suggestion_id, text: draft.text } : null;
  setNoTarget(draft?.no_target ?? false);
  const shown = board.open(task.picture, task.objects, draft?.targets ?? [], draft?.history ?? []);
  show();
  showSaved(draft ? "saved" : "");
  if (draft?.text) check();
  return shown;
}

function offer(other) {
  const take = { label: "Take the other", run: () => (restore(other), changed()) };
  notify(`This browser kept another draft: ${draftWords(other)}`, { seconds: 60, action: take });
}

const status = (word, detail) => draftStatus(word, detail, keeper, { restore, changed, lost });

async function lost() {
  lease.end();
  const kept = text.value ? ` Your sentence “${text.value}” is kept among your drafts.` : "";
  notify(`The picture was given to somebody else, because nothing happened here for a while.${kept}`, { tone: "bad" });
  await next();
}

async function next() {
  keeper?.flush();
  const held = task && task.lease && lease && !lease.ended;
  await openNext("write", "picture", split(), { leaves: held && task.picture.split, release, open, close, again: next });
}

function close() {
  task = null;
  keeper?.close();
  lease?.end();
  waiting.show();
}

const release = (skip) => call("POST", `/leases/${task.lease.id}/release`, { skip });

function invalid(words, element) {
  advice.problem(words);
  element.focus();
}

async function submit(keep) {
  if (!task || sending || !pictureShown(board)) return;
  const body = content();
  if (!body.text.trim()) return invalid(t("Write a sentence first."), text);
  if (!body.no_target && body.targets.length === 0)
    return invalid(t("Select the objects that it means, or choose “No target”."), find(".object-list"));
  sending = true;
  check.cancel();
  busy(true);
  try {
    if (await advice.clears(body, task)) await send(body, keep);
  } finally {
    sending = false;
    busy(false);
  }
}

const busy = (on) => setBusy(board, on);

async function send(body, keep) {
  const { client_key, targets, no_target, suggestion_id } = body;
  const sent = task;
  keeper.later.cancel();
  showSaved("sending");
  try {
    const answer = await deliver(
      "/samples",
      { lease_id: task.lease.id, client_key, text: body.text, targets, no_target, suggestion_id, keep },
      { draft: keeper.name, waiting: () => showSaved("unsent") },
    );
    keeper.close({ forget: true });
    showSaved("");
    showToday(answer.today);
    const action = modelAction(answer.help_url, body.text, sent.picture);
    notify(t("Sent ({kind}). It waits for a validator.", answer.sample), {
      tone: "good",
      action,
      seconds: action ? 12 : 4,
    });
    announce(t("Sent."));
    if (answer.lease) await open({ ...task, lease: answer.lease, draft: null, sentences: task.sentences + 1 });
    else await next();
    board.stage.frame.focus();
  } catch (problem) {
    if (!(problem instanceof ApiError)) throw problem;
    showSaved("");
    await refused(problem);
  }
}

async function refused(problem) {
  if (problem.code === "lease_lost") return lost();
  if (problem.code === "key_reused") clientKey = newKey();
  keeper.change(content());
  if (problem.details.earlier)
    advice.refusal({ ...problem, message: problem.message, earlier: problem.details.earlier });
  else advice.problem(problem.message);
  busy(false);
  return text.focus();
}

async function skip() {
  if (!task || sending) return;
  if (text.value.trim() && (await ask(find("#skip-dialog"))) !== "skip") return;
  sending = true;
  busy(true);
  try {
    await skipItem(keeper, release);
    await next();
  } finally {
    sending = false;
    busy(false);
  }
}

function useSuggestion(item) {
  suggestion = item;
  text.value = item.text;
  setNoTarget(true);
  changed();
  text.focus();
  announce(t("Suggestion taken"));
}

function meaningChanged() {
  if (noTarget()) board.clear();
  announce(noTarget() ? "No target" : plural(board.selected.size, "object"));
  changed();
}

text.addEventListener("input", changed);
for (const radio of document.querySelectorAll('input[name="meaning"]'))
  radio.addEventListener("change", meaningChanged);
find("#composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit(find("#keep").checked);
});
text.addEventListener("keydown", (event) => {
  // A sentence has one line: Enter leaves the field for the picture instead of breaking it.
  if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && !event.isComposing) event.preventDefault();
});
find("#skip").addEventListener("click", skip);

const group = t("Sentence");
onKey({ keys: ["Ctrl+Enter"], says: t("Submit"), group, typing: true, once: true, run: () => submit(find("#keep").checked) });
onKey({
  keys: ["Ctrl+Shift+Enter"],
  says: t("Submit and stay on this picture"),
  group,
  typing: true,
  once: true,
  run: () => submit(true),
});
onKey({ keys: ["t", "/"], says: t("To the sentence"), group, run: () => text.focus() });
onKey({
  keys: ["Escape"],
  says: t("From the sentence to the picture"),
  group,
  typing: true,
  run: () => board.stage.frame.focus(),
});
onKey({
  keys: ["o"],
  once: true,
  says: t("No target, or these objects"),
  group,
  run: () => {
    setNoTarget(!noTarget());
    meaningChanged();
  },
});
onKey({
  keys: ["s"],
  says: t("Other suggestions, where there is no target"),
  group,
  run: () => noTarget() && references.load(),
});
onKey({ keys: ["e"], says: t("Sentences of this picture"), group, run: () => references.toggleSentences() });
onKey({ keys: ["k"], says: t("Skip the picture"), group, once: true, run: skip });

await settled;
await next();
