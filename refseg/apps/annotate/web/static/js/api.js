// Calls of the JSON interface. Failures are of two kinds: an answer that says no (ApiError) and no answer (OfflineError).

export const root = document.documentElement.dataset.root;

export class ApiError extends Error {
  constructor(
    status,
    { code = "internal", message = "The server did not answer as expected.", field = null, details = {} } = {},
  ) {
    super(message);
    Object.assign(this, { status, code, field, details: details ?? {} });
  }

  /** True where the same request may succeed later: busy, too fast, or a fault of the server. */
  get passing() {
    return this.status >= 500 || this.status === 429 || this.status === 408;
  }
}

export class OfflineError extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

export const page = (path) => `${root}${path}`;

function token() {
  return document.querySelector('meta[name="csrf-token"]').content;
}

/**
 * One call: call("PUT", "/drafts/write/3", {...}). Resolves to the parsed answer.
 * A session that ended leads to the login page and back, unless `stay`.
 */
export async function call(method, path, body = undefined, { keepalive = false, stay = false, seconds = 20 } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = token();
  const form = body instanceof FormData;
  if (body !== undefined && !form) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(`${root}/api/v1${path}`, {
      method,
      headers,
      body: body === undefined || form ? body : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      keepalive,
      signal: form || keepalive ? undefined : AbortSignal.timeout(seconds * 1000),
    });
  } catch {
    throw new OfflineError();
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    // A proxy's own page in front of a stopped server: no answer of the game.
    if (response.ok || [502, 503, 504].includes(response.status)) throw new OfflineError();
  }
  if (response.ok) return answer;
  const problem = new ApiError(response.status, answer?.error);
  if (response.status === 401 && !stay) {
    const here = location.pathname.slice(root.length);
    location.assign(page(`/login?next=${encodeURIComponent(here)}`));
  }
  throw problem;
}

/** Query text of the values that are set. */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return set.length ? `?${new URLSearchParams(set)}` : "";
}
