// The start page: today, drafts, the week's best.

import { call, page } from "./api.js";
import { ago, fill, find, make, percent } from "./dom.js";
import { meaning, showNumbers, stateTag } from "./lists.js";
import { me } from "./shell.js";
import { t } from "./texts.js";

function draft({ kind, picture, text, content, saved_at, item_id }) {
  const words = kind === "write" ? content.text || t("(no sentence yet)") : (text ?? t("(a sentence to validate)"));
  const path = kind === "write" ? `/write?picture=${item_id}` : `/validate?sample=${item_id}`;
  return make(
    "li",
    {},
    make("img", { class: "thumb", src: picture.url, alt: "", loading: "lazy" }),
    make("span", { class: "grow" }, words, " ", make("span", { class: "hint" }, ago(saved_at))),
    make("a", { class: "button small", href: page(path) }, kind === "write" ? t("Go on writing") : t("Go on")),
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
    left > 0
      ? t("{done} of {goal}: {left} to go", { ...today, left })
      : t("{done} of {goal}: the goal is reached", today);
  find("#goal-bar").value = Math.min(today.done, today.goal);
  find("#goal-bar")
    .closest("section")
    .classList.toggle("reached", left <= 0);
  showNumbers(find("#me-numbers"), [
    [t("points today"), today.points],
    [t("points in all"), answer.points],
    [t("written"), answer.written],
    [t("accepted"), answer.accepted],
    [t("validated"), answer.validated],
    [t("agreement"), percent(answer.agreement.as_annotator)],
  ]);
  state(find("#write-state"), answer.waiting.write, t("pictures are waiting"), t("no picture left for now"));
  const waiting = Number(answer.waiting.validate);
  state(find("#validate-state"), waiting > 0, t("sentences waiting: {count}", { count: waiting }), t("nothing waits for you"));
  const masks = answer.waiting.masks;
  state(find("#masks-state"), masks > 0, t("pictures waiting: {count}", { count: masks }), t("all pictures have their masks"));
  const { practice } = answer;
  find("#practice-card").hidden = practice.gold === 0;
  state(
    find("#practice-state"),
    practice.due,
    t("comes before work now"),
    t("{right} of {all} right.", { right: practice.right, all: practice.answered }),
  );
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
      make("span", { class: "points" }, t("points: {count}", { count: item.points })),
    );
  fill(
    find("#ranks"),
    items.slice(0, 8).map(rank),
    items.length === 0 && make("li", { class: "hint" }, t("Nobody has played this week yet.")),
  );
}

async function showRecent() {
  const { items } = await call("GET", "/me/samples?per_page=8");
  find("#recent").hidden = items.length === 0;
  fill(
    find("#recent-list"),
    items.map((sample) =>
      make(
        "li",
        {},
        make("img", { class: "recent-picture", src: sample.picture.url, alt: "", loading: "lazy" }),
        make("p", { class: "recent-text", lang: "en" }, sample.text),
        make("p", { class: "hint" }, stateTag(sample.state), " ", meaning(sample)),
      ),
    ),
  );
}

await Promise.allSettled([showMe(), showDrafts(), showWeek(), showRecent()]);
