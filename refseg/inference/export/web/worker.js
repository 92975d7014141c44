// The model in a thread of its own, so that the page answers to the mouse while a network runs.

import * as ort from "./ort/ort.wasm.min.mjs";
import { Model } from "./model.js";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // threads need headers that a static folder cannot send

const loading = Model.load(ort, new URL("./model/", import.meta.url).href);
loading.then(() => postMessage({ kind: "ready" }), (error) => postMessage({ kind: "failed", message: error.message }));
let state = null, newest = 0, running = Promise.resolve();

onmessage = ({ data }) => {
  if (data.kind === "ask") newest = data.number;
  running = running.then(() => handle(data)).catch((error) => postMessage({ kind: "error", number: data.number, message: error.message }));
};

async function handle(data) {
  const model = await loading;
  if (data.kind === "picture") {
    state = null;
    state = await model.encode(data.picture);
    postMessage({ kind: "encoded", number: data.number, things: state.boxes.length });
  } else if (state && data.number === newest) { // while one types, only the last expression is answered
    postMessage({ kind: "answer", number: data.number, answer: await model.ask(state, data.text) });
  }
}
