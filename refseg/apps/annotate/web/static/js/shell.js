// What every page has: menu, theme, keys, today's count, the state of the connection, sentences still to be sent.

import { ApiError, call, page, root } from "./api.js";
import { fill, find, make, notify } from "./dom.js";
import { listen, onKey, showKeys } from "./keyboard.js";
import { deliverLeftovers } from "./outbox.js";
import { remove } from "./store.js";
import { t } from "./texts.js";

export const here = document.documentElement.dataset.page;
const signedIn = document.documentElement.dataset.person !== "0";

/** Shows today's count in the head of the page. */
export function showToday(today) {
  const bar = find("#today-bar");
  if (!bar || !today) return;
  bar.max = today.goal;
  bar.value = Math.min(today.done, today.goal);
  fill(
    find("#today-text"),
    t("{done} of {goal}", today),
    make("span", { class: "points" }, ` · ${today.points === 1 ? t("1 point") : t("{points} points", today)}`),
  );
  find("#today").classList.toggle("reached", today.done >= today.goal);
  find("#today").setAttribute(
    "aria-label",
    t("Today: {done} of {goal} done, {points} points", today),
  );
}

/** Says above the page that something is wrong with the connection; null takes it away. */
export function showConnection(words) {
  const line = find("#connection");
  line.hidden = words === null;
  if (line.textContent !== (words ?? "")) line.textContent = words ?? "";
}

function menu() {
  const button = find("#menu-button");
  if (!button) return;
  const set = (open) => {
    button.setAttribute("aria-expanded", String(open));
    find("#menu").classList.toggle("open", open);
  };
  button.addEventListener("click", () => set(button.getAttribute("aria-expanded") !== "true"));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && button.getAttribute("aria-expanded") === "true") {
      set(false);
      button.focus();
    }
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".top")) set(false);
    const who = find(".who");
    if (who?.open && !event.target.closest(".who")) who.open = false;
  });
}

function theme() {
  const button = find("#theme-button");
  if (!button) return;
  const order = ["auto", "light", "dark"];
  button.addEventListener("click", async () => {
    const html = document.documentElement;
    const next = order[(order.indexOf(html.dataset.theme) + 1) % order.length];
    html.dataset.theme = next;
    button.title = `Theme: ${next}`;
    button.setAttribute("aria-label", `Theme: ${next}`);
    try {
      await call("PUT", "/me/theme", { theme: next });
    } catch {
      notify(t("The theme could not be saved; it holds until the page is left."));
    }
  });
}

function language() {
  find("#language")?.addEventListener("change", async (event) => {
    try {
      await call("PUT", "/me/language", { language: event.target.value });
      location.reload();
    } catch (problem) {
      notify(problem.message, { tone: "bad" });
    }
  });
}

/** On a phone whose keyboard is open, pages that fill the screen fill what is left of it. */
function fitScreen() {
  const seen = window.visualViewport;
  if (!seen) return;
  const fit = () => document.documentElement.style.setProperty("--seen", `${Math.round(seen.height)}px`);
  seen.addEventListener("resize", fit);
  fit();
}

function goKeys() {
  const go = { w: "/write", v: "/validate" };
  for (const [letter, path] of Object.entries(go)) {
    const link = find(`.menu a[href="${root}${path}"]`);
    if (link && here !== path.slice(1))
      onKey({
        keys: [`Alt+${letter}`],
        says: t("To the page “{page}”", { page: link.textContent.trim() }),
        group: t("Everywhere"),
        typing: true,
        run: () => location.assign(page(path)),
      });
  }
}

async function leftovers() {
  const results = await deliverLeftovers(() =>
    showConnection(t("Offline. A sentence kept in this browser is sent when the server answers again.")),
  );
  showConnection(null);
  for (const { draft, answer, problem } of results) {
    if (answer) {
      if (draft) remove(draft);
      showToday(answer.today);
      notify(t("A submission kept in this browser has now been sent."), { tone: "good" });
    } else if (problem instanceof ApiError && problem.status !== 401) {
      notify(`A submission kept in this browser was refused: ${problem.message}`, { tone: "bad" });
    }
  }
}

/** Resolves once what earlier pages left has been sent. */
export const settled = signedIn ? leftovers() : Promise.resolve();

/** Who plays and how far: the answer of /me, or null where it cannot be had. */
export const me = signedIn
  ? settled
      .then(() => call("GET", "/me"))
      .then(
        (answer) => (showToday(answer.today), answer),
        () => null,
      )
  : Promise.resolve(null);

menu();
language();
fitScreen();
theme();
listen();
goKeys();
find("#keys-button")?.addEventListener("click", () => showKeys());
window.addEventListener("offline", () => showConnection(t("Offline. What you do is kept in this browser.")));
window.addEventListener("online", () => showConnection(null));
