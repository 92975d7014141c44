// The start page: today, drafts, the week's best.

import { call, page } from "./api.js";
import { ago, fill, find, make, percent, plural } from "./dom.js";
import { showNumbers } from "./lists.js";
import { me } from "./shell.js";

function draft({ kind, picture, text, content, saved_at, item_id }) {
  const words = kind === "write" ? content.text || "(no sentence yet)" : (text ?? "(a sentence to validate)");
  const path = kind === "write" ? `/write?picture=${item_id}` : `/validate?sample=${item_id}`;
  return make(
    "li",
    {},
    make("img", { class: "thumb", src: picture.url, alt: "", loading: "lazy" }),
    make("span", { class: "grow" }, words, " ", make("span", { class: "hint" }, ago(saved_at))),
    make("a", { class: "button small", href: page(path) }, kind === "write" ? "Go on writing" : "Go on"),
  );
}

function state(element, there, yes, no) {
  if (!element) return;
  element.textContent = there ? yes : no;
  element.classList.toggle("good", there);
}

async function showMe() {
  const answer = await me;
  if (!answer) return;
  const { today } = answer;
  const left = today.goal - today.done;
  find("#goal-words").textContent =
    left > 0 ? `${today.done} of ${today.goal}: ${left} to go` : `${today.done} of ${today.goal}: the goal is reached`;
  find("#goal-bar").value = Math.min(today.done, today.goal);
  find("#goal-bar")
    .closest("section")
    .classList.toggle("reached", left <= 0);
  showNumbers(find("#me-numbers"), [
    ["points today", today.points],
    ["points in all", answer.points],
    ["written", answer.written],
    ["accepted", answer.accepted],
    ["validated", answer.validated],
    ["agreement", percent(answer.agreement.as_annotator)],
  ]);
  state(find("#write-state"), answer.waiting.write, "pictures are waiting", "no picture left for now");
  const waiting = Number(answer.waiting.validate);
  state(find("#validate-state"), waiting > 0, `${plural(waiting, "sentence")} waiting`, "nothing waits for you");
}

async function showDrafts() {
  const { items } = await call("GET", "/drafts");
  find("#drafts").hidden = items.length === 0;
  fill(find("#draft-list"), items.map(draft));
}

async function showWeek() {
  const { items } = await call("GET", "/leaderboard?period=week");
  const rank = (item) =>
    make(
      "li",
      { class: item.me ? "me" : null },
      make("span", { class: "rank" }, String(item.rank)),
      make("span", {}, item.name),
      make("span", { class: "points" }, plural(item.points, "point")),
    );
  fill(
    find("#ranks"),
    items.slice(0, 8).map(rank),
    items.length === 0 && make("li", { class: "hint" }, "Nobody has played this week yet."),
  );
}

await Promise.allSettled([showMe(), showDrafts(), showWeek()]);
