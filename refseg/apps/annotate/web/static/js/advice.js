// What the rules say about the sentence being written: its kind, warnings, and why it would be refused.

import { call } from "./api.js";
import { announce, fill, make } from "./dom.js";
import { t } from "./texts.js";

const signature = ({ text, targets, no_target }) => JSON.stringify([text.trim(), targets, no_target]);

export class Advice {
  constructor(element, button) {
    this.element = element;
    this.button = button;
    this.label = button.textContent;
    this.clear();
  }

  clear() {
    this.checked = null;
    this.answer = null;
    this.confirmed = null;
    this.button.textContent = this.label;
    fill(this.element);
  }

  /** The sentence has changed since the last look. */
  stale() {
    this.button.textContent = this.label;
    if (this.answer) this.element.classList.add("stale");
  }

  /** Asks the server about a sentence; without an answer the page does without. */
  async ask(content, task) {
    if (!task || !content.text.trim() || (!content.no_target && content.targets.length === 0)) {
      if (this.answer) this.clear();
      return;
    }
    const asked = signature(content);
    this.asked = asked;
    const { text, targets, no_target } = content;
    try {
      const answer = await call(
        "POST",
        "/check",
        { picture_id: task.picture.id, text, targets, no_target },
        { seconds: 5 },
      );
      if (this.asked !== asked) return;
      this.checked = asked;
      this.answer = answer;
      this.show(answer);
    } catch {
      this.checked = null;
    }
  }

  show({ kind, refusal, warnings }) {
    this.element.classList.remove("stale");
    if (refusal) {
      this.refusal(refusal);
      return;
    }
    fill(
      this.element,
      make("span", { class: "tag" }, kind),
      warnings.map(({ message }) => make("p", { class: "warning" }, message)),
    );
  }

  problem(words) {
    this.element.classList.remove("stale");
    fill(this.element, make("p", { class: "problem" }, words));
  }

  refusal({ message, earlier }) {
    this.element.classList.remove("stale");
    fill(
      this.element,
      make(
        "div",
        { class: "problem" },
        make("p", {}, message),
        earlier && make("p", { class: "quote" }, `“${earlier.text}”`),
      ),
    );
  }

  /** True if the sentence may go: nothing against it, or its warnings have been seen and it was submitted again. */
  async clears(content, task) {
    const now = signature(content);
    if (this.checked !== now) await this.ask(content, task);
    if (this.checked !== now) return true; // no answer: the server decides when it is submitted
    if (this.answer.refusal) {
      announce(this.answer.refusal.message);
      return false;
    }
    if (this.answer.warnings.length === 0 || this.confirmed === now) return true;
    this.confirmed = now;
    this.button.textContent = t("Submit anyway");
    announce(this.answer.warnings.map(({ message }) => message).join(" "));
    return false;
  }
}
