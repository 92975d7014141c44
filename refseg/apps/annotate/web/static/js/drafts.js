// A draft is kept twice: at once in the browser, and half a second after the last change on the server. Nothing typed is
// lost when the browser closes, the network goes or the server stops; what could not be saved is saved when it can be.

import { ApiError, call } from "./api.js";
import { debounce } from "./dom.js";
import { read, remove, write } from "./store.js";

const PAUSE = 500; // milliseconds after the last change
const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30000;

// The server may give the fields back in another order.
const plain = (content) => JSON.stringify(content && Object.entries(content).sort(([a], [b]) => (a < b ? -1 : 1)));
const same = (a, b) => plain(a) === plain(b);

export class DraftKeeper {
  /** @param status function of "saved", "saving", "offline", "conflict" or "lost"; conflict gets the other draft too */
  constructor(kind, itemId, status) {
    this.path = `/drafts/${kind}/${itemId}`;
    this.name = `draft.${kind}.${itemId}`;
    this.status = status;
    this.revision = 0;
    this.content = null;
    this.saved = null;
    this.sent = []; // the last contents on their way, newest last: an answer may get lost, not the request
    this.wait = FIRST_WAIT;
    this.later = debounce(() => this.save(), PAUSE);
    this.again = null;
    this.closed = false;
    this.leave = () => {
      if (document.visibilityState === "hidden") this.flush();
    };
    this.online = () => this.save();
    document.addEventListener("visibilitychange", this.leave);
    window.addEventListener("pagehide", this.leave);
    window.addEventListener("online", this.online);
  }

  /**
   * Content to begin with: the server's draft, or this browser's where it holds changes that the server never got.
   * @returns {content, other}: `other` is set where both changed; the page offers it
   */
  open(serverDraft) {
    const local = read(this.name);
    this.revision = serverDraft?.revision ?? 0;
    this.saved = serverDraft?.content ?? null;
    this.content = this.saved;
    if (!local || same(local.content, this.saved)) return { content: this.saved, other: null };
    const builtOn = local.revision === this.revision || (this.saved && local.sent.includes(plain(this.saved)));
    if (!builtOn) return { content: this.saved, other: local.content };
    this.change(local.content);
    return { content: local.content, other: null };
  }

  change(content) {
    if (this.closed) return;
    this.content = structuredClone(content);
    this.remember();
    if (same(this.content, this.saved)) return;
    this.status("saving");
    this.later();
  }

  remember(sending = null) {
    if (sending) this.sent = [...this.sent, plain(sending)].slice(-6);
    write(this.name, { content: this.content, revision: this.revision, sent: this.sent });
  }

  async save() {
    clearTimeout(this.again);
    if (this.closed || this.running || this.content === null || same(this.content, this.saved)) return;
    this.running = true;
    const content = this.content;
    this.remember(content);
    try {
      const answer = await call("PUT", this.path, { revision: this.revision, content });
      this.accept(answer.revision, content);
      this.wait = FIRST_WAIT;
    } catch (problem) {
      if (!this.closed) this.failed(problem);
    }
    this.running = false;
    if (!this.closed && !this.blocked && !this.again && !same(this.content, this.saved)) this.later();
  }

  accept(revision, content) {
    this.again = null;
    this.revision = revision;
    this.saved = content;
    if (this.closed) return;
    if (same(this.content, content)) {
      remove(this.name);
      this.status("saved");
    } else this.remember();
  }

  failed(problem) {
    if (problem instanceof ApiError && problem.code === "draft_conflict") {
      const other = problem.details.draft;
      this.revision = other.revision;
      // What the server holds is what this page sent before the answer was lost: no other writer.
      if (same(other.content, this.content)) this.accept(other.revision, other.content);
      else if (this.sent.includes(plain(other.content))) this.again = null;
      else {
        this.blocked = true;
        this.status("conflict", other);
      }
      return;
    }
    if (problem instanceof ApiError && !problem.passing) {
      this.blocked = true;
      this.status("lost", problem);
      return;
    }
    this.status("offline");
    this.again = setTimeout(() => {
      this.again = null;
      this.save();
    }, this.wait);
    this.wait = Math.min(LONGEST_WAIT, this.wait * 2);
  }

  /** Writes over the other draft after a conflict. */
  keepMine() {
    this.blocked = false;
    this.save();
  }

  /** Last chance before the page goes: a request that outlives it. */
  flush() {
    this.later.cancel();
    if (this.closed || this.blocked || this.content === null || same(this.content, this.saved)) return;
    const content = this.content;
    this.remember(content);
    call("PUT", this.path, { revision: this.revision, content }, { keepalive: true, stay: true })
      .then((answer) => this.accept(answer.revision, content))
      .catch((problem) => this.failed(problem));
  }

  /** Ends the keeping; with `forget` the browser's copy goes too. */
  close({ forget = false } = {}) {
    this.closed = true;
    this.later.cancel();
    clearTimeout(this.again);
    document.removeEventListener("visibilitychange", this.leave);
    window.removeEventListener("pagehide", this.leave);
    window.removeEventListener("online", this.online);
    if (forget) remove(this.name);
  }
}
