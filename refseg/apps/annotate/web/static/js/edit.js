// The editors' page: masks drawn, asked of the model, mended.

import { ApiError, OfflineError, call } from "./api.js";
import { Desk } from "./desk.js";
import { ago, all, announce, ask, debounce, fill, find, make, notify } from "./dom.js";
import { onKey } from "./keyboard.js";
import { Mask } from "./masks.js";
import { ObjectList } from "./objects.js";
import { settled } from "./shell.js";
import { Stage } from "./stage.js";
import { read, remove, write } from "./store.js";
import { LeaseKeeper, Waiting, splitChoice } from "./task.js";
import { t } from "./texts.js";
import { Box, Brush, Click, Polygon } from "./tools.js";

const AT_ONCE = 120_000; // letters of masks in one request
const PAUSE = 1200; // milliseconds after the last change until it is saved
const SAME_PLACE = 6; // screen pixels within which a second click asks for the next guess

const board = find("#board");
const desk = new Desk(changed);
const stage = new Stage(find(".stage", board), {
  toggle: (key) => desk.select(stage.several ? toggled(key) : [key]),
  cycleBack: () => desk.select([]),
  focus: (key) => focus(key, false),
});
const list = new ObjectList(find(".object-list", board), {
  toggle: (key) => desk.select(toggled(key)),
  focus,
  show: (key) => stage.show(key),
});
const waiting = new Waiting(next);
const split = splitChoice(next);
const later = debounce(() => save(), PAUSE);
const looks = { outlines: true, numbers: true, spotlight: false };
const surface = {
  stage,
  size: () => [task.picture.height, task.picture.width],
  radius: () => Number(find("#radius").value) / 2,
  redraw: () => stage.draw(),
  mask: (mask, forced) => useMask(mask, forced),
};
const tools = {
  select: null,
  polygon: new Polygon(surface),
  brush: new Brush(surface),
  eraser: new Brush(surface, true),
  click: new Click(surface, askModel),
  box: new Box(surface, askModel),
  cut: new Polygon(surface, (mask) => {
    if (!desk.cut(mask)) notify(t("Select one object, and draw around a part of it."));
    setTool("select");
  }),
};

let task = null;
let lease = null;
let tool = "select";
let lastName = "";
let asked = null; // the model's last guesses and where they were asked for
let saving = null;

const toggled = (key) => {
  const keys = new Set(desk.selected);
  if (!keys.delete(key)) keys.add(key);
  return keys;
};

const nameOf = (key) => {
  const index = desk.objects.findIndex((each) => each.key === key);
  return index < 0 ? "" : `${desk.objects[index].name} ${index + 1}`;
};

function focus(key, scroll = true) {
  list.focus(key, scroll);
  stage.update({ focus: key });
  find(".stage-tip", board).textContent = key === null ? "" : nameOf(key);
}

// Showing -------------------------------------------------------------------------------------------------------------

function changed(objects) {
  if (!task) return;
  const shapes = desk.shapes();
  stage.shapes = shapes;
  stage.update({ ...looks, selected: desk.selected });
  if (objects) list.open(shapes);
  list.select(desk.selected);
  find(".object-count", board).textContent = String(shapes.length);
  const chosen = desk.chosen;
  const names = new Set(chosen.map((each) => each.name));
  const field = find("#class");
  if (document.activeElement !== field) field.value = names.size === 1 ? [...names][0] : "";
  field.disabled = chosen.length === 0;
  for (const [name, possible] of Object.entries({
    undo: desk.place > 0,
    redo: desk.place < desk.steps.length - 1,
    merge: chosen.length > 1,
    split: chosen.length === 1,
    delete: chosen.length > 0,
  }))
    for (const button of all(`[data-act="${name}"]`, board)) button.disabled = !possible;
  find("#done").disabled = shapes.length === 0;
  find("#chosen").textContent = chosen.length === 1 ? nameOf(chosen[0].key) : t("{count} selected", { count: chosen.length });
  if (objects && desk.dirty) {
    status("saving");
    keepHere();
    later();
  }
}

function status(word) {
  const words = {
    "": "",
    saved: t("Saved"),
    saving: t("Saving…"),
    offline: t("Offline: kept in this browser, and saved as soon as the server answers"),
    looking: t("The model looks at the picture…"),
  };
  find("#saved").textContent = words[word];
  find("#saved").dataset.status = word;
}

