/**
 * Reads the opened task: when it is opened, soon after something was said of it, and again after a failure that passes.
 * A task's message may be stored a moment after its end, and nobody says so: it is asked for a few times more.
 *
 * Answers may overtake each other: one that was asked for before the one that is shown is dropped. What was asked for a
 * former viewer is for nobody.
 */

import { getTask, isPassing } from "./api.js";

const PAUSE = 150; // ms: transitions of one burst lead to one reading
const RETRY = 3_000; // ms
const MESSAGE_LOOKS = 3; // of one end of a task

/** @param {{dispatch: Function, state: () => object, tell: (task: object) => void}} page `tell` says that a task is there */
export function TaskReading({ dispatch, state, tell }) {
  let asked = 0; // questions so far
  let answered = 0; // the newest question that has been answered
  let rereading = null; // timer
  let retrying = null; // timer
  let waited = { end: null, looks: 0 }; // for the message of which end, how often

  async function read() {
    const taskId = state().opened;
    if (taskId === null) return;
    asked += 1;
    const question = asked;
    const { detail, error } = await getTask(taskId).then((found) => ({ detail: found }), (reason) => ({ error: reason }));
    if (question < answered || state().opened !== taskId) return;
    answered = question;
    clearTimeout(retrying);
    if (error !== undefined) {
      dispatch({ type: "detailFailed", taskId, error });
      if (isPassing(error)) retrying = setTimeout(read, RETRY);
      return;
    }
    const isNews = state().detail.phase !== "ready";
    dispatch({ type: "detailArrived", detail });
    if (mayGetMessage(detail)) retrying = setTimeout(read, RETRY);
    if (isNews) tell(state().detail.task);
  }

  function mayGetMessage({ task, control }) {
    if (control?.retry?.missing !== "not_kept") return false;
    const end = JSON.stringify([task.task_id, task.version]);
    waited = { end, looks: waited.end === end ? waited.looks + 1 : 1 };
    return waited.looks <= MESSAGE_LOOKS;
  }

  function readSoon() {
    rereading ??= setTimeout(() => {
      rereading = null;
      read();
    }, PAUSE);
  }

  /** What is under way is for nobody any more. */
  function forget() {
    asked += 1;
    answered = asked;
    clearTimeout(rereading);
    clearTimeout(retrying);
    rereading = retrying = null;
  }

  return { read, readSoon, forget };
}
