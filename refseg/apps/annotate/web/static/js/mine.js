// One's own sentences, password and tokens.

import { call, page, query } from "./api.js";
import { ago, fill, find, make, notify, percent } from "./dom.js";
import { PagedList, cell, meaning, showNumbers, stateTag, thumb } from "./lists.js";
import { me } from "./shell.js";
import { t } from "./texts.js";

const samples = new PagedList({
  rows: find("#rows"),
  pages: find("#pages"),
  total: find("#samples-total"),
  columns: 7,
  empty: "You have not written a sentence yet.",
  source: (where) => `/me/samples${query(where)}`,
  row: (sample) =>
    make(
      "tr",
      {},
      cell(thumb(sample.picture)),
      cell([sample.text, ...sample.warnings.map((words) => make("p", { class: "hint" }, words))], "words"),
      cell([stateTag(sample.state), sample.reason && make("p", { class: "hint" }, sample.reason.replace("_", " "))]),
      cell(meaning(sample)),
      cell(sample.kind),
      cell(ago(sample.created_at)),
      cell(sample.free && ways(sample)),
    ),
});

/** As long as nobody has a sentence, its author may change it or take it back. */
function ways({ id, text }) {
  const way = (label, words, run) =>
    make("button", { type: "button", class: "button small", "aria-label": `${label}: ${text}`, onclick: run }, words);
  return [
    way(t("Change"), t("Change"), () => withdraw(id, true)),
    " ",
    way(t("Withdraw"), t("Withdraw"), () => withdraw(id, false)),
  ];
}

async function withdraw(id, draft) {
  try {
    const { picture_id: picture } = await call("POST", `/me/samples/${id}/withdraw`, { draft });
    if (draft) location.assign(page(`/write?picture=${picture}`));
    else {
      notify(t("Taken back."), { tone: "good" });
      await samples.show(samples.page);
    }
  } catch (problem) {
    notify(problem.message, { tone: "bad" });
    await samples.show(samples.page);
  }
}

async function showMe() {
  const answer = await me;
  if (!answer) return;
  const { as_annotator, as_validator, compared_as_annotator, compared_as_validator } = answer.agreement;
  showNumbers(find("#me-numbers"), [
    ["points", answer.points],
    ["written", answer.written],
    ["accepted", answer.accepted],
    ["validated", answer.validated],
    [`agreement as author (${compared_as_annotator} compared)`, percent(as_annotator)],
    [`agreement as validator (${compared_as_validator} compared)`, percent(as_validator)],
  ]);
}

async function changePassword(event) {
  event.preventDefault();
  const form = event.target;
  const problem = find("#password-problem");
  problem.hidden = true;
  try {
    await call("PUT", "/me/password", { old: find("#old").value, new: find("#new").value }, { stay: true });
    form.reset();
    notify("The password is changed.", { tone: "good" });
  } catch (refusal) {
    problem.textContent = refusal.message;
    problem.hidden = false;
    find(refusal.field === "old" ? "#old" : "#new").focus();
  }
}

const listed = (answer) => (Array.isArray(answer) ? answer : answer.items);

async function showTokens() {
  const tokens = listed(await call("GET", "/me/tokens"));
  const row = (token) =>
    make(
      "li",
      { class: "token-row" },
      make(
        "span",
        { class: "grow" },
        token.label,
        " ",
        make(
          "span",
          { class: "hint" },
          token.last_used_at ? "used " : "never used",
          token.last_used_at ? ago(token.last_used_at) : "",
        ),
      ),
      make(
        "button",
        {
          type: "button",
          class: "button small danger",
          "aria-label": `Delete the token ${token.label}`,
          onclick: () => deleteToken(token),
        },
        "Delete",
      ),
    );
  fill(find("#token-list"), tokens.map(row), tokens.length === 0 && make("li", { class: "hint" }, "None."));
}

async function deleteToken({ id, label }) {
  try {
    await call("DELETE", `/me/tokens/${id}`);
    notify(`The token “${label}” is deleted.`);
    await showTokens();
  } catch (problem) {
    notify(problem.message, { tone: "bad" });
  }
}

async function makeToken(event) {
  event.preventDefault();
  try {
    const { token } = await call("POST", "/me/tokens", { label: find("#label").value, password: find("#token-password").value });
    event.target.reset();
    find("#token-text").textContent = token;
    find("#token-new").hidden = false;
    find("#token-text").focus();
    await showTokens();
  } catch (problem) {
    notify(problem.message, { tone: "bad" });
  }
}

find("#password-form").addEventListener("submit", changePassword);
find("#token-form").addEventListener("submit", makeToken);
await Promise.allSettled([showMe(), samples.show(), showTokens()]);
