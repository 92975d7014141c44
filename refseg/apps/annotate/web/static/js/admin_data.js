// Import of pictures with their objects, and the data card. The export is a plain form: its answer is a file.

import { call, page } from "./api.js";
import { fill, find, make, notify, plural } from "./dom.js";
import "./shell.js";

const result = find("#import-result");

async function bring(event) {
  event.preventDefault();
  const button = find("#import-button");
  button.disabled = true;
  fill(result, make("p", { class: "hint" }, "Importing…"));
  try {
    const form = new FormData(event.target);
    if (!form.get("annotations").size) form.delete("annotations"); // pictures alone
    const { pictures, objects, sentences, plain, problems } = await call("POST", "/admin/import", form);
    const words = `${plural(pictures, "picture")}, ${plural(objects, "object")} and ${plural(sentences, "sentence")} imported.`;
    fill(
      result,
      make("p", { class: "tag good" }, words),
      plain > 0 &&
        make("p", {}, `${plural(plain, "picture")} without masks: `, make("a", { href: page("/edit") }, "draw them"), "."),
      problems.length > 0 &&
        make(
          "details",
          { open: true },
          make("summary", {}, plural(problems.length, "problem")),
          make(
            "ul",
            {},
            problems.map((each) => make("li", {}, each)),
          ),
        ),
    );
    await showCard();
  } catch (problem) {
    fill(result, make("p", { class: "problem" }, problem.message));
  }
  button.disabled = false;
}

async function showCard() {
  const { markdown } = await call("GET", "/admin/card");
  find("#card-text").textContent = markdown;
}

find("#import-form").addEventListener("submit", bring);
find("#export-form").addEventListener("formdata", ({ formData }) => {
  if (formData.get("split") === "") formData.delete("split"); // all splits
});
find("#copy-card").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(find("#card-text").textContent);
    notify("Copied.", { tone: "good" });
  } catch {
    getSelection().selectAllChildren(find("#card-text"));
    notify("Selected: copy it with Ctrl+C.");
  }
});
try {
  await showCard();
} catch (problem) {
  notify(problem.message, { tone: "bad" });
}
