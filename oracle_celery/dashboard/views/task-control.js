/**
 * What may be done with the opened task, what has been asked of it, and what came of that.
 * Asks with `retryTask` and `cancelTask`, which are done at once and can be undone for a moment with `undoCommand`, and
 * with `askRetry` and `askCancel`, which open a dialog.
 *
 * A button is there only where its command would be taken; where it would not, the reason is said in its place.
 */

import { taskNotice } from "../commands.js";
import { formatTime, shortId } from "../format.js";
import { t } from "../locale.js";
import { hashOf } from "../route.js";
import { errorText } from "./error-text.js";

const CANCELLABLE = new Set(["pending", "in_progress"]);
const RETRIABLE = new Set(["failed", "cancelled"]);
const NOTHING = Object.freeze({ retryTask: false, cancelTask: false, whyNot: null });

/** @param {HTMLElement} element the panel: buttons stand beside the status, everything else below it */
export function TaskControl(element) {
  const title = element.querySelector("h2");
  const place = element.querySelector(".task-control");
  const buttons = [...element.querySelectorAll("[data-command]")];
  const notice = element.querySelector(".task-control__notice");
  const undo = notice.querySelector("button");
  const requested = element.querySelector(".task-control__requested");
  const why = element.querySelector(".task-control__why");
  const pool = element.querySelector(".task-control__pool");
  const links = [...element.querySelectorAll("[data-link]")];

  for (const button of buttons) {
    button.addEventListener("click", () => {
      element.dispatchEvent(new CustomEvent(button.dataset.command, { bubbles: true }));
    });
  }

  undo.addEventListener("click", () => element.dispatchEvent(new CustomEvent("undoCommand", { bubbles: true })));

  function update({ task, control, command, mayControl }) {
    const may = mayControl ? whatMay(task, control) : NOTHING;
    const focused = [...buttons, undo].find((button) => button === document.activeElement);
    const isDeferred = command?.phase === "deferred";
    for (const button of buttons) {
      const isSending = command?.phase === "sending";
      button.hidden = isDeferred || !may[button.dataset.command];
      button.setAttribute("aria-disabled", String(isSending));
      if (button.dataset.command === "retryTask") button.classList.toggle("button--main", task.status === "failed");
    }
    say(why, may.whyNot);
    showNotice(taskNotice(command, task));
    const asked = control?.cancel_requested ?? null;
    say(requested, asked && t(asked.reason ? "control.requested.reason" : "control.requested", {
      by: asked.by, at: formatTime(asked.at), reason: asked.reason,
    }));
    const isAtWork = task.status === "in_progress" && control !== null;
    say(pool, isAtWork && control.cancel.interruptible === false ? t("control.not_interruptible") : null);
    for (const link of links) showLink(link, control?.[link.dataset.link] ?? null, control);
    place.hidden = [...place.children].every((child) => child.hidden);
    // a hidden button would lose the focus to nowhere
    if (focused?.hidden) (undo.hidden ? title : undo).focus({ preventScroll: true });
  }

  function showNotice(told) {
    const [text, link] = notice.children;
    notice.hidden = told === null;
    notice.classList.toggle("is-refusal", Boolean(told?.error));
    say(text, told && t(told.key, { message: told.error ? errorText(told.error) : "" }));
    undo.hidden = !told?.canUndo;
    undo.textContent = undo.hidden ? "" : t("control.undo");
    link.hidden = !told?.taskId;
    if (told?.taskId) aim(link, told.taskId);
  }

  return { update, canCommand: (name) => buttons.some((button) => button.dataset.command === name && !button.hidden) };
}

/** `{retryTask, cancelTask, whyNot}` for a task as it stands now. */
function whatMay(task, control) {
  if (control === null) return NOTHING;
  const { cancel, retry } = control;
  const isCancellable = CANCELLABLE.has(task.status);
  const isRetriable = RETRIABLE.has(task.status);
  const may = {
    cancelTask: isCancellable && cancel.allowed,
    retryTask: isRetriable && (retry.allowed || retry.needs !== null),
  };
  may.askCancel = may.cancelTask;
  may.askRetry = may.retryTask && retry.needs === null; // else the button itself asks
  // A retry or a request that is told in its own line needs no reason beside it.
  const isRefused = isCancellable && !may.cancelTask && !control.cancel_requested;
  const isUnretried = isRetriable && !may.retryTask && !control.retried_as;
  const { code, why_not: message, missing = null } = isRefused ? cancel : isUnretried ? retry : {};
  if (missing !== null) return { ...may, whyNot: t("control.no_message", { why: t(`missing.${missing}`, {}, message) }) };
  return { ...may, whyNot: message ? t(`error.${code}`, { message }, message) : null };
}

function showLink(line, taskId, control) {
  line.hidden = taskId === null;
  if (taskId === null) return;
  aim(line.querySelector("a"), taskId);
  const tag = line.querySelector(".tag");
  if (tag === null) return;
  const isOpen = control.retry_state === "sending" || control.retry_state === "unknown";
  tag.hidden = !isOpen;
  tag.textContent = isOpen ? t(`outcome.${control.retry_state}`) : "";
  line.querySelector(".task-control__link-note").textContent = isOpen ? t(`control.retry.${control.retry_state}`) : "";
}

function aim(link, taskId) {
  link.textContent = shortId(taskId);
  link.title = taskId;
  link.href = hashOf("tasks", taskId);
}

/** Writes only what differs: a status region speaks at every change. */
function say(place, text) {
  place.hidden = !text;
  if (text && place.textContent !== text) place.textContent = text;
}
