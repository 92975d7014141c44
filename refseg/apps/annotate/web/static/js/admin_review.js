// The review queue: pictures whose masks are said to be broken, and sentences with flags that nobody has looked at.

import { call, page, query } from "./api.js";
import { fill, find, make, notify, plural } from "./dom.js";
import { PagedList, cell, flagTag, meaning, stateTag, thumb } from "./lists.js";
import "./shell.js";

function act(label, run, kind = "") {
  const click = async () => {
    try {
      await run();
      await flags.show(flags.page);
    } catch (problem) {
      notify(problem.message, { tone: "bad" });
    }
  };
  return make("button", { type: "button", class: `button small ${kind}`, onclick: click }, label);
}

const flags = new PagedList({
  rows: find("#rows"),
  pages: find("#pages"),
  total: find("#total"),
  columns: 6,
  empty: "No flag waits for you.",
  source: (where) => `/admin/review${query(where)}`,
  row: (sample) =>
    make(
      "tr",
      {},
      cell(thumb(sample.picture)),
      cell([make("a", { href: page(`/admin/samples/${sample.id}`) }, sample.text), " ", ...sample.flags.map(flagTag)], "words"),
      cell(stateTag(sample.state)),
      cell(meaning(sample)),
      cell(sample.author.name),
      cell([
        act("It is fine", () => call("POST", `/admin/samples/${sample.id}/pass`)),
        " ",
        act("Discard", () => call("POST", `/admin/samples/${sample.id}/discard`, { reason: "discarded in review" }), "danger"),
      ]),
    ),
});

function broken({ picture, reports }) {
  return make(
    "li",
    {},
    thumb(picture),
    make(
      "span",
      { class: "grow" },
      reports.map(({ text, note }) => make("p", {}, `“${text}” `, note && make("span", { class: "hint" }, note))),
    ),
    make("a", { class: "button small", href: page(`/edit?picture=${picture.id}`), "aria-label": `Mend picture ${picture.id}` }, "Mend"),
  );
}

await flags.show();
const { broken: pictures = [], open_pictures: open = 0 } = flags.answer ?? {};
find("#broken-count").textContent = String(pictures.length);
fill(find("#broken"), pictures.map(broken), pictures.length === 0 && make("li", { class: "hint" }, "None."));
find("#open-pictures").textContent = open ? `${plural(open, "picture")} ${open === 1 ? "has" : "have"} no masks yet.` : "";
