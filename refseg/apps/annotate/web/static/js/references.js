// What an annotator may look at: the sentences that the picture has, and sentences of other pictures for no target.

import { call } from "./api.js";
import { announce, fill, find, make, plural } from "./dom.js";
import { t } from "./texts.js";

const SUGGESTIONS = 5;

export class References {
  /** @param use called with a suggestion {id, text} that the person takes */
  constructor(board, use) {
    this.board = board;
    this.use = use;
    this.panel = find("#suggestions");
    this.details = find("#sentences");
    this.details.addEventListener("toggle", () => this.details.open && this.sentences());
    find("#more-suggestions").addEventListener("click", () => this.load());
  }

  open(task) {
    this.picture = task.picture.id;
    this.known = false;
    this.suggested = false;
    this.panel.hidden = true;
    find("#sentence-count").textContent = String(task.sentences);
    fill(find("#suggestion-list"));
    fill(find("#sentence-list"));
    if (this.details.open) this.sentences();
  }

  /** Suggestions belong to sentences without target. */
  setNoTarget(on) {
    this.panel.hidden = !on;
    if (on && !this.suggested) this.load();
  }

  async load() {
    const picture = this.picture;
    const list = find("#suggestion-list");
    this.suggested = true;
    try {
      const { items } = await call("GET", `/pictures/${picture}/suggestions?count=${SUGGESTIONS}`);
      if (picture !== this.picture) return;
      fill(
        list,
        items.map((item) =>
          make("li", {}, make("button", { type: "button", class: "line", onclick: () => this.use(item) }, item.text)),
        ),
        items.length === 0 &&
          make("li", { class: "hint" }, t("There are none: no other picture of this split has a sentence.")),
      );
      announce(plural(items.length, "suggestion"));
    } catch (problem) {
      fill(list, make("li", { class: "hint" }, problem.message));
    }
  }

  toggleSentences() {
    this.details.open = !this.details.open;
  }

  async sentences() {
    if (this.known) return;
    const picture = this.picture;
    const list = find("#sentence-list");
    try {
      const { items } = await call("GET", `/pictures/${picture}/sentences`);
      if (picture !== this.picture) return;
      this.known = true;
      fill(
        list,
        items.map((item) => this.sentence(item)),
        items.length === 0 && make("li", { class: "hint" }, t("None yet.")),
      );
    } catch (problem) {
      fill(list, make("li", { class: "hint" }, problem.message));
    }
  }

  sentence({ text, source, targets, no_target }) {
    const meaning = no_target
      ? t("no target")
      : targets
        ? t("{count} objects", { count: targets.length })
        : source === "sample"
          ? t("written here")
          : "";
    const note = make("span", { class: "tag" }, meaning);
    if (!targets || targets.length === 0) return make("li", { class: "line still" }, text, " ", note);
    const show = () => this.board.mark(targets);
    const hide = () => this.board.mark([]);
    return make(
      "li",
      {},
      make(
        "button",
        {
          type: "button",
          class: "line",
          title: t("Shows its objects"),
          onfocus: show,
          onblur: hide,
          onpointerenter: show,
          onpointerleave: hide,
        },
        text,
        " ",
        note,
      ),
    );
  }
}
