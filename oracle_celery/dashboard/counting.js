/**
 * Asks the server for the counts on the status tabs: soon after the query has changed or somebody comes back to them,
 * then from time to time, less often the longer the answer took.
 */

import { getCounts } from "./api.js";
import { restOf } from "./counts.js";

const SOON = 300; // ms after the last change of the query
const INTERVAL = 5_000; // ms
const PATIENCE = 50; // how many times the length of an answer to wait until the next one

/** @param {{dispatch: (action: object) => void, state: () => object, isWanted: () => boolean}} page */
export function Counting({ dispatch, state, isWanted }) {
  let asked = null;
  let timer = null;
  let abort = null;
  let isOutdated = false; // nobody looked when it was time

  /** To be called whenever something was drawn. */
  function update({ state: shown }) {
    const rest = restOf(shown.query);
    if (isOutdated) {
      if (!isLookedAt()) return;
      isOutdated = false;
      asked = rest;
      return plan(0);
    }
    if (rest === asked && shown.counts.rest !== null) return;
    if (rest === asked && (timer !== null || abort !== null)) return;
    asked = rest;
    plan(SOON);
  }

  function isLookedAt() {
    return !document.hidden && isWanted();
  }

  function plan(delay) {
    clearTimeout(timer);
    timer = setTimeout(ask, delay);
  }

  async function ask() {
    timer = null;
    if (!isLookedAt()) {
      isOutdated = true;
      return;
    }
    abort?.abort();
    const mine = new AbortController();
    abort = mine;
    const rest = restOf(state().query);
    const start = performance.now();
    try {
      const counts = await getCounts(rest, { signal: mine.signal });
      if (rest === restOf(state().query) && abort === mine) dispatch({ type: "countsArrived", rest, counts });
    } catch {
      // What is not known is not shown.
    }
    if (abort !== mine) return;
    abort = null;
    plan(Math.max(INTERVAL, PATIENCE * (performance.now() - start)));
  }

  return { update };
}
