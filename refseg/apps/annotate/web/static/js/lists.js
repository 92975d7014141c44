// Parts of pages that list things: figures, pairs of name and value, pages of a long list, pictures, states.

import { call, query } from "./api.js";
import { announce, fill, make, notify } from "./dom.js";
import { t } from "./texts.js";

/** Figures under their names, for a <dl class="numbers">. */
export function showNumbers(element, entries) {
  fill(
    element,
    entries.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))),
  );
}

/** Pairs of name and value, for a <dl class="pairs">. */
export function showPairs(element, entries) {
  fill(
    element,
    entries.map(([name, value]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, value instanceof Node ? value : String(value))),
    ),
  );
}

export const stateTag = (state) => make("span", { class: "tag", "data-state": state }, t(state));

export const thumb = (picture) =>
  make("img", { class: "thumb", src: picture.url, alt: "", loading: "lazy", width: "64", height: "48" });

export const meaning = ({ no_target, targets }) => {
  if (targets === null) return "–"; // not told to those who may be asked
  const count = Array.isArray(targets) ? targets.length : targets;
  return no_target ? t("no target") : count === 1 ? t("1 object") : t("{count} objects", { count });
};

export const cell = (content, kind = "") => make("td", { class: kind || null }, content);

/** Warnings and flags by their codes, as they are said to people. */
export const FLAGS = {
  count_mismatch: "number differs",
  irrelevant: "irrelevant",
  names_present: "names what is there",
  easy_no_target: "easy for the model",
};

export const flagTag = (code) => make("span", { class: "tag warn" }, FLAGS[code] ?? code);

/** A list read page by page: rows in a table's body, buttons to turn pages, the place in the address. */
export class PagedList {
  /** @param source function of {page, per_page} to the path; @param row function of an item to a <tr> */
  constructor({ rows, pages, source, row, total = null, perPage = 50, columns, empty }) {
    Object.assign(this, { rows, pages, source, row, total, perPage, columns, empty, page: 1 });
  }

  async show(page = 1) {
    this.page = page;
    const turn = Symbol("turn");
    this.turn = turn;
    try {
      const answer = await call("GET", this.source({ page, per_page: this.perPage }));
      if (this.turn !== turn) return; // a later filter has answered first
      this.answer = answer;
      fill(
        this.rows,
        answer.items.map((item, index) => this.row(item, (page - 1) * this.perPage + index)),
        answer.items.length === 0 &&
          make("tr", {}, make("td", { colspan: String(this.columns), class: "hint" }, this.empty)),
      );
      if (this.total) this.total.textContent = String(answer.total);
      this.buttons(answer);
    } catch (problem) {
      notify(problem.message, { tone: "bad" });
    }
  }

  buttons({ total }) {
    const last = Math.max(1, Math.ceil(total / this.perPage));
    const turn = (label, page, possible) =>
      make(
        "button",
        { type: "button", class: "button small", disabled: !possible, onclick: () => this.show(page) },
        label,
      );
    if (last === 1) {
      fill(this.pages);
      return;
    }
    fill(
      this.pages,
      turn("Earlier", this.page - 1, this.page > 1),
      make("span", {}, `${this.page} of ${last}`),
      turn("Later", this.page + 1, this.page < last),
    );
    announce(`Page ${this.page} of ${last}`);
  }
}

/** Values of a form by name, leaving out what is empty; also written into the address so that it can be shared. */
export function filtersOf(form) {
  const values = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
  history.replaceState(null, "", location.pathname + query(values));
  return values;
}

/** Sets a form's fields from the address. */
export function restoreFilters(form) {
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements.namedItem(name);
    if (field && "value" in field) field.value = value;
  }
}
