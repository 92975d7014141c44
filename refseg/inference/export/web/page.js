// The page: a picture in, an expression in, a mask out. Nothing is sent anywhere.

const COLOURS = [[230, 60, 50], [40, 120, 240], [30, 160, 90], [240, 160, 20], [150, 70, 200], [20, 170, 190]];
const MOST_PIXELS = 40_000_000, MOST_SIDE = 16_384;
const $ = (id) => document.getElementById(id);
const canvas = $("picture"), context = canvas.getContext("2d", { willReadFrequently: true });
const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
let picture = null, answer = null, name = "picture", number = 0, timer = null, ready = false, encoded = false;

const say = (text, failed = false) => {
  $("status").textContent = text;
  $("status").classList.toggle("failed", failed);
};

/** An RGB picture {data, width, height} of a Blob; transparent pixels lie on white. */
export async function readPicture(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" });
  } catch {
    throw new Error("this is no picture that the browser can read");
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS || Math.max(width, height) > MOST_SIDE) {
    bitmap.close();
    throw new Error(`the picture has ${width} × ${height} pixels; at most ${MOST_PIXELS / 1e6} million are taken`);
  }
  const surface = new OffscreenCanvas(width, height), pen = surface.getContext("2d", { willReadFrequently: true });
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = pen.getImageData(0, 0, width, height).data, data = new Uint8Array(width * height * 3);
  for (let at = 0; at < width * height; at++) {
    const alpha = rgba[at * 4 + 3] / 255;
    for (let channel = 0; channel < 3; channel++) data[at * 3 + channel] = Math.round(rgba[at * 4 + channel] * alpha + 255 * (1 - alpha));
  }
  return { data, width, height };
}

async function take(blob) {
  try {
    picture = await readPicture(blob);
  } catch (error) {
    say(error.message, true);
    return;
  }
  name = (blob.name ?? "picture").replace(/\.[^.]*$/, "") || "picture";
  answer = null;
  encoded = false;
  draw();
  canvas.hidden = false;
  $("save").disabled = true;
  say(ready ? "looking at the picture …" : "loading the model …");
  worker.postMessage({ kind: "picture", number: ++number, picture });
  ask();
}

function ask() {
  const text = $("expression").value;
  if (!picture || !text.trim()) return;
  number += 1;
  if (encoded) say("…");
  worker.postMessage({ kind: "ask", number, text });
}

function draw() {
  const { width, height, data } = picture;
  canvas.width = width;
  canvas.height = height;
  const image = context.createImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    for (let channel = 0; channel < 3; channel++) image.data[at * 4 + channel] = data[at * 3 + channel];
    image.data[at * 4 + 3] = 255;
  }
  answer?.instances.forEach(({ mask }, row) => {
    const colour = COLOURS[row % COLOURS.length];
    for (let at = 0; at < mask.length; at++) {
      if (!mask[at]) continue;
      const x = at % width;
      const edge = x === 0 || x === width - 1 || !mask[at - 1] || !mask[at + 1] || !mask[at - width] || !mask[at + width];
      const share = edge ? 1 : 0.5;
      for (let channel = 0; channel < 3; channel++) {
        image.data[at * 4 + channel] = image.data[at * 4 + channel] * (1 - share) + colour[channel] * share;
      }
    }
  });
  context.putImageData(image, 0, 0);
}

function show(found) {
  answer = found;
  draw();
  const percent = (value) => `${Math.round(100 * value)} %`;
  say(found.noTarget
    ? `None: nothing in the picture is “${found.text}” (${percent(found.noTargetScore)})`
    : `${found.instances.length} found: ${found.instances.map((each) => `${each.label} ${percent(each.score)}`).join(", ")}`);
  $("remarks").replaceChildren(...found.remarks.map((remark) => Object.assign(document.createElement("li"), { textContent: remark })));
  $("save").disabled = found.noTarget;
}

worker.onmessage = ({ data }) => {
  if (data.kind === "ready") {
    ready = true;
    if (!picture) say("Choose a picture, or drop or paste one.");
  } else if (data.kind === "failed") say(`the model cannot be loaded: ${data.message}`, true);
  else if (data.kind === "encoded") {
    encoded = true;
    if (!$("expression").value.trim()) say(`${data.things} things seen. Say which one you mean.`);
  } else if (data.kind === "error") say(data.message, true);
  else if (data.kind === "answer" && data.number === number) show(data.answer);
};
worker.onerror = (event) => say(`the model cannot be loaded: ${event.message ?? "worker.js does not start"}`, true);

$("file").addEventListener("change", ({ target }) => target.files[0] && take(target.files[0]));
$("expression").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(ask, 200);
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) take(file);
});
addEventListener("paste", ({ clipboardData }) => {
  const item = [...clipboardData.items].find((each) => each.kind === "file" && each.type.startsWith("image/"));
  if (item) take(item.getAsFile());
});
$("save").addEventListener("click", async () => {
  const { width, height } = picture, surface = new OffscreenCanvas(width, height), pen = surface.getContext("2d");
  const image = pen.createImageData(width, height);
  for (let at = 0; at < width * height; at++) image.data.set([255 * answer.mask[at], 255 * answer.mask[at], 255 * answer.mask[at], 255], at * 4);
  pen.putImageData(image, 0, 0);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await surface.convertToBlob({ type: "image/png" }));
  link.download = `${name}.mask.png`;
  link.click();
  URL.revokeObjectURL(link.href);
});
