/**
 * Reads the failures: for their page when its address is opened and, not faster than a person reads, when tasks change
 * while it is looked at; and for the navigation's number, now and then.
 */

import { getFailure, getFailures } from "./api.js";
import { rangeOf } from "./failures.js";

const REFRESH_PAUSE = 2_000; // ms between two readings while tasks change
const LOOK_INTERVAL = 20_000; // ms, on the page where nothing changes: marks and ranges move on
const GROUPS_SHOWN = 200;
const GLANCE_INTERVAL = 30_000; // ms, on any other page

/** @param {{dispatch: Function, state: () => object}} page */
export function FailureReading({ dispatch, state }) {
  let readAt = -Infinity;
  let request = 0;
  let refreshing = null; // timer

  setInterval(look, 1_000);

  /** The address has changed, or everything may have. */
  function open() {
    const { page, id } = state().route;
    const isOther = page !== "failures" || id !== state().failures.detail?.group.fingerprint;
    if (isOther && state().session.phase === "in") dispatch({ type: "failureClosed" });
    if (page === "failures") read();
  }

  /** Some task has changed: the leader has folded it in a moment. */
  function refreshSoon() {
    if (state().route.page !== "failures" || refreshing !== null) return;
    refreshing = setTimeout(() => {
      refreshing = null;
      if (isLooking()) read();
    }, REFRESH_PAUSE);
  }

  function look() {
    if (document.hidden || state().session.phase !== "in") return;
    const since = performance.now() - readAt;
    if (isLooking() && since >= LOOK_INTERVAL) read();
    else if (since >= GLANCE_INTERVAL) glance();
  }

  function isLooking() {
    return state().session.phase === "in" && state().route.page === "failures" && !document.hidden;
  }

  async function read() {
    readAt = performance.now();
    request += 1;
    const mine = request;
    const { id, parameters } = state().route;
    const range = rangeOf(parameters);
    const isWanted = () => mine === request && state().route.page === "failures";
    const list = ask(() => getFailures({ range, limit: GROUPS_SHOWN }), isWanted, (found) => ({ type: "failuresArrived", list: found }), "failuresFailed");
    const detail = id === null ? null : ask(() => getFailure(id, { range }), isWanted, (found) => ({ type: "failureArrived", detail: found }), "failureFailed");
    await Promise.all([list, detail]);
  }

  async function glance() {
    readAt = performance.now();
    await ask(() => getFailures({ limit: 1 }), () => true, (list) => ({ type: "failuresGlanced", list }), null);
  }

  /** What comes when its reader is gone is for nobody. */
  async function ask(read, isWanted, action, failed) {
    const { viewer } = state().session;
    const isHers = () => viewer !== null && state().session.viewer === viewer && isWanted();
    try {
      const found = await read();
      if (isHers()) dispatch(action(found));
    } catch (error) {
      if (isHers() && failed !== null) dispatch({ type: failed, error });
    }
  }

  return { open, refreshSoon };
}
