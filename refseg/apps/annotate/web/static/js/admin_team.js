// Projects with their people, and invitation links.

import { call } from "./api.js";
import { all, ask, fill, find, make, notify, plural, when } from "./dom.js";
import { cell } from "./lists.js";
import "./shell.js";

let people = [];

const nameOf = (id) => people.find((person) => person.id === id)?.name ?? String(id);

async function doing(work) {
  try {
    await work();
    return true;
  } catch (problem) {
    notify(problem.message, { tone: "bad" });
    return false;
  }
}

async function showProjects() {
  const { items } = await call("GET", "/admin/projects");
  const row = (project) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, project.name),
      [project.pictures, project.masks, project.accepted].map((count) => cell(String(count), "number")),
      cell(project.people.map(nameOf).join(", ") || "everybody without a project"),
      cell(
        make(
          "button",
          { type: "button", class: "button small", "aria-label": `People of ${project.name}`, onclick: () => assign(project) },
          "People",
        ),
      ),
    );
  fill(
    find("#projects"),
    items.map(row),
    items.length === 0 && make("tr", {}, make("td", { colspan: "6", class: "hint" }, "None yet.")),
  );
  fill(
    find("#project"),
    make("option", { value: "" }, "any"),
    items.map(({ id, name }) => make("option", { value: String(id) }, name)),
  );
}

async function assign(project) {
  find("#people-title").textContent = project.name;
  const box = ({ id, name }) =>
    make(
      "label",
      { class: "check role" },
      make("input", { type: "checkbox", name: "person", value: String(id), checked: project.people.includes(id) }),
      ` ${name}`,
    );
  fill(find("#people"), make("legend", {}, "Who works on it"), people.filter(({ active }) => active).map(box));
  if ((await ask(find("#people-dialog"))) !== "save") return;
  const chosen = all('input[name="person"]:checked').map((each) => Number(each.value));
  await doing(() => call("PUT", `/admin/projects/${project.id}/people`, { people: chosen }));
  await showProjects();
}

async function showInvitations() {
  const { items } = await call("GET", "/admin/invitations");
  const row = (item) =>
    make(
      "li",
      { class: "token-row" },
      make(
        "span",
        { class: "grow" },
        item.label,
        " ",
        make("span", { class: "hint" }, `${item.roles.join(", ")}; ${plural(item.places, "place")} left; until ${when(item.expires_at)}`),
      ),
      item.open &&
        make(
          "button",
          { type: "button", class: "button small danger", "aria-label": `End ${item.label}`, onclick: () => revoke(item) },
          "End",
        ),
      !item.open && make("span", { class: "tag" }, "over"),
    );
  fill(find("#invitations"), items.map(row));
}

async function revoke({ id }) {
  await doing(() => call("DELETE", `/admin/invitations/${id}`));
  await showInvitations();
}

find("#project-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await doing(() => call("POST", "/admin/projects", { name: find("#project-name").value }))) event.target.reset();
  await showProjects();
});
find("#invitation-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  await doing(async () => {
    const { path } = await call("POST", "/admin/invitations", {
      label: find("#label").value,
      roles: all('input[name="role"]:checked').map((box) => box.value),
      places: Number(find("#places").value),
      days: Number(find("#days").value),
      project_id: Number(find("#project").value) || null,
    });
    find("#link").textContent = `${location.origin}${path}`;
    find("#new-link").hidden = false;
    find("#link").focus();
  });
  await showInvitations();
});

await doing(async () => {
  people = (await call("GET", "/admin/people")).items;
  await Promise.all([showProjects(), showInvitations()]);
});
