// Keys of a page, in one table that also makes the help sheet.

import { ask, fill, find, make } from "./dom.js";
import { read, write } from "./store.js";
import { t } from "./texts.js";

const TYPING =
  'textarea, select, [contenteditable], input:not([type="checkbox"]):not([type="radio"]):not([type="button"])';

const SECOND_DIGIT = 700; // milliseconds in which a second digit counts to the same number

const commands = [];
let single = read("single-keys", true);

/**
 * Adds a command: {keys: ["u", "Ctrl+z"], says: t("Undo"), group: t("Selection"), run(event), typing: works inside text
 * fields, once: not again while the key is held down}.
 * `run` may return false to let the browser have the key.
 */
export function onKey(command) {
  commands.push(command);
}

let typed = null; // {digits, timer, pick}: a number that may get another digit

/**
 * A digit key: `pick` is called with the number, at once where no longer one up to `most` begins so, or after a while.
 * A zero alone is no number: false leaves it to other commands.
 */
export function pressDigit(digit, most, pick) {
  if (digit === "0" && !typed) return false;
  const digits = `${typed?.digits ?? ""}${digit}`;
  dropDigits();
  typed = { digits, pick, timer: setTimeout(flushDigits, SECOND_DIGIT) };
  if (Number(digits) * 10 > most) flushDigits();
  return true;
}

/** Takes the number as it stands: whatever comes next must not be overtaken by it. */
export function flushDigits() {
  const { digits, pick } = typed ?? {};
  dropDigits();
  pick?.(Number(digits));
}

/** Forgets a number that is not complete: it was meant for what was here before. */
export function dropDigits() {
  clearTimeout(typed?.timer);
  typed = null;
}

/** Name of a key press: "Ctrl+Shift+Enter", "a", "?". Shift is named with keys that it does not change only. */
export function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const parts = [];
  if (event.ctrlKey || event.metaKey) parts.push("Ctrl");
  if (event.altKey) parts.push("Alt");
  if (event.shiftKey && (key.length > 1 || /[a-z]/.test(key))) parts.push("Shift");
  return [...parts, key === " " ? "Space" : key].join("+");
}

function pressed(event) {
  if (event.isComposing || event.defaultPrevented || find("dialog[open]")) return;
  const typing = event.target.matches?.(TYPING) ?? false;
  const name = nameOf(event);
  if (event.repeat && ["Space", "Enter"].includes(name) && event.target.matches?.("[data-once], input")) {
    event.preventDefault(); // held down, it would press the button or send the form again and again
    return;
  }
  if (!/^\d$/.test(name) && !["Control", "Shift", "Alt", "Meta"].includes(event.key)) flushDigits();
  if (!single && name.length === 1 && name !== "?") return;
  for (const command of commands) {
    if (typing && !command.typing) continue;
    if (!command.keys.includes(name) && !command.digits) continue;
    if (command.digits && !/^\d$/.test(name)) continue;
    // Space and Enter belong to the button or link that has the focus.
    if (["Space", "Enter"].includes(name) && event.target.matches?.("button, a, summary, label, input")) continue;
    if (!(event.repeat && (command.once || command.digits)) && command.run(event) === false) continue;
    event.preventDefault();
    return;
  }
}

const caps = { Space: "Space", ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→" };

function cap(name) {
  const parts = name === "+" ? ["+"] : name.split("+").filter(Boolean);
  return parts.map((part) => make("kbd", {}, caps[part] ?? (part.length === 1 ? part.toUpperCase() : part)));
}

/** Opens the sheet of all keys of this page. */
export async function showKeys() {
  const dialog = find("#keys");
  const groups = new Map();
  for (const command of commands.filter((each) => each.says)) {
    if (!groups.has(command.group)) groups.set(command.group, []);
    groups.get(command.group).push(command);
  }
  const rows = [...groups].map(([group, members]) =>
    make(
      "section",
      {},
      make("h3", {}, group),
      make(
        "dl",
        {},
        members.map(({ keys, shown, says }) =>
          make(
            "div",
            {},
            make(
              "dt",
              {},
              (shown ?? keys).map((name) => make("span", { class: "key-name" }, cap(name))),
            ),
            make("dd", {}, says),
          ),
        ),
      ),
    ),
  );
  fill(find(".key-groups", dialog), rows);
  const box = find("#single-keys");
  box.checked = single;
  box.onchange = () => {
    single = box.checked;
    write("single-keys", single);
  };
  await ask(dialog);
}

/** The second click of a double click: what it hits may be another item's by now. */
function pressedAgain(event) {
  if (event.detail < 2 || !event.target.closest?.("[data-once]")) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

export function listen() {
  document.addEventListener("keydown", pressed);
  document.addEventListener("click", pressedAgain, true);
  for (const type of ["pointerdown", "click", "submit"]) document.addEventListener(type, flushDigits, true);
  onKey({ keys: ["?"], says: t("This sheet"), group: t("Everywhere"), run: showKeys });
}
