// Practice: sentences whose meaning is known; the answer is shown at once.

import { call } from "./api.js";
import { Board } from "./board.js";
import { announce, fill, find, make, notify } from "./dom.js";
import { onKey } from "./keyboard.js";
import { settled } from "./shell.js";
import { showChips } from "./task.js";
import { t } from "./texts.js";

const board = new Board(find("#board"), () => (sayNothing(), showChips(board)));
let task = null;
let answered = false;

const sayNothing = () => fill(find("#verdict-problem"));
const say = (words, tone) => fill(find("#verdict-problem"), make("p", { class: tone }, words));

async function next() {
  const { task: found, right, answered: all, due } = await call("POST", "/practice/next");
  task = found;
  find("#board").hidden = !task;
  find("#empty").hidden = task !== null;
  find("#standing").textContent = t("{right} of {all} right.", { right, all }) + (due ? ` ${t("Practice comes before work here.")}` : "");
  if (!task) return;
  answered = false;
  board.readOnly = false;
  board.stage.enabled = true;
  sayNothing();
  for (const name of ["#submit", "#nothing"]) find(name).hidden = false;
  find("#onward").hidden = true;
  find("#asked").textContent = task.sample.text;
  announce(t("Select all that is meant by: {text}", { text: task.sample.text }));
  await board.open(task.picture, task.objects);
  showChips(board);
}

async function answer(fields) {
  if (!task || answered) return;
  try {
    const result = await call("POST", `/practice/${task.sample.id}`, { targets: [], no_target: false, ...fields });
    answered = true;
    board.readOnly = true;
    board.stage.enabled = false;
    board.history.reset(result.targets);
    board.refresh();
    const meant = result.no_target ? t("Nothing is meant.") : t("What is meant is selected now.");
    say(result.matched ? t("Right.") : `${t("Not quite.")} ${meant}`, result.matched ? "good-words" : "warning");
    for (const name of ["#submit", "#nothing"]) find(name).hidden = true;
    find("#onward").hidden = false;
    find("#onward").focus();
  } catch (problem) {
    notify(problem.message, { tone: "bad" });
  }
}

function submit() {
  if (answered) return next();
  if (board.selected.size === 0) return say(t("Nothing is selected. If nothing is meant, press “Nothing is meant” (O)."), "warning");
  return answer({ targets: [...board.selected] });
}

function nothing() {
  if (board.selected.size > 0) say(t("Objects are selected. Empty the selection first (C)."), "warning");
  else answer({ no_target: true });
}

find("#composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
find("#nothing").addEventListener("click", nothing);
find("#onward").addEventListener("click", next);
const group = t("Verdict");
onKey({ keys: ["Ctrl+Enter"], says: t("Submit the selection"), group, typing: true, once: true, run: submit });
onKey({ keys: ["o"], says: t("Nothing is meant"), group, once: true, run: nothing });

await settled;
await next();
