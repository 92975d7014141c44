// The administrator's overview.

import { call } from "./api.js";
import { ago, fill, find, make, notify, percent } from "./dom.js";
import { cell, showNumbers, showPairs } from "./lists.js";
import "./shell.js";

const SERIES = ["written", "validated", "accepted"];
const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes, text = null) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text !== null) element.textContent = text;
  return element;
}

/** Bars of each day, three beside each other. */
function chart(days, width) {
  const height = 170;
  const base = height - 22;
  const left = 38;
  const most = Math.max(5, ...days.flatMap((day) => SERIES.map((name) => day[name])));
  const step = (width - left) / Math.max(1, days.length);
  const bar = Math.max(1.5, (step - 5) / SERIES.length);
  const svg = draw("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": "Sentences written, validated and accepted by day; the figures are in the table below",
  });
  for (const share of [0, 0.5, 1]) {
    const y = base - share * (base - 12);
    svg.append(
      draw("line", { x1: left, x2: width, y1: y, y2: y, class: "rule" }),
      draw("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, String(Math.round(most * share))),
    );
  }
  days.forEach((day, place) => {
    SERIES.forEach((name, index) => {
      const tall = (day[name] / most) * (base - 12);
      if (tall > 0)
        svg.append(
          draw("rect", {
            x: left + place * step + 2 + index * bar,
            y: base - tall,
            width: bar - 0.5,
            height: tall,
            class: name,
          }),
        );
    });
    const every = Math.ceil(days.length / Math.max(2, Math.floor(width / 110)));
    if ((days.length - 1 - place) % every === 0)
      svg.append(
        draw("text", { x: left + (place + 0.5) * step, y: height - 6, "text-anchor": "middle" }, day.day.slice(5)),
      );
  });
  return svg;
}

function kindRow({ kind, total, accepted }, most) {
  const bar = make("div", { class: "bar", "aria-hidden": "true" }, make("span"), make("span"));
  bar.children[0].style.width = `${(total / most) * 100}%`;
  bar.children[1].style.width = `${(accepted / most) * 100}%`;
  return make(
    "li",
    {},
    make("span", {}, kind),
    bar,
    make("span", { class: "figures" }, `${accepted} of ${total} accepted`),
  );
}

function splitRow(split) {
  const share = split.pictures ? split.covered / split.pictures : 0;
  const bar = make("progress", {
    max: "1",
    value: String(share),
    "aria-label": `Pictures of ${split.split} with an accepted sentence`,
  });
  const states = ["accepted", "waiting", "second", "discarded", "rejected"].map((state) =>
    cell(String(split.states[state] ?? 0), "number"),
  );
  const counts = [split.one, split.several, split.none].map((count) => cell(String(count), "number"));
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, split.split),
    cell(make("div", { class: "share" }, bar, make("span", {}, `${split.covered} of ${split.pictures}`))),
    states,
    counts,
  );
}

function show(answer) {
  const states = answer.samples;
  const all = Object.values(states).reduce((sum, count) => sum + count, 0);
  showNumbers(find("#totals"), [
    ["pictures", answer.pictures],
    ["objects", answer.objects],
    ["sentences imported", answer.imported],
    ["sentences written", all],
    ["accepted", states.accepted ?? 0],
    ["discarded", states.discarded ?? 0],
    ["rejected", states.rejected ?? 0],
  ]);
  // A narrow page shows the last two weeks only: bars that can be seen.
  const room = find("#days");
  new ResizeObserver(() =>
    fill(room, chart(room.clientWidth < 500 ? answer.throughput.slice(-14) : answer.throughput, room.clientWidth)),
  ).observe(room);
  fill(
    find("#day-rows"),
    [...answer.throughput].reverse().map((day) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, day.day),
        SERIES.map((name) => cell(String(day[name]), "number")),
      ),
    ),
  );
  const { queues, agreement } = answer;
  showPairs(find("#queues"), [
    ["wait for a validator", queues.waiting],
    ["wait for a second validator", queues.second],
    ["oldest waits since", ago(queues.oldest_waiting_at)],
    ["pictures in hand", queues.held_write],
    ["sentences in hand", queues.held_validate],
    ["drafts", queues.drafts],
  ]);
  showPairs(find("#agreement"), [
    ["selections compared", agreement.compared],
    ["same objects", agreement.matched],
    ["agreement", percent(agreement.rate)],
    ["agreement of first validators", percent(agreement.first_rate)],
  ]);
  showPairs(
    find("#rejections"),
    answer.rejections.length ? answer.rejections.map(({ reason, n }) => [reason.replace("_", " "), n]) : [["none", 0]],
  );
  fill(find("#split-rows"), answer.splits.map(splitRow));
  const most = Math.max(1, ...answer.kinds.map(({ total }) => total));
  fill(
    find("#kinds"),
    answer.kinds.map((kind) => kindRow(kind, most)),
    answer.kinds.length === 0 && make("li", { class: "hint" }, "Nothing written yet."),
  );
}

try {
  show(await call("GET", "/admin/overview"));
} catch (problem) {
  notify(problem.message, { tone: "bad" });
}
