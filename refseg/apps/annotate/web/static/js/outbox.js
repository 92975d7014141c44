// Submissions on their way. Each is kept in the browser until the server has answered, and is sent again with the same
// key, so that it counts once however often it had to be sent.

import { ApiError, call } from "./api.js";
import { names, read, remove, write } from "./store.js";

const LONGEST_WAIT = 20000;

const pause = (milliseconds) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    window.addEventListener("online", () => (clearTimeout(timer), resolve()), { once: true });
  });

/**
 * Sends until there is an answer. `waiting` is told of each vain try; refusals are thrown as ApiError.
 * `draft` names the browser's draft that the submission came from.
 */
export async function deliver(path, body, { draft = null, waiting = () => {} } = {}) {
  const name = `outbox.${body.client_key}`;
  write(name, { path, body, draft });
  for (let wait = 1000; ; wait = Math.min(LONGEST_WAIT, wait * 2)) {
    try {
      const answer = await call("POST", path, body);
      remove(name);
      return answer;
    } catch (problem) {
      if (problem instanceof ApiError && problem.status === 401) throw problem; // kept: sent after signing in again
      if (problem instanceof ApiError && !problem.passing) {
        remove(name);
        throw problem;
      }
      waiting(problem);
      const seconds = problem instanceof ApiError ? Number(problem.details.seconds ?? 0) : 0;
      await pause(Math.max(wait, seconds * 1000));
    }
  }
}

/** Sends what an earlier page left behind. Resolves to [{draft, answer or problem}]. */
export async function deliverLeftovers(waiting) {
  const results = [];
  for (const name of names("outbox.")) {
    const { path, body, draft } = read(name, {});
    if (!path) {
      remove(name);
      continue;
    }
    try {
      results.push({ draft, answer: await deliver(path, body, { draft, waiting }) });
    } catch (problem) {
      results.push({ draft, problem });
    }
  }
  return results;
}
