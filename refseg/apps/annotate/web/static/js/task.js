// What the two players' pages share: holding an item, the waiting page, the line that says whether all is saved.

import { ApiError, call, page } from "./api.js";
import { announce, ask, fill, find, make, notify, percent, plural } from "./dom.js";
import { showConnection } from "./shell.js";
import { read, write } from "./store.js";
import { t } from "./texts.js";

const LOOK_AGAIN = 20; // seconds between looks for new work

/** Keeps a lease alive while the page is in sight; `lost` is called once when somebody else holds the item. */
export class LeaseKeeper {
  /** @param renewal how the lease is renewed; that of writing and validating if it is not given */
  constructor(lease, lost, renewal = (held) => call("POST", `/leases/${held.id}/renew`)) {
    this.lease = lease;
    this.lost = lost;
    this.renewal = renewal;
    this.timer = setInterval(() => this.renew(), Math.min(60, lease.seconds / 3) * 1000);
    this.seen = () => this.renew();
    document.addEventListener("visibilitychange", this.seen);
  }

  async renew() {
    if (document.visibilityState !== "visible") return;
    try {
      await this.renewal(this.lease);
    } catch (problem) {
      // Without an answer the item may still be ours: the next renewal or the submission will tell.
      if (problem instanceof ApiError && problem.code === "lease_lost" && !this.ended) {
        this.end();
        this.lost(problem);
      }
    }
  }

  end() {
    this.ended = true;
    clearInterval(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
  }
}

/** The page shown while there is no work; looks again by itself. */
export class Waiting {
  constructor(look) {
    this.look = look;
    find("#look-again").addEventListener("click", () => this.now());
  }

  show() {
    find("#board").hidden = true;
    const empty = find("#empty");
    if (empty.hidden) {
      empty.hidden = false;
      announce(find("#empty-title").textContent);
    }
    this.left = LOOK_AGAIN;
    clearInterval(this.timer);
    this.timer = setInterval(() => {
      this.left -= 1;
      find("#empty-clock").textContent = t("Looks again in {seconds} s", { seconds: this.left });
      if (this.left <= 0) this.now();
    }, 1000);
  }

  now() {
    clearInterval(this.timer);
    find("#empty-clock").textContent = t("Looking…");
    this.look();
  }

