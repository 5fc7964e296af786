/**
 * Reads the tasks of rows that one has scrolled back to, after they had been let go (see rows.js): by their ids, many
 * at once, and again when a reading failed that may not fail in a moment, or as soon as one scrolls on. A task that is not there any more is asked for once.
 * After a gap in the stream those in sight are read again, too: they show what they showed until it has come.
 */

import { NOT_FOUND, getTask, getTasksById, isPassing } from "./api.js";
import { missing } from "./rows.js";

const MARGIN = 250; // rows beyond those in sight: as many pass in a second and a half of fast scrolling
const AT_ONCE = 50; // ids: the server takes no more
const LENGTH_AT_ONCE = 3_000; // characters of an address
const ALONE_AT_ONCE = 10; // tasks that are read one by one
const RETRY = 3_000; // ms

/** @param {{dispatch: Function, note: Function, state: () => object}} page `note` is a dispatch after which nothing looks different */
export function RowTasks({ dispatch, note, state }) {
  let isReading = false;
  let list = null; // the number of the list that `gone` is about
  let gone = new Set();
  let stale = new Set(); // known, and perhaps outdated
  let retrying = null; // timer

  /** These rows are in sight now: from `first` up to, not including, `last`. */
  function show({ first, last }) {
    note({ type: "windowMoved", first, last });
    if (!isReading) read();
  }

  /** Something may have happened to the rows in sight of which we were not told. */
  function renew() {
    const { rows, window } = state();
    stale = new Set(rows.slice(window.first, window.last));
    if (!isReading) read();
  }

  async function read() {
    isReading = true;
    try {
      for (let ids = wanted(); ids.length > 0; ids = wanted()) await readSome(ids);
    } catch (error) {
      clearTimeout(retrying);
      if (isPassing(error)) retrying = setTimeout(() => !isReading && read(), RETRY);
    } finally {
      isReading = false;
    }
  }

  function wanted() {
    const { request } = state().list;
    if (request !== list) gone = new Set();
    list = request;
    return [...stale, ...missing(state(), MARGIN).filter((id) => !gone.has(id) && !stale.has(id))];
  }

  async function readSome(ids) {
    const request = list;
    const some = together(ids);
    if (some.length > 0) take(await getTasksById(some), request);
    for (const id of some) stale.delete(id);
    const left = ids.slice(0, Math.max(some.length, ALONE_AT_ONCE)).filter((id) => stale.has(id) || !state().tasks.has(id));
    for (const id of left.slice(0, ALONE_AT_ONCE)) await readAlone(id, request);
  }

  /** An id with a comma, or one that is the beginning of many others. */
  async function readAlone(id, request) {
    stale.delete(id);
    try {
      take([(await getTask(id)).task], request);
    } catch (error) {
      if (error.status !== NOT_FOUND) throw error;
      gone.add(id);
    }
  }

  function take(tasks, request) {
    if (state().list.request === request) dispatch({ type: "rowsArrived", tasks });
  }

  return { show, renew };
}

/** As many as one address holds. */
function together(ids) {
  const some = [];
  let length = 0;
  for (const id of ids) {
    length += encodeURIComponent(id).length;
    if (length > LENGTH_AT_ONCE || some.length >= AT_ONCE) break;
    if (!id.includes(",")) some.push(id);
  }
  return some;
}