function setTool(name) {
  if (!(name in tools) || (["click", "box"].includes(name) && !task?.model)) return;
  tools[tool]?.cancel();
  tool = name;
  for (const button of all("[data-pick]", board)) button.setAttribute("aria-pressed", String(button.dataset.pick === name));
  stage.tool = tools[name];
  stage.update({ overlay: tools[name] ? (pen, view) => tools[name].draw(pen, view) : null });
  find("#brush-size").hidden = !["brush", "eraser"].includes(name);
  find("#modes").hidden = !["polygon", "click", "box"].includes(name);
  announce(find(`[data-pick="${name}"]`, board).getAttribute("aria-label"));
}

const mode = () => find('input[name="mode"]:checked').value;

// Drawing ---------------------------------------------------------------------------------------------------------------

/** A tool's mask: a new object, added to the selected one, or taken away from the selected ones. */
function useMask(mask, forced = null, { name = null, source = "drawn", score = null, amend = false } = {}) {
  if (mask.empty) return;
  const painting = tool === "brush";
  const how = forced ?? (painting ? "add" : mode());
  if (how === "remove") {
    if (desk.selected.size === 0) notify(t("Select the object from which something is to be taken away."));
    else
      desk.alter((each) => {
        const rest = each.mask.minus(mask);
        return rest.empty ? [] : [{ ...each, mask: rest }];
      });
  } else if (how === "add" && desk.active) desk.alter((each) => [{ ...each, mask: each.mask.union(mask) }]);
  else desk.add(mask, { name: name ?? (lastName || "object"), source, score }, amend);
  announce(t("{count} objects", { count: desk.objects.length }));
}

async function askModel(where) {
  if (!task || surface.asking) return;
  const { view } = stage;
  const near =
    asked?.point &&
    where.point &&
    asked.step === desk.place &&
    Math.hypot(where.point[0] - asked.point[0], where.point[1] - asked.point[1]) * view.scale <= SAME_PLACE;
  if (near && asked.items.length > 1 && mode() === "new") {
    asked.index = (asked.index + 1) % asked.items.length;
    guess(true);
    return;
  }
  surface.asking = true;
  board.classList.add("asking");
  try {
    const { items } = await call(
      "POST",
      `/edit/pictures/${task.picture.id}/segment`,
      { lease_id: task.lease.id, ...where },
      { seconds: 300 },
    );
    if (items.length === 0) notify(t("The model finds nothing here. Draw a box around it, or use polygon or brush."));
    else {
      asked = { ...where, items, index: 0 };
      guess(false);
    }
  } catch (problem) {
    await failed(problem);
  } finally {
    surface.asking = false;
    board.classList.remove("asking");
  }
}

function guess(amend) {
  const item = asked.items[asked.index];
  useMask(Mask.fromRle(item.rle), null, { name: item.name, source: "proposed", score: item.score || null, amend });
  asked.step = desk.place;
}

function splitActive() {
  if (!desk.active || desk.split()) return;
  setTool("cut");
  notify(t("It is in one piece: draw around the part that is an object of its own."));
}

// Saving ----------------------------------------------------------------------------------------------------------------

const localName = () => `edit.${task.picture.id}`;

/** What the server does not have is kept in the browser too, as far as it has room. */
function keepHere() {
  const { objects, removed } = desk.unsaved;
  write(localName(), {
    revision: desk.revision,
    objects: objects.map(({ each }) => ({ ...each, id: desk.ids.get(each.key) ?? null, mask: each.mask.toRle() })),
    removed: removed.map((key) => desk.ids.get(key)),
  });
}

function restoreHere() {
  const local = read(localName());
  if (!local || local.revision !== desk.revision) return;
  const byId = new Map([...desk.ids].map(([key, id]) => [id, key]));
  const gone = new Set(local.removed.map((id) => byId.get(id)));
  const kept = local.objects.map((each) => ({
    key: byId.get(each.id) ?? desk.newKey(),
    name: each.name,
    mask: Mask.fromRle(each.mask),
    source: each.source,
    score: each.score,
  }));
  const changedKeys = new Set(kept.map((each) => each.key));
  const base = desk.objects.filter((each) => !gone.has(each.key) && !changedKeys.has(each.key));
  desk.push([...base, ...kept]);
  announce(t("What was not saved is back."));
}

