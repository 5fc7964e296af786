/**
 * Asks the server from time to time which tasks match, where no fact tells: a task that has come to run for longer than
 * was asked for, one that has become too old, one that is stuck. Less often the longer the answer takes; not while nobody
 * looks, and then at once. What comes of it while somebody reads is up to the state: rows do not move.
 */

import { isLive, isTimed } from "./query.js";

const INTERVAL = 5_000; // ms from an answer to the next question
const USUAL_INTERVAL = 15_000; // ms, of what is measured by what is usual
const PATIENCE = 20; // how many times the length of an answer to wait until the next one

/** @param {{load: () => void, isWanted: () => boolean}} page */
export function Judging({ load, isWanted }) {
  let asked = null; // the number of the list that was asked for last
  let askedAt = 0;
  let answeredAt = null;

  /** To be called whenever something was drawn, and once a second at least. */
  function update({ state: { list, query } }) {
    const now = performance.now();
    if (list.request !== asked) {
      asked = list.request;
      askedAt = now;
      answeredAt = null;
    }
    if (list.phase !== "ready") return;
    answeredAt ??= now;
    if ((isLive(query) && !isTimed(query)) || document.hidden || !isWanted()) return;
    const interval = isLive(query) ? INTERVAL : USUAL_INTERVAL;
    if (now - answeredAt < Math.max(interval, PATIENCE * (answeredAt - askedAt))) return;
    answeredAt = now;
    queueMicrotask(load);
  }

  return { update };
}
