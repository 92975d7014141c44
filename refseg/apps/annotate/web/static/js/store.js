// What the browser keeps for one person: drafts not yet saved by the server, sentences not yet sent, preferences.
// Names carry the person's number, so that two people at one computer never meet each other's work.

const person = document.documentElement.dataset.person ?? "0";
const prefix = `refseg.annotate.${person}.`;

function storage() {
  try {
    return window.localStorage;
  } catch {
    return null; // cookies and storage switched off: the server's copy is the only one
  }
}

export function read(name, fallback = null) {
  try {
    const text = storage()?.getItem(prefix + name);
    return text ? JSON.parse(text) : fallback;
  } catch {
    return fallback;
  }
}

export function write(name, value) {
  try {
    storage()?.setItem(prefix + name, JSON.stringify(value));
    return true;
  } catch {
    return false; // full
  }
}

export function remove(name) {
  storage()?.removeItem(prefix + name);
}

/** Names kept that begin so. */
export function names(start) {
  const kept = storage();
  if (!kept) return [];
  return Array.from({ length: kept.length }, (_, index) => kept.key(index))
    .filter((name) => name.startsWith(prefix + start))
    .map((name) => name.slice(prefix.length));
}

export const newKey = () => crypto.randomUUID?.() ?? fallbackKey();

// randomUUID exists on https and localhost only; a team may well play over plain http in its own network.
function fallbackKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const text = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join("-");
}