/** Saves until nothing is unsaved; resolves to whether all is. One at a time. */
function save(discard = false) {
  saving ??= saveNow(discard).finally(() => (saving = null));
  return saving;
}

async function saveNow(discard) {
  later.cancel();
  while (task && desk.dirty) {
    const { objects, removed } = desk.unsaved;
    const sent = [];
    let letters = 0;
    const body = objects.flatMap(({ each, same }) => {
      if (letters > AT_ONCE) return [];
      const rle = same ? null : each.mask.toRle();
      letters += rle ? rle.counts.length : 0;
      sent.push(each);
      const id = desk.ids.get(each.key) ?? null;
      return [{ id, key: each.key, name: each.name, rle, ...(id === null ? { source: each.source, score: each.score } : {}) }];
    });
    status("saving");
    try {
      const answer = await call("PUT", `/edit/pictures/${task.picture.id}/objects`, {
        lease_id: task.lease.id,
        revision: desk.revision,
        objects: body,
        removed: removed.map((key) => desk.ids.get(key)),
        discard,
      });
      desk.saved(answer, sent, removed);
    } catch (problem) {
      return failed(problem);
    }
  }
  if (task) remove(localName());
  status("saved");
  return true;
}

/** What to do about a refusal; resolves to false, or to whether all is saved in the end. */
async function failed(problem) {
  if (problem instanceof OfflineError || (problem instanceof ApiError && problem.passing && problem.code !== "model")) {
    status("offline");
    setTimeout(() => task && desk.dirty && save(), 3000);
    return false;
  }
  if (problem instanceof ApiError && problem.code === "not_allowed" && problem.details.texts) {
    fill(find("#discard-texts"), problem.details.texts.map((text) => make("li", {}, text)));
    if ((await ask(find("#discard-dialog"))) === "discard") return saveNow(true);
    status("");
    return false;
  }
  if (problem instanceof ApiError && ["lease_lost", "draft_conflict"].includes(problem.code)) {
    notify(problem.message, { tone: "bad" });
    const { id } = task.picture;
    drop();
    if (problem.code === "lease_lost") await next();
    else await take(id);
    return false;
  }
  if (!(problem instanceof ApiError)) throw problem;
  notify(problem.message, { tone: "bad" });
  status("");
  return false;
}

// Pictures --------------------------------------------------------------------------------------------------------------

const objectsOf = (items) =>
  items.map(({ id, name, rle, source, score }) => ({ key: `o${id}`, name, mask: Mask.fromRle(rle), source, score }));
const idsOf = (items) => new Map(items.map(({ id }) => [`o${id}`, id]));

async function open(answer) {
  task = answer;
  lease?.end();
  waiting.hide();
  lease = new LeaseKeeper(task.lease, lost, (held) =>
    call("POST", `/edit/pictures/${task.picture.id}/renew`, { lease_id: held.id }),
  );
  desk.reset(objectsOf(task.objects), idsOf(task.objects), task.revision);
  fill(find("#names"), task.names.map((name) => make("option", { value: name })));
  find("#picture-note").textContent = t("Picture {id}, {split}", { id: task.picture.id, split: task.picture.split });
  find("#reports").hidden = task.reports.length === 0;
  fill(
    find("#report-list"),
    task.reports.map(({ text, note }) => make("li", {}, `“${text}”`, note && make("p", { class: "hint" }, note))),
  );
  for (const button of all('[data-pick="click"], [data-pick="box"]', board)) button.hidden = !task.model;
  find("#versions").open = false;
  setTool(task.objects.length === 0 && !task.model ? "polygon" : "select");
  status("");
  const shown = stage.open(task.picture, desk.shapes());
  restoreHere();
  changed(true);
  if (!task.proposed && task.model && task.masks === "open" && task.objects.length === 0) propose(task);
  try {
    await shown;
  } catch {
    stage.enabled = false;
    notify(t("The picture could not be loaded. It is tried again when you reload the page."), { tone: "bad" });
    return;
  }
  stage.enabled = true;
}

