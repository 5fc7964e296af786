/**
 * Commands that are given at once and sent a little later: until then they can be taken back as if they had never been
 * given, because they have not. A page that is closed or hidden for good sends what waits; a session that ends drops it.
 */

export const UNDO_TIME = 5_000; // ms

export function Deferral() {
  const waiting = new Map(); // key → {timer, send}

  addEventListener("pagehide", sendAll);

  /** `send` is called after the time to undo, once. Another command under the same key is not taken meanwhile. */
  function defer(key, send) {
    if (waiting.has(key)) return false;
    waiting.set(key, { timer: setTimeout(() => release(key), UNDO_TIME), send });
    return true;
  }

  /** @returns {boolean} whether it had not been sent yet */
  function undo(key) {
    const held = waiting.get(key);
    if (held === undefined) return false;
    clearTimeout(held.timer);
    waiting.delete(key);
    return true;
  }

  function release(key) {
    const held = waiting.get(key);
    if (held === undefined) return;
    undo(key);
    held.send();
  }

  function sendAll() {
    for (const key of [...waiting.keys()]) release(key);
  }

  function drop() {
    for (const key of [...waiting.keys()]) undo(key);
  }

  return { defer, undo, sendAll, drop };
}
