// Looking through samples with filters.

import { call, page, query } from "./api.js";
import { ago, debounce, find, make } from "./dom.js";
import { PagedList, cell, filtersOf, flagTag, meaning, restoreFilters, stateTag, thumb } from "./lists.js";
import "./shell.js";

const form = find("#filters");

function choices(name, entries) {
  find(`#${name}`).append(...entries.map(([value, label]) => make("option", { value: String(value) }, label)));
}

const samples = new PagedList({
  rows: find("#rows"),
  pages: find("#pages"),
  total: find("#total"),
  columns: 8,
  empty: "No sample fits these filters.",
  source: (where) => `/admin/samples${query({ ...filtersOf(form), ...where })}`,
  row: (sample, place) => {
    const here = page(`/admin/samples/${sample.id}${query({ ...filtersOf(form), place })}`);
    return make(
      "tr",
      {},
      cell(make("a", { href: here, "aria-label": `Sample ${sample.id}` }, thumb(sample.picture))),
      cell([make("a", { href: here }, sample.text), " ", ...sample.flags.map((code) => flagTag(code))], "words"),
      cell(stateTag(sample.state)),
      cell(meaning(sample)),
      cell(sample.kind),
      cell(sample.author.name),
      cell(sample.split),
      cell(ago(sample.created_at)),
    );
  },
});

const [people, overview] = await Promise.allSettled([call("GET", "/admin/people"), call("GET", "/admin/overview")]);
for (const name of ["author", "validator"])
  choices(
    name,
    (people.value?.items ?? []).map((person) => [person.id, person.name]),
  );
choices(
  "kind",
  (overview.value?.kinds ?? []).map(({ kind }) => [kind, kind]),
);
restoreFilters(form);

const again = debounce(() => samples.show(1), 250);
form.addEventListener("input", again);
form.addEventListener("reset", () => setTimeout(() => samples.show(1)));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  samples.show(1);
});
await samples.show(1);