async function propose(asking) {
  status("looking");
  try {
    const body = { lease_id: asking.lease.id };
    const answer = await call("POST", `/edit/pictures/${asking.picture.id}/propose`, body, { seconds: 300 });
    if (task !== asking) return;
    status("");
    const found = objectsOf(answer.task.objects).filter((each) => !desk.kept.has(each.key));
    for (const each of found) desk.kept.set(each.key, each);
    for (const [key, id] of idsOf(answer.task.objects)) desk.ids.set(key, id);
    desk.revision = answer.task.revision;
    if (found.length) desk.push([...desk.objects, ...found], []);
    announce(t("{count} objects proposed", { count: found.length }));
  } catch (problem) {
    status("");
    if (task === asking && problem instanceof ApiError) notify(problem.message, { tone: "bad" });
  }
}

function drop() {
  remove(localName());
  task = null;
  lease?.end();
}

async function lost() {
  notify(t("The picture was given to somebody else, because nothing happened here for a while."), { tone: "bad" });
  drop();
  await next();
}

async function next() {
  const wanted = Number(new URLSearchParams(location.search).get("picture")) || null;
  if (wanted) history.replaceState(null, "", location.pathname);
  await take(wanted);
}

async function take(wanted) {
  try {
    const answer = await call("POST", "/edit/next", { split: wanted ? null : split(), picture_id: wanted });
    if (answer.task) await open(answer.task);
    else close();
  } catch (problem) {
    if (problem instanceof ApiError && problem.status !== 401) notify(problem.message, { tone: "bad" });
    close();
  }
}

function close() {
  task = null;
  lease?.end();
  waiting.show();
}

async function done() {
  if (!task || desk.objects.length === 0) return;
  if (!(await save())) return;
  try {
    const { sentences } = await call("POST", `/edit/pictures/${task.picture.id}/finish`, { lease_id: task.lease.id });
    const words = sentences
      ? t("Done. {count} sentences go to validators again.", { count: sentences })
      : t("Done. The picture is written about from now on.");
    notify(words, { tone: "good", seconds: 4 });
    drop();
    await next();
  } catch (problem) {
    await failed(problem);
  }
}

async function skip() {
  if (!task || !(await save())) return;
  try {
    await call("POST", `/edit/pictures/${task.picture.id}/release`, { lease_id: task.lease.id, skip: true });
    drop();
  } catch (problem) {
    await failed(problem);
  }
  await next();
}

async function showVersions() {
  if (!task || !find("#versions").open) return;
  const { items } = await call("GET", `/edit/pictures/${task.picture.id}/history`);
  const back = (item) => () => {
    const mask = Mask.fromRle(item.rle);
    const key = [...desk.ids].find(([, id]) => id === item.object_id)?.[0];
    if (key && desk.objects.some((each) => each.key === key)) {
      desk.select([key]);
      desk.alter((each) => [{ ...each, mask, name: item.name }]);
    } else desk.add(mask, { name: item.name });
  };
  fill(
    find("#version-list"),
    items.map((item) =>
      make(
        "li",
        { class: "token-row" },
        make("span", { class: "grow" }, `${item.name}, ${item.person ?? "–"} `, make("span", { class: "hint" }, ago(item.at))),
        make("button", { type: "button", class: "button small", onclick: back(item) }, t("Put back")),
      ),
    ),
    items.length === 0 && make("li", { class: "hint" }, t("Nothing was changed yet.")),
  );
}

// Buttons and keys ------------------------------------------------------------------------------------------------------

const acts = {
  undo: () => desk.walk(-1),
  redo: () => desk.walk(1),
  merge: () => desk.merge(),
  split: splitActive,
  delete: () => desk.remove(),
};
const views = { in: () => stage.zoom(1.4), out: () => stage.zoom(1 / 1.4), fit: () => stage.fit() };

board.addEventListener("click", (event) => {
  const { pick, act, tool: view } = event.target.closest("[data-pick], [data-act], [data-tool]")?.dataset ?? {};
  if (pick) setTool(pick);
  else if (act) acts[act]();
  else if (view in views) views[view]();
  else if (view in looks) {
    looks[view] = !looks[view];
    find(`[data-tool="${view}"]`, board).setAttribute("aria-pressed", String(looks[view]));
    stage.update(looks);
  }
});
find('[data-tool="spotlight"]', board).setAttribute("aria-pressed", "false");
find("#class").addEventListener("change", (event) => {
  const name = event.target.value.trim();
  if (!name || desk.selected.size === 0) return;
  lastName = name;
  desk.rename(name);
});
find("#radius").addEventListener("input", () => stage.draw());
find("#class").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.ctrlKey && !event.isComposing) stage.frame.focus(); // takes the class as it stands
});
find("#composer").addEventListener("submit", (event) => event.preventDefault());
find("#done").addEventListener("click", done);
find("#skip").addEventListener("click", skip);
find("#versions").addEventListener("toggle", showVersions);
stage.canvas.addEventListener("dblclick", () => tools[tool]?.finish());
window.addEventListener("pagehide", () => task && desk.dirty && keepHere());

