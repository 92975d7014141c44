// The leaderboard by day, week and all time.

import { call } from "./api.js";
import { all, announce, fill, find, make, notify, percent } from "./dom.js";
import { cell } from "./lists.js";
import "./shell.js";

const row = (item) =>
  make(
    "tr",
    { class: item.me ? "me" : null },
    cell(String(item.rank), "number"),
    make("th", { scope: "row" }, item.name, item.me ? " (you)" : ""),
    ...[item.points, item.written, item.accepted, item.validated].map((count) => cell(String(count), "number")),
    cell(percent(item.agreement), "number"),
  );

async function show() {
  const period = find('input[name="period"]:checked').value;
  try {
    const { items, me } = await call("GET", `/leaderboard?period=${period}`);
    const below = me && !items.some((item) => item.me);
    fill(
      find("#rows"),
      items.map(row),
      below && row({ ...me, me: true }),
      items.length === 0 &&
        make("tr", {}, make("td", { colspan: "7", class: "hint" }, "Nobody has played in this time.")),
    );
    announce(`${items.length} players`);
  } catch (problem) {
    notify(problem.message, { tone: "bad" });
  }
}

for (const radio of all('input[name="period"]')) radio.addEventListener("change", show);
find("#board-words").textContent = "Agreement: how often two people independently selected the same objects.";
await show();
