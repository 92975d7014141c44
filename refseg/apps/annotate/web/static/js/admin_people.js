// Accounts: adding people, their roles, closing an account, a new password.

import { call } from "./api.js";
import { ago, all, ask, fill, find, make, notify, percent } from "./dom.js";
import { cell } from "./lists.js";
import "./shell.js";

const dialog = find("#person-dialog");
const problem = find("#person-problem");
const usual = ["annotator", "validator"]; // as `refseg annotate user add` gives

function row(person) {
  const numbers = [
    person.points,
    person.written,
    person.accepted,
    percent(person.agreement_as_annotator),
    person.validated,
    percent(person.agreement_as_validator),
    person.practice[1] ? `${person.practice[0]} of ${person.practice[1]}` : "–",
  ];
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, person.name, person.active ? "" : make("span", { class: "tag bad" }, "closed")),
    cell(person.roles.map((role) => make("span", { class: "tag" }, role))),
    numbers.map((value) => cell(String(value), "number")),
    cell(ago(person.last_seen_at)),
    cell(
      make(
        "button",
        { type: "button", class: "button small", "aria-label": `Change ${person.name}`, onclick: () => edit(person) },
        "Change",
      ),
    ),
  );
}

async function show() {
  const { items } = await call("GET", "/admin/people");
  fill(find("#rows"), items.map(row));
}

async function edit(person) {
  const fresh = person === null;
  find("#person-title").textContent = fresh ? "Add a person" : person.name;
  find("#name").value = fresh ? "" : person.name;
  find("#name").disabled = !fresh;
  find("#password").value = "";
  find("#password-label").textContent = fresh ? "Password, at least 10 characters" : "New password (empty: as it is)";
  for (const box of all('input[name="role"]'))
    box.checked = fresh ? usual.includes(box.value) : person.roles.includes(box.value);
  find("#active").checked = fresh || person.active;
  find("#active-label").hidden = fresh;
  problem.hidden = true;
  find("#person-form").onsubmit = async (event) => {
    event.preventDefault();
    try {
      await save(person);
      dialog.close("saved");
      notify("Saved.", { tone: "good" });
      await show();
    } catch (refusal) {
      problem.textContent = refusal.message;
      problem.hidden = false;
    }
  };
  await ask(dialog);
}

function save(person) {
  const roles = all('input[name="role"]')
    .filter((box) => box.checked)
    .map((box) => box.value);
  const password = find("#password").value;
  if (person === null) return call("POST", "/admin/people", { name: find("#name").value.trim(), password, roles });
  return call("PATCH", `/admin/people/${person.id}`, {
    roles,
    active: find("#active").checked,
    ...(password ? { password } : {}),
  });
}

find("#add").addEventListener("click", () => edit(null));
find("#person-back").addEventListener("click", () => dialog.close(""));
try {
  await show();
} catch (refusal) {
  notify(refusal.message, { tone: "bad" });
}
