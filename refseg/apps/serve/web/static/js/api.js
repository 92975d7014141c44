// Calls of the server. Addresses are relative, so that the page works below any path of a proxy.

import { find } from "./dom.js";

export const settings = JSON.parse(document.documentElement.dataset.settings);

const KEY = "refseg-key";

export class ApiError extends Error {
  constructor(status, { code = "internal", message = "The server did not answer as expected.", details = {} } = {}, seconds = 1) {
    super(message);
    Object.assign(this, { status, code, details, seconds });
  }
}

function headers(more) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

/** Asks the person for the key. */
function askKey() {
  return new Promise((resolve) => {
    const dialog = find("#key-dialog");
    if (!dialog.open) dialog.showModal();
    dialog.addEventListener(
      "close",
      () => {
        sessionStorage.setItem(KEY, find("#key").value.trim());
        resolve();
      },
      { once: true },
    );
  });
}

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

/**
 * One call; resolves to the response. Busy servers are asked again until the signal is aborted.
 * Rejects with ApiError, or what `signal` was aborted with.
 */
export async function call(method, path, { body, type, signal, waiting = () => {} } = {}) {
  for (let attempt = 0; ; attempt++) {
    let response;
    try {
      response = await fetch(path, { method, body, signal, headers: headers(type ? { "Content-Type": type } : {}) });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0, { code: "offline", message: "The server cannot be reached." });
    }
    if (response.ok) return response;
    const told = await response.json().catch(() => ({}));
    const error = new ApiError(response.status, told.error, Number(response.headers.get("Retry-After")) || 1);
    if (response.status === 401 && settings.key) {
      await askKey();
      continue;
    }
    if ((response.status !== 429 && response.status !== 503) || attempt > 60) throw error;
    waiting(error);
    await pause(Math.min(error.seconds, 10), signal);
  }
}

export const get = async (path, signal) => (await call("GET", path, { signal })).json();

export const post = async (path, values, options = {}) =>
  (await call("POST", path, { body: JSON.stringify(values), type: "application/json", ...options })).json();

/** A picture of the server: { url, size } with an address for <img> and the original's [width, height] if told. */
export async function picture(path, signal) {
  const response = await call("GET", path, { signal });
  const blob = await response.blob();
  const size = response.headers.get("X-Picture-Size")?.split("x").map(Number) ?? null;
  return { blob, url: URL.createObjectURL(blob), size };
}
