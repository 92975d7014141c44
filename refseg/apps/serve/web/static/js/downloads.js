// What one takes along: mask, cut-out, JSON, COCO annotations. Things that were left out are left out here, too.

import { banner, copy, find, save } from "./dom.js";
import { union } from "./masks.js";

/** Regions of all layers that are shown, without what was left out. */
const kept = (layers) =>
  layers.answered.flatMap((layer) => layer.regions.filter((thing) => !layer.leftOut.has(thing.index)).map((thing) => thing.region));

const stem = (name) => name.replace(/\.[^.]*$/, "") || "picture";

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  return [canvas, canvas.getContext("2d")];
}

const blobOf = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));

/** The mask at the picture's size, white on black. */
export async function mask(layers, width, height) {
  const [canvas, context] = canvasOf(width, height);
  const pixels = context.createImageData(width, height);
  const bits = union(kept(layers), width, height);
  const view = new Uint32Array(pixels.data.buffer);
  for (let at = 0; at < bits.length; at++) view[at] = bits[at] ? 0xffffffff : 0xff000000;
  context.putImageData(pixels, 0, 0);
  return blobOf(canvas);
}

/** The picture with everything else transparent. */
export async function cutout(layers, image, width, height) {
  const [canvas, context] = canvasOf(width, height);
  context.drawImage(image, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  const bits = union(kept(layers), width, height);
  for (let at = 0; at < bits.length; at++) if (!bits[at]) pixels.data[4 * at + 3] = 0;
  context.putImageData(pixels, 0, 0);
  return blobOf(canvas);
}

/** The answers as the server gave them, and which things were left out. */
export function answers(layers, name, model) {
  return {
    image: name,
    model,
    answers: layers.answered.map((layer) => ({ ...layer.answer, left_out: [...layer.leftOut].sort((a, b) => a - b) })),
  };
}

/** COCO: annotations, with a category for each sentence. */
export function coco(layers, name, width, height) {
  const document = {
    images: [{ id: 1, file_name: name, width, height }],
    categories: layers.answered.map((layer, index) => ({ id: index + 1, name: layer.answer.text })),
    annotations: [],
  };
  layers.answered.forEach((layer, category) =>
    layer.answer.instances.forEach((instance, index) => {
      if (layer.leftOut.has(index)) return;
      const [left, top, right, bottom] = instance.box;
      document.annotations.push({
        id: document.annotations.length + 1,
        image_id: 1,
        category_id: category + 1,
        segmentation: instance.mask,
        bbox: [left, top, right - left, bottom - top].map((value) => Math.round(value * 100) / 100),
        area: instance.area,
        iscrowd: 0,
        score: instance.score,
      });
    }),
  );
  return document;
}

/** Wires the buttons; `now()` gives { layers, picture, image, width, height, model }. */
export function listen(now) {
  const on = (selector, run) =>
    find(selector).addEventListener("click", async () => {
      try {
        await run(now(), find(selector));
      } catch (error) {
        banner(`That did not work: ${error.message}`);
      }
    });
  const copied = async (button, text) => {
    const said = button.textContent;
    button.textContent = (await copy(text)) ? "Copied" : "Not allowed here";
    setTimeout(() => (button.textContent = said), 1500);
  };
  on("#save-mask", async ({ layers, picture, width, height }) =>
    save(await mask(layers, width, height), `${stem(picture.name)}.mask.png`),
  );
  on("#save-cutout", async ({ layers, picture, image, width, height }) =>
    save(await cutout(layers, image, width, height), `${stem(picture.name)}.cutout.png`),
  );
  on("#save-json", ({ layers, picture, model }) => {
    const text = JSON.stringify(answers(layers, picture.name, model), null, 1);
    save(new Blob([text], { type: "application/json" }), `${stem(picture.name)}.json`);
  });
  on("#copy-coco", ({ layers, picture, width, height }, button) =>
    copied(button, JSON.stringify(coco(layers, picture.name, width, height), null, 1)),
  );
  on("#copy-link", (_, button) => copied(button, location.href));
}

/** Buttons work where there is something to take. */
export function enable(layers) {
  const some = layers.answered.length > 0;
  for (const selector of ["#save-mask", "#save-cutout", "#save-json", "#copy-coco"]) find(selector).disabled = !some;
}
