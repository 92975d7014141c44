// The log of changes and the log of refused requests.

import { query } from "./api.js";
import { all, fill, find, make, when } from "./dom.js";
import { PagedList, cell } from "./lists.js";
import "./shell.js";

const nameOf = (person) => person?.name ?? person ?? "–";
const detailsOf = (details) =>
  details && Object.keys(details).length ? make("code", {}, JSON.stringify(details)) : "";
const time = (iso) => make("time", { datetime: iso }, when(iso));

const LOGS = {
  audit: {
    columns: ["When", "Who", "What", "Move", "From", "To", "Reason", "Details"],
    row: (item) => [
      time(item.at),
      nameOf(item.actor),
      `${item.entity} ${item.entity_id}`,
      item.move,
      item.from ?? "–",
      item.to ?? "–",
      item.reason ?? "",
      detailsOf(item.details),
    ],
  },
  security: {
    columns: ["When", "Event", "Who", "Address", "Path", "Details"],
    row: (item) => [
      time(item.at),
      item.event,
      nameOf(item.user),
      item.address ?? "–",
      item.path ?? "",
      detailsOf(item.details),
    ],
  },
};

async function show() {
  const name = find('input[name="log"]:checked').value;
  const { columns, row } = LOGS[name];
  fill(
    find("#head"),
    make(
      "tr",
      {},
      columns.map((title) => make("th", { scope: "col" }, title)),
    ),
  );
  const list = new PagedList({
    rows: find("#rows"),
    pages: find("#pages"),
    columns: columns.length,
    empty: "Nothing is logged.",
    source: (where) => `/admin/${name}${query(where)}`,
    row: (item) =>
      make(
        "tr",
        {},
        row(item).map((value) => cell(value)),
      ),
  });
  await list.show();
}

for (const radio of all('input[name="log"]')) radio.addEventListener("change", show);
await show();
