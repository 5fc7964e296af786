/**
 * Reads the log of the opened task, and follows it while the task runs and until its last lines have come: a second stream
 * beside the page's own, open only while there is something to follow and somebody may be looking. It goes on where it
 * was: nothing is missed meanwhile, not even by a task that ended while nobody looked, or before the page knew that it ran.
 *
 * An open connection proves nothing: one that says nothing for too long, not even a heartbeat, is taken for dead, and a
 * task's last lines have come only when something was heard after its end.
 */

import { getLog, isPassing, logStreamAddress } from "./api.js";
import { seesPayloads } from "./session.js";

const PAGE_LINES = 500;
const LAST = "9223372036854775807"; // a page before the end of everything
const GATHER = 100; // ms: lines of one burst are handed on together
const LINGER = 6_000; // ms after the last line of a task that has ended: a worker's last lines may be on their way
const RETRY = 3_000; // ms
const SILENCE_LIMIT = 45_000; // ms: more than two heartbeats of the server were missed
const ENDED = new Set(["completed", "failed", "cancelled"]);

/** @param {{dispatch: (action: object) => void, state: () => object}} page */
export function LogSource({ dispatch, state }) {
  let source = null;
  let cursor = null;
  let isWhole = false; // the task has ended, and no more lines come
  let heardAt = 0; // by the clock on the wall, which goes on while the machine sleeps
  let isHeardAfterEnd = false; // by this stream
  let request = 0;
  let gathered = [];
  let gathering = null;
  let leaving = null;
  let retrying = null;

  document.addEventListener("visibilitychange", () => update({ state: state() }));

  /** Called with every state: opens, follows and leaves what it says. */
  function update({ state: now }) {
    const { detail, log, opened } = now;
    if (log.taskId !== opened || opened === null) {
      close();
      cursor = null;
      if (log.taskId === opened) return;
      request += 1; // what was asked of the former task is for nobody
      dispatch({ type: "logOpened", taskId: opened });
      return;
    }
    if (detail.phase !== "ready" || !seesPayloads(now)) return;
    if (log.phase === "none") read();
    if (log.phase !== "ready" || cursor === null) return;
    const { status } = detail.task;
    const isRunning = status === "in_progress";
    if (isRunning) isWhole = isHeardAfterEnd = false; // it may run once more
    if (document.hidden) close();
    else if (source !== null && Date.now() - heardAt >= SILENCE_LIMIT) close({ isRefused: true });
    else if (isRunning || (ENDED.has(status) && !isWhole && source === null)) follow(opened);
    else if (source?.readyState === EventSource.OPEN && leaving === null) leaveSoon();
  }

  async function read(changes = {}) {
    cursor = null; // before what closing tells is drawn: nothing is followed until the answer is here
    close();
    request += 1;
    const mine = request;
    const { taskId } = state().log;
    const { task } = state().detail; // as it was known before: what it logs later is not in the answer
    dispatch({ type: "logRequested", request: mine, ...changes });
    const { run, level } = state().log;
    try {
      const page = await getLog(taskId, { before: LAST, limit: PAGE_LINES, run, level });
      if (mine !== request || state().log.taskId !== taskId) return;
      cursor = page.cursor;
      isWhole = hasSettled(task);
      dispatch({ type: "logArrived", request: mine, page });
    } catch (error) {
      if (mine !== request || state().log.taskId !== taskId) return;
      dispatch({ type: "logFailed", request: mine, error });
      if (isPassing(error)) retrying = setTimeout(() => mine === request && state().log.phase === "failed" && read(), RETRY);
    }
  }

  async function readEarlier() {
    const { taskId, previous, earlier, run, level } = state().log;
    if (previous === null || earlier === "loading") return;
    const mine = request;
    const isWanted = () => mine === request && state().log.taskId === taskId;
    dispatch({ type: "logEarlierRequested" });
    try {
      const page = await getLog(taskId, { before: previous, limit: PAGE_LINES, run, level });
      if (isWanted()) dispatch({ type: "logEarlierArrived", request: mine, page });
    } catch {
      if (isWanted()) dispatch({ type: "logEarlierFailed", request: mine });
    }
  }

  /** To the newest lines, which may not all be here. */
  function followAgain() {
    if (state().log.isCut) read();
    else dispatch({ type: "logFollowed", isFollowed: true });
  }

  function follow(taskId) {
    clearTimeout(leaving);
    leaving = null;
    if (source !== null || retrying !== null) return;
    isHeardAfterEnd = false;
    heardAt = Date.now();
    source = new EventSource(logStreamAddress(taskId, cursor));
    source.addEventListener("open", () => (heardAt = Date.now()));
    source.addEventListener("log", (event) => {
      take(event);
      gathered.push(...JSON.parse(event.data).lines);
      gathering ??= setTimeout(() => handOn(taskId), GATHER);
      if (leaving !== null) leaveSoon();
    });
    source.addEventListener("heartbeat", take);
    source.addEventListener("resync", () => read());
    source.addEventListener("bye", () => close({ isRefused: true })); // who is told so at once again comes after a pause
    source.addEventListener("error", () => {
      dispatch({ type: "logLive", isLive: false });
      if (source?.readyState === EventSource.CLOSED) close({ isRefused: true });
    });
  }

  function tryAgain() {
    retrying = null;
    update({ state: state() });
  }

  function take(event) {
    heardAt = Date.now();
    isHeardAfterEnd ||= hasEnded();
    if (event.lastEventId) cursor = event.lastEventId;
    dispatch({ type: "logLive", isLive: true });
  }

  function handOn(taskId) {
    const lines = gathered;
    gathered = [];
    gathering = null;
    dispatch({ type: "logLinesArrived", taskId, lines });
  }

  function leaveSoon() {
    clearTimeout(leaving);
    leaving = setTimeout(() => {
      leaving = null;
      if (hasEnded() && !isHeardAfterEnd) return; // the next heartbeat tells that nothing is missing, or silence does not
      isWhole = source.readyState === EventSource.OPEN && hasEnded();
      close();
    }, LINGER);
  }

  function hasEnded() {
    return ENDED.has(state().detail.task?.status);
  }

  /** What was gathered is handed on: the cursor is behind it already. */
  function close({ isRefused = false } = {}) {
    clearTimeout(leaving);
    clearTimeout(retrying);
    leaving = null;
    retrying = isRefused ? setTimeout(tryAgain, RETRY) : null; // before it is drawn, which would follow at once
    if (gathering !== null) {
      clearTimeout(gathering);
      handOn(state().log.taskId);
    }
    if (source === null) return;
    source.close();
    source = null;
    dispatch({ type: "logLive", isLive: false });
  }

  return { update, read, readEarlier, followAgain };
}

/** Whether a task ended so long ago that all of its lines have come. */
function hasSettled({ status, finished_at: at }) {
  return ENDED.has(status) && (at === null || Date.now() - Date.parse(at) > LINGER);
}
