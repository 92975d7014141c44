// Where pictures come from (file, drop, paste, camera, drawn examples), and sending them, once each.

import { ApiError, call, get, picture, post, settings } from "./api.js";
import { banner, find, make } from "./dom.js";

/** A picture in the browser and, once it has been sent, on the server. */
export class Picture {
  constructor(blob, name, example = null) {
    Object.assign(this, { blob, name, example, id: null });
    this.sending = null;
    this.controller = new AbortController();
  }

  /** Resolves to { id, width, height }; the picture is sent at the first call, and again after `lost`. */
  sent(model, waiting) {
    this.sending ??= call("POST", `v1/images${model ? `?model=${encodeURIComponent(model)}` : ""}`, {
      body: this.blob,
      type: this.blob.type.startsWith("image/") ? this.blob.type : "application/octet-stream",
      signal: this.controller.signal,
      waiting,
    })
      .then((response) => response.json())
      .catch((error) => {
        this.sending = null;
        throw error;
      });
    return this.sending;
  }

  /** The server has forgotten it. */
  lost() {
    this.sending = null;
  }

  /** Another picture is shown: nobody waits for this one. */
  leave() {
    this.controller.abort(new DOMException("left", "AbortError"));
    const { sending } = this;
    sending?.then(({ id }) => call("DELETE", `v1/images/${id}`)).catch(() => {});
  }

  /** Something that can be drawn; from the server where the browser cannot read the format. */
  async drawable(model) {
    try {
      const bitmap = await createImageBitmap(this.blob);
      return { image: bitmap, width: bitmap.width, height: bitmap.height };
    } catch {
      const { id, width, height } = await this.sent(model);
      const { blob } = await picture(`v1/images/${id}/picture`);
      return { image: await createImageBitmap(blob), width, height };
    }
  }

  /** The answers to sentences about it. */
  async ask(question, model, signal, waiting) {
    for (let attempt = 0; ; attempt++) {
      const { id } = await abortable(this.sent(model, waiting), signal);
      try {
        return await post(`v1/images/${id}/ask`, { ...question, model }, { signal, waiting });
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 404 || attempt) throw error;
        this.lost();
      }
    }
  }
}

/** A promise that others wait for, too: the signal ends our waiting, not the work. */
function abortable(promise, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    promise.then(resolve, reject);
  });
}

/** Wires the ways in which pictures come; `take(picture)` is called with each. */
export function listen(take) {
  const file = find("#file");
  const snapshot = find("#snapshot");
  const drop = find("#drop");
  const accept = (blob, name) => {
    if (!blob) return;
    if (blob.size > settings.maxBytes)
      return banner(`${name} is larger than ${Math.round(settings.maxBytes / 2 ** 20)} MB, the server's limit.`);
    if (blob.type && !blob.type.startsWith("image/")) return banner(`${name} is no picture.`);
    banner("");
    take(new Picture(blob, name));
  };
  const pick = (input) => () => {
    const [chosen] = input.files;
    if (chosen) accept(chosen, chosen.name);
    input.value = "";
  };
  find("#choose").addEventListener("click", () => file.click());
  find("#another").addEventListener("click", () => take(null));
  file.addEventListener("change", pick(file));
  snapshot.addEventListener("change", pick(snapshot));
  const hasFile = (event) => [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
  document.addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    const [dropped] = event.dataTransfer?.files ?? [];
    if (!dropped) return;
    event.preventDefault();
    accept(dropped, dropped.name);
  });
  document.addEventListener("paste", (event) => {
    const item = [...(event.clipboardData?.items ?? [])].find((each) => each.type.startsWith("image/"));
    if (!item) return;
    event.preventDefault();
    accept(item.getAsFile(), "pasted picture.png");
  });
  find("#camera").addEventListener("click", () => openCamera(accept, snapshot));
}

/** The camera in a dialog; where the browser gives none (no HTTPS, a phone), the file chooser's camera. */
async function openCamera(accept, snapshot) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
  } catch {
    return snapshot.click();
  }
  const dialog = find("#camera-dialog");
  const video = find("#video");
  const shoot = () => {
    const canvas = make("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => accept(blob, "camera.jpg"), "image/jpeg", 0.92);
    dialog.close();
  };
  const end = () => {
    for (const track of stream.getTracks()) track.stop();
    find("#shoot").removeEventListener("click", shoot);
  };
  video.srcObject = stream;
  find("#shoot").addEventListener("click", shoot);
  find("#camera-close").onclick = () => dialog.close();
  dialog.addEventListener("close", end, { once: true });
  dialog.showModal();
}

/** The drawn examples as buttons; resolves to them when all are there. */
export async function showExamples(choose) {
  const list = find("#examples");
  const examples = await get("v1/examples");
  for (const example of examples) {
    const image = make("img", { alt: example.description, width: 96, height: 96 });
    list.append(make("li", {}, make("button", { type: "button", "data-id": example.id, onclick: () => choose(example) }, image)));
    picture(`v1/examples/${example.id}`).then(({ url }) => (image.src = url), () => {});
  }
  return examples;
}

/** A drawn example as a picture. */
export async function exampleOf({ id }) {
  const { blob } = await picture(`v1/examples/${id}`);
  return new Picture(blob, `example ${id}.png`, id);
}