const picks = t("Tools");
for (const button of all("[data-pick]", board))
  onKey({
    keys: [button.dataset.key],
    says: button.getAttribute("aria-label"),
    group: picks,
    run: () => setTool(button.dataset.pick),
  });
const step = (dx, dy) => (event) => {
  const active = tools[tool];
  const by = event.shiftKey ? 10 : 1;
  if (active) active.step(dx * by, dy * by);
  else if (stage.view.fitted) walk(dx + dy > 0 ? 1 : -1);
  else stage.pan(-dx * 60, -dy * 60);
};
const cursor = t("Cursor");
for (const [key, dx, dy] of [
  ["ArrowRight", 1, 0],
  ["ArrowLeft", -1, 0],
  ["ArrowDown", 0, 1],
  ["ArrowUp", 0, -1],
])
  onKey({
    keys: [key, `Shift+${key}`],
    ...(key === "ArrowRight"
      ? { shown: ["ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight"], says: t("Move the tool (Shift: faster)"), group: cursor }
      : {}),
    run: step(dx, dy),
  });
onKey({ keys: ["Space"], says: t("Press the tool"), group: cursor, run: () => press() });
onKey({ keys: ["Enter"], says: t("Close the polygon"), group: cursor, run: () => tools[tool]?.finish() });
onKey({
  keys: ["Backspace"],
  says: t("Take back the last point"),
  group: cursor,
  run: () => tools[tool]?.back() || false,
});
onKey({ keys: ["["], says: t("Smaller brush"), group: cursor, run: () => resize(1 / 1.25) });
onKey({ keys: ["]"], says: t("Larger brush"), group: cursor, run: () => resize(1.25) });
const group = t("Objects");
onKey({ keys: ["n"], says: t("Next object"), group, run: () => walk(1) });
onKey({ keys: ["p"], says: t("Previous object"), group, run: () => walk(-1) });
onKey({ keys: ["c"], says: t("To the class"), group, run: () => find("#class").select() });
onKey({ keys: ["j"], says: t("Merge the selected objects"), group, run: () => acts.merge() });
onKey({ keys: ["g"], says: t("Split the selected object"), group, run: splitActive });
onKey({ keys: ["Delete"], says: t("Remove the selected objects"), group, run: () => acts.delete() });
onKey({ keys: ["u", "Ctrl+z"], says: t("Undo"), group, run: () => acts.undo() });
onKey({ keys: ["y", "Ctrl+y", "Ctrl+Shift+z"], shown: ["y"], says: t("Redo"), group, run: () => acts.redo() });
onKey({
  keys: ["Escape"],
  says: t("Stop drawing"),
  group: cursor,
  typing: true,
  run: () => {
    if (document.activeElement === find("#class")) stage.frame.focus();
    else setTool("select");
  },
});
onKey({ keys: ["Ctrl+Enter"], says: t("Done with this picture"), group, typing: true, once: true, run: done });
onKey({ keys: ["k"], says: t("Skip the picture"), group, once: true, run: skip });
const picture = t("Picture");
onKey({ keys: ["+", "="], shown: ["+"], says: t("Zoom in"), group: picture, run: views.in });
onKey({ keys: ["-"], says: t("Zoom out"), group: picture, run: views.out });
onKey({ keys: ["0"], says: t("Whole picture"), group: picture, run: views.fit });

function press() {
  const active = tools[tool];
  if (active) active.press();
  else if (list.active !== null) desk.select(toggled(list.active));
}

function resize(factor) {
  const field = find("#radius");
  field.value = String(Math.max(Number(field.min), Math.round(Number(field.value) * factor + Math.sign(factor - 1))));
  stage.draw();
}

function walk(by) {
  const key = list.next(by);
  if (key === null) return;
  focus(key);
  desk.select([key]);
  announce(nameOf(key));
}

await settled;
await next();
