// The validator's page: find what a sentence means, without knowing what its author selected.

import { ApiError, call, page } from "./api.js";
import { Board } from "./board.js";
import { announce, ask, fill, find, make, notify } from "./dom.js";
import { DraftKeeper } from "./drafts.js";
import { onKey } from "./keyboard.js";
import { deliver } from "./outbox.js";
import { settled, showToday } from "./shell.js";
import { newKey } from "./store.js";
import {
  LeaseKeeper,
  Waiting,
  draftStatus,
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

const board = new Board(find("#board"), changed);
const waiting = new Waiting(next);
const split = splitChoice(next);
const rejection = find("#reject-dialog");
const note = find("#note");
const reasons = [...rejection.querySelectorAll('input[name="reason"]')];

let task = null;
let keeper = null;
let lease = null;
let clientKey = newKey();
let sending = false;

const reason = () => reasons.find((radio) => radio.checked)?.value ?? null;

function content() {
  return {
    text: "",
    targets: [...board.selected],
    no_target: false,
    suggestion_id: null,
    client_key: clientKey,
    reason: reason(),
    note: note.value,
    history: board.steps,
  };
}

function show() {
  const count = board.selected.size;
  showChips(board);
  find("#chips-hint").hidden = count > 0;
  find("#target-count").textContent = count === 0 ? "" : count === 1 ? t("1 object") : t("{count} objects", { count });
  fill(find("#verdict-problem"));
}

function changed() {
  show();
  if (task) keeper.change(content());
}

async function open(answer) {
  task = answer;
  keeper?.close();
  lease?.end();
  waiting.hide();
  busy(false);
  keeper = new DraftKeeper("validate", task.sample.id, status);
  lease = new LeaseKeeper(task.lease, lost);
  const { content: draft } = keeper.open(task.draft);
  find("#asked").textContent = task.sample.text;
  find("#picture-note").textContent = t("Sentence {id}, {split}", { id: task.sample.id, split: task.picture.split });
  announce(t("Select all that is meant by: {text}", { text: task.sample.text }));
  await restore(draft);
}

function restore(draft) {
  clientKey = draft?.client_key ?? newKey();
  for (const radio of reasons) radio.checked = radio.value === draft?.reason;
  note.value = draft?.note ?? "";
  find("#reject-confirm").disabled = reason() === null;
  const shown = board.open(task.picture, task.objects, draft?.targets ?? [], draft?.history ?? [], task.turn);
  show();
  showSaved(draft ? "saved" : "");
  return shown;
}

const status = (word, detail) => draftStatus(word, detail, keeper, { restore, changed, lost });

async function lost() {
  lease.end();
  notify(t("The sentence was given to somebody else, because nothing happened here for a while."), { tone: "bad" });
  await next();
}

async function next() {
  keeper?.flush();
  const held = task && !lease.ended;
  await openNext("validate", "sample", split(), { leaves: held && task.picture.split, release, open, close, again: next });
}

function close() {
  task = null;
  keeper?.close();
  lease?.end();
  waiting.show();
}

const release = (skip) => call("POST", `/leases/${task.lease.id}/release`, { skip });

const results = {
  matched: [t("Same objects as the author's: accepted."), "good"],
  differed: [t("Kept. You and the author selected different objects."), "plain"],
  rejected: [t("Rejected."), "plain"],
  broken: [t("The picture goes to the editors, and the sentence comes back when its mask is mended."), "plain"],
};

/** For those who may mend masks: a way to the picture's. */
const mending = (picture) =>
  find("#board").dataset.editor === "1" && {
    label: t("Mend it now"),
    run: () => location.assign(page(`/edit?picture=${picture.id}`)),
  };

async function send(decision, fields) {
  if (!task || sending || !pictureShown(board)) return;
  const sent = task;
  sending = true;
  busy(true);
  keeper.later.cancel();
  showSaved("sending");
  try {
    const answer = await deliver(
      `/samples/${task.sample.id}/verdict`,
      {
        lease_id: task.lease.id,
        client_key: clientKey,
        decision,
        targets: [],
        no_target: false,
        reason: null,
        note: "",
        ...fields,
      },
      { draft: keeper.name, waiting: () => showSaved("unsent") },
    );
    keeper.close({ forget: true });
    showSaved("");
    showToday(answer.today);
    const broken = answer.result === "rejected" && fields.reason === "broken_mask";
    const [words, tone] = results[broken ? "broken" : answer.result];
    const action = broken ? mending(sent.picture) : modelAction(answer.help_url, sent.sample.text, sent.picture);
    notify(`${words} ${answer.points === 1 ? t("1 point") : t("{points} points", answer)}.`, { tone, action, seconds: action ? 12 : 4 });
    await next();
    board.stage.frame.focus();
  } catch (problem) {
    if (!(problem instanceof ApiError)) throw problem;
    showSaved("");
    if (problem.code === "key_reused") clientKey = newKey();
    notify(problem.message, { tone: "bad" });
    if (["lease_lost", "not_allowed", "not_found"].includes(problem.code)) await next();
  } finally {
    sending = false;
    busy(false);
  }
}

function busy(on) {
  setBusy(board, on);
  if (!on) show();
}

/** Says beside the buttons why nothing was sent. */
function warn(words) {
  fill(find("#verdict-problem"), make("p", { class: "warning" }, words));
}

function submit() {
  if (board.selected.size === 0) warn(t("Nothing is selected. If nothing is meant, press “Nothing is meant” (O)."));
  else send("select", { targets: [...board.selected] });
}

function nothing() {
  if (board.selected.size > 0) warn(t("Objects are selected. Empty the selection first (C)."));
  else send("select", { no_target: true });
}

async function reject() {
  if (!task || sending) return;
  if ((await ask(rejection)) === "reject" && reason()) await send("reject", { reason: reason(), note: note.value });
  else changed();
}

async function skip() {
  if (!task || sending) return;
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

for (const radio of reasons) radio.addEventListener("change", () => (find("#reject-confirm").disabled = false));
rejection.addEventListener("keydown", (event) => {
  const place = Number(event.key) - 1;
  if (event.target === note || !(place in reasons)) return;
  event.preventDefault();
  reasons[place].checked = true;
  reasons[place].focus();
  find("#reject-confirm").disabled = false;
});
find("#composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
find("#nothing").addEventListener("click", nothing);
find("#reject").addEventListener("click", reject);
find("#skip").addEventListener("click", skip);

const group = t("Verdict");
onKey({ keys: ["Ctrl+Enter"], says: t("Submit the selection"), group, typing: true, once: true, run: submit });
onKey({ keys: ["o"], says: t("Nothing is meant"), group, once: true, run: nothing });
onKey({ keys: ["r"], says: t("Reject, with a reason"), group, once: true, run: reject });
onKey({ keys: ["k"], says: t("Skip the sentence"), group, once: true, run: skip });

await settled;
await next();