  hide() {
    clearInterval(this.timer);
    find("#empty").hidden = true;
    find("#board").hidden = false;
  }
}

/** Line under the buttons: what is saved where. */
export function showSaved(status) {
  const words = {
    saved: t("Saved"),
    saving: t("Saving…"),
    offline: t("Offline: saved in this browser, and on the server as soon as it answers"),
    sending: t("Sending…"),
    unsent: t("Offline: kept in this browser, sent by itself as soon as the server answers"),
    conflict: t("Changed in another window too"),
    lost: t("Not saved on the server; saved in this browser"),
    "": "",
  }[status];
  const line = find("#saved");
  if (line.textContent !== words) line.textContent = words;
  line.dataset.status = status;
  const away = status === "offline" || status === "unsent";
  showConnection(away ? words : null);
}

/** Small buttons of the selected objects; a push removes the object. */
export function showChips(board) {
  const ids = board.selected;
  const shapes = board.shapes.filter((shape) => ids.has(shape.id));
  fill(
    find("#chips"),
    shapes.map((shape) => {
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" }, String(shape.number));
      swatch.style.backgroundColor = shape.look.colour;
      swatch.style.color = shape.look.text;
      const button = make(
        "button",
        { type: "button", class: "chip", "aria-label": `Remove ${shape.name} ${shape.number}` },
        swatch,
        shape.name,
        make("span", { "aria-hidden": "true" }, "×"),
      );
      button.addEventListener("click", () => {
        board.toggle(shape.id);
        (find("#chips button") ?? find(".object-list")).focus();
      });
      button.addEventListener("pointerenter", () => board.focus(shape.id));
      return make("li", {}, button);
    }),
  );
}

/** Split that the person wants to work on, kept for the next time. */
export function splitChoice(changed) {
  const select = find("#split");
  select.value = read("split", "");
  if (select.selectedIndex < 0) select.value = "";
  select.addEventListener("change", () => {
    write("split", select.value);
    changed();
  });
  return () => select.value || null;
}

/** Shows what a DraftKeeper reports; on a conflict, asks which draft to keep; `lost` is called when the lease is gone. */
export async function draftStatus(word, detail, keeper, { restore, changed, lost }) {
  showSaved(word);
  if (word === "conflict") {
    if (await askConflict(draftWords(keeper.content), draftWords(detail.content))) keeper.keepMine();
    else {
      keeper.saved = detail.content;
      keeper.blocked = false;
      restore(detail.content);
      changed();
    }
  } else if (word === "lost" && detail.code === "lease_lost") lost();
}

/** Locks the page's form and picture while a request is on its way. */
export function setBusy(board, on) {
  for (const element of find("#composer").elements) element.disabled = on;
  board.readOnly = on;
  board.stage.enabled = !on;
}

/** Whether the picture is on the stage; otherwise it is asked for again, and the person told: nobody answers blind. */
export function pictureShown(board) {
  if (board.stage.image) return true;
  notify(t("The picture is not here yet: nothing was submitted. It is asked for again."), { tone: "bad" });
  board.stage.open(board.stage.picture, board.stage.shapes).catch(() => {});
  return false;
}

/** Gives the item back for a day and forgets its draft. */
export async function skipItem(keeper, release) {
  try {
    keeper.close({ forget: true });
    await release(true);
    announce(t("Skipped."));
  } catch (problem) {
    notify(problem.message, { tone: "bad" });
  }
}

/** The button of a note that shows a model's answer, where there is one. */
export function modelAction(url, text, picture) {
  return url && { label: t("What the model answers"), run: () => showModel(url, text, picture) };
}

const WHY = {
  only_yours: "What waits was written by you: it goes to others.",
  seen: "What waits was written or seen by you: it goes to others. Where nobody else comes, a sentence on which two differed goes back to its author after some days, or when an administrator returns it.",
  held: "Others have the last ones just now.",
};

/** Says on the waiting page why there is nothing. */
function sayWhy(role, reason) {
  const clock = find("#empty-clock");
  const line = find("#empty-why") ?? make("p", { id: "empty-why", class: "hint" });
  line.textContent = role === "validate" && WHY[reason] ? t(WHY[reason]) : "";
  if (reason === "practice")
    fill(line, t("Practice comes before work now."), " ", make("a", { href: page("/practice") }, t("To the practice")));
  clock.before(line);
}

/** Asks which of two drafts to keep. Resolves to true for this window's. */
async function askConflict(hereWords, thereWords) {
  find("#draft-here").textContent = hereWords;
  find("#draft-there").textContent = thereWords;
  return (await ask(find("#conflict-dialog"))) !== "there";
}

/** Words for a draft in the question of two drafts. */
export function draftWords({ text, targets, no_target }) {
  const meaning = no_target ? "no target" : plural(targets.length, "object");
  return text ? `“${text}”, ${meaning}` : meaning;
}

/** Opens the sheet that shows a model's answer on the picture of a finished task. */
async function showModel(url, text, picture) {
  const answer = await call("GET", url.slice(url.indexOf("/api/v1") + "/api/v1".length));
  const canvas = find("#model-picture");
  find("#model-text").textContent = `“${text}”`;
  const agreement = answer.agrees ? "The model means the same." : "The model means something else.";
  const targets = answer.no_target ? "It finds no target." : `It finds ${plural(answer.targets.length, "object")}.`;
  find("#model-words").textContent = `${answer.model}: ${targets} ${agreement} Overlap ${percent(answer.score)}.`;
  const image = new Image();
  image.src = picture.url;
  await image.decode();
  canvas.width = picture.width;
  canvas.height = picture.height;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0, picture.width, picture.height);
  const path = new Path2D();
  for (const ring of answer.rings) {
    path.moveTo(ring[0], ring[1]);
    for (let i = 2; i < ring.length; i += 2) path.lineTo(ring[i], ring[i + 1]);
    path.closePath();
  }
  pen.fillStyle = "rgba(213, 94, 0, 0.45)";
  pen.fill(path, "nonzero");
  pen.lineWidth = Math.max(2, picture.width / 300);
  pen.strokeStyle = "#ffffff";
  pen.stroke(path);
  await ask(find("#model-dialog"));
}

/**
 * Opens the next item for a player (`role` validate or write), or the one that the page's address names under `name`;
 * closes the page where there is none. An item that is held in the split `leaves` is given back when another is chosen.
 */
export async function openNext(role, name, split, { leaves, release, open, close, again }) {
  const wanted = new URLSearchParams(location.search).get(name);
  try {
    if (leaves && split && split !== leaves) await release(false);
    if (wanted) history.replaceState(null, "", location.pathname);
    const answer = await call("POST", `/${role}/next`, { split, [`${name}_id`]: wanted ? Number(wanted) : null });
    if (answer.task) await open(answer.task);
    else {
      close();
      sayWhy(role, answer.reason);
    }
  } catch (problem) {
    if (!(problem instanceof ApiError) || problem.passing) close();
    else if (problem.status !== 401) {
      notify(problem.message, { tone: "bad" });
      if (wanted) await again();
      else close();
    }
  }
}
