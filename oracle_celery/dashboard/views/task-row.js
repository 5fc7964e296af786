/** One row of the list. `update` writes only what differs from what it showed: most rows of most updates are untouched. */

import { UNKNOWN, formatDuration, formatElapsed, formatFullTime, formatTime, shortId } from "../format.js";
import { currentLanguage, t } from "../locale.js";
import { showStatus } from "./glyph.js";
import { showName } from "./task-name.js";

/** Steps that every task takes: the status says as much, so a row is silent about them. */
const USUAL_REASONS = new Set(["sent", "received", "started"]);

/** @param {HTMLTemplateElement} template */
export function TaskRow(template) {
  const element = template.content.cloneNode(true).firstElementChild;
  const [select, id, name, status, user, queue, worker, runtime, created] = element.cells;
  const box = select.querySelector("input");
  const link = name.querySelector("a");
  const tag = name.querySelector(".tag");
  const time = created.querySelector("time");
  let shown = null;

  function update(task, { now, isOpen, isFresh, isTicked }) {
    element.classList.toggle("task-row--ticked", isTicked);
    if (box.checked !== isTicked) box.checked = isTicked;
    element.classList.toggle("task-row--open", isOpen);
    if (isOpen) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    if (isFresh && shown === null) element.classList.add("task-row--fresh");
    if (shown?.task !== task || shown.language !== currentLanguage()) show(task);
    runtime.textContent = formatRuntime(task, now);
  }

  function show(task) {
    shown = { task, language: currentLanguage() };
    element.dataset.taskId = task.task_id;
    id.querySelector("code").textContent = shortId(task.task_id);
    id.querySelector("code").title = task.task_id;
    box.setAttribute("aria-label", t("selection.row", { id: shortId(task.task_id) }));
    id.querySelector("[data-copy]").dataset.copy = task.task_id;
    showName(link, task.name);
    link.href = `#/tasks/${encodeURIComponent(task.task_id)}`;
    link.title = task.name ?? "";
    const isTelling = Boolean(task.reason) && !USUAL_REASONS.has(task.reason);
    tag.textContent = isTelling ? task.reason : "";
    tag.hidden = !isTelling;
    showStatus(status, status.querySelector(".status-word"), task.status);
    element.dataset.status = task.status;
    showText(user, task.user_id);
    showText(queue, task.queue);
    showText(worker, task.worker);
    time.textContent = formatTime(task.created_at);
    time.dateTime = task.created_at ?? "";
    time.title = formatFullTime(task.created_at);
  }

  function showText(cell, text) {
    cell.textContent = text ?? UNKNOWN;
    cell.title = text ?? "";
    cell.classList.toggle("is-unknown", !text);
  }

  return { element, link, update };
}

/** Time at work: told by the worker for what has ended, counted in whole seconds for what runs. */
export function formatRuntime(task, now) {
  if (task.status !== "in_progress" || !task.started_at) return formatDuration(task.runtime);
  return formatElapsed((now - Date.parse(task.started_at)) / 1000);
}
