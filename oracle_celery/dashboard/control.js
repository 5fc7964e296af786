/**
 * Gives the commands: at once with a few seconds to undo for one task, else by the dialog that asks; sends what was
 * confirmed, notes what the server said. A command that was taken is only "requested": what becomes of it comes back as
 * facts, over the stream.
 */

import { cancelTask, commandMany, commandQueues, getTask, retryTask } from "./api.js";
import { queueKey } from "./commands.js";
import { Deferral } from "./deferral.js";
import { retryQuery } from "./failures.js";
import { Renewable } from "./renewal.js";
import { hashOf } from "./route.js";
import { bulkTarget, isSelecting } from "./selection.js";
import { mayControl } from "./session.js";
import { BulkDialog } from "./views/bulk-dialog.js";
import { CancelDialog } from "./views/cancel-dialog.js";
import { QueueDialog } from "./views/queue-dialog.js";
import { RetryDialog } from "./views/retry-dialog.js";

/**
 * @param {{dispatch: Function, state: () => object, readTask: Function, readQueues: Function, focusPanel: () => void,
 *   focusPage: () => void}} page
 */
export function Control({ dispatch, state, readTask, readQueues, focusPanel, focusPage }) {
  const onTask = { fallback: focusPanel };
  const cancelDialog = dialog("#cancel-dialog", CancelDialog, { confirm: cancel, ...onTask });
  const retryDialog = dialog("#retry-dialog", RetryDialog, { confirm: retry, ...onTask });
  const queueDialog = dialog("#queue-dialog", QueueDialog, { confirm: commandQueue, fallback: focusPage });
  const bulkDialog = dialog("#bulk-dialog", BulkDialog, { preview: commandMany, confirm: begin, fallback: focusPage });

  const deferral = Deferral();

  answer("cancelTask", (of) => (of ? ask(cancelDialog, "cancel", of) : giveSoon("cancel", (task) => cancelTask(task.task_id, { reason: "" }))));
  answer("retryTask", (of) => (of ? ask(retryDialog, "retry", of) : giveSoon("retry", (task) => retryTask(task.task_id, new Map()))));
  answer("askCancel", () => state().detail.control && cancelDialog.open(state().detail));
  answer("askRetry", () => state().detail.control && retryDialog.open(state().detail));
  answer("undoCommand", undo);
  answer("logOut", deferral.sendAll); // while it is still allowed
  answer("pauseQueue", ({ queue }) => openQueues("pause", queue));
  answer("resumeQueue", ({ queue }) => openQueues("resume", queue));
  answer("dismissNotice", forgetQueues);
  answer("tickRow", ({ taskId, isRange }) => mayControl(state()) && dispatch({ type: "rowTicked", taskId, isRange }));
  answer("tickRowsHere", () => mayControl(state()) && dispatch({ type: "rowsHereTicked" }));
  answer("tickEverything", countEverything);
  answer("clearSelection", () => dispatch({ type: "selectionCleared" }));
  answer("commandMany", ({ action }) => isSelecting(state().selection) && bulkDialog.open({ action, ...state() }));
  answer("retryGroup", ({ fingerprint }) => mayControl(state()) && bulkDialog.open({ action: "retry", filter: { q: retryQuery(fingerprint) } }));

  /** At once, as far as the reader is concerned. What the rules allow only on purpose is asked first. */
  function giveSoon(action, send) {
    const { task, control } = state().detail;
    if (!control) return;
    if (action === "retry" && control.retry.needs !== null) return retryDialog.open(state().detail);
    const target = task.task_id;
    const isTaken = deferral.defer(target, async () => {
      try {
        await give(target, action, () => send(task), { isQuick: true });
      } catch {
        // the notice says it
      }
      readTask(target);
    });
    if (isTaken) dispatch({ type: "commandDeferred", target, action });
  }

  function undo() {
    const target = state().opened;
    if (deferral.undo(target)) dispatch({ type: "commandForgotten", target });
    focusPanel();
  }

  /** Of a row's task, which is read first: where nothing can be done, its panel says why. */
  async function ask(dialog, action, of) {
    const { viewer } = state().session;
    let detail = null;
    try {
      detail = await getTask(of.taskId);
    } catch {
      // The panel tries again, and says what is wrong.
    }
    if (state().session.viewer !== viewer || document.querySelector("dialog[open]")) return;
    const may = detail?.control[action];
    if (may?.allowed || may?.needs) dialog.open(detail);
    else location.hash = hashOf("tasks", of.taskId);
  }

  async function cancel(task, { reason }) {
    await give(task.task_id, "cancel", () => cancelTask(task.task_id, { reason }));
    readTask(task.task_id);
  }

  async function retry(task, fields) {
    await give(task.task_id, "retry", () => retryTask(task.task_id, fields));
    readTask(task.task_id);
  }

  async function openQueues(action, queue) {
    if (state().fleet.queues === null) await readQueues();
    if (state().fleet.queues !== null) queueDialog.open({ action, queue, fleet: state().fleet });
  }

  async function commandQueue(action, wanted) {
    forgetQueues();
    await give(queueKey(wanted.queue), action, () => commandQueues(action, wanted));
    readQueues();
  }

  async function begin(wanted) {
    const bulk = await commandMany(wanted);
    dispatch({ type: "selectionCleared" });
    dispatch({ type: "bulkOpened", bulk });
    location.hash = hashOf("bulk", bulk.bulk_id);
  }

  /** How many the filter matches is counted only for somebody who wants all of them. */
  async function countEverything() {
    dispatch({ type: "everythingTicked" });
    const { selection, query } = state();
    if (selection.total !== null) return;
    try {
      const { total } = await commandMany({ action: "cancel", ...bulkTarget(selection, query), dry_run: true });
      if (state().query === query) dispatch({ type: "everythingCounted", total });
    } catch {
      // The preview counts again and says what is wrong.
    }
  }

  /** Throws what the server refused: the dialog that asked says it. */
  async function give(target, action, send, { isQuick = false } = {}) {
    dispatch({ type: "commandGiven", target, action, isQuick });
    try {
      dispatch({ type: "commandTaken", target, answer: await send() });
    } catch (error) {
      dispatch({ type: "commandRefused", target, error });
      throw error;
    }
  }

  function forgetQueues() {
    for (const target of state().commands.keys()) {
      if (target.startsWith(queueKey(""))) dispatch({ type: "commandForgotten", target });
    }
  }

  /** The dialogs forget what they were asked about, and what waits is for nobody. */
  function renew() {
    deferral.drop();
    for (const one of [cancelDialog, retryDialog, queueDialog, bulkDialog]) one.renew();
  }

  return { renew };
}

function dialog(selector, make, acts) {
  return Renewable(document.querySelector(selector), (element) => make(element, acts));
}

function answer(request, handle) {
  document.addEventListener(request, (event) => handle(event.detail));
}
