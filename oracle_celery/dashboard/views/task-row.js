/**
 * One row of the list. `update` writes only what differs from what it showed: most rows of most updates are untouched.
 * A row is used again for another task; one whose task is not known yet shows where it will stand. What its cells say in
 * full (their titles) is put in when the pointer comes: a scrolling list would else write six for every row that passes.
 */

import { UNKNOWN, formatCount, formatDuration, formatElapsed, formatFullTime, formatTime, shortId } from "../format.js";
import { waitOf } from "../columns.js";
import { currentLanguage, t } from "../locale.js";
import { barOf } from "../progress.js";
import { meaningOf } from "../reasons.js";
import { showStatus } from "./glyph.js";
import { showName } from "./task-name.js";
import { hide, say } from "./drawing.js";
import { valueButton } from "./value-clicks.js";

/** Steps that every task takes: the status says as much, so a row is silent about them. */
const USUAL_REASONS = new Set(["sent", "received", "started"]);
/** What may be asked for from a row; whether it will be taken, the server says. */
const COMMANDS = Object.freeze({
  retryTask: new Set(["failed", "cancelled"]),
  cancelTask: new Set(["pending", "in_progress"]),
});
const NOTHING = Object.freeze({});

/** @param {HTMLTemplateElement} template */
export function TaskRow(template) {
  const element = template.content.cloneNode(true).firstElementChild;
  const [select, id, name, status, user, queue, worker, retries, wait, runtime, created] = element.cells;
  const box = select.querySelector("input");
  const code = id.querySelector("code");
  const link = name.querySelector("a");
  const tag = name.querySelector(".tag");
  const word = status.querySelector(".status-word");
  const time = created.querySelector("time");
  const copy = created.querySelector("[data-copy]");
  const commands = [...created.querySelectorAll("[data-row-command]")];
  let shown = NOTHING;
  let isPointedAt = false;
  let isTitled = false;

  element.addEventListener("pointerenter", () => {
    isPointedAt = true;
    showTitles();
  });
  element.addEventListener("pointerleave", () => (isPointedAt = false));

  function update(taskId, task, { now, isOpen, isFresh, isTicked, isCurrent, mayCommand, usual, progress }) {
    const isNew = shown.taskId !== taskId;
    if (isNew || shown.isTicked !== isTicked) {
      element.classList.toggle("task-row--ticked", isTicked);
      box.checked = isTicked;
    }
    if (isNew || shown.isOpen !== isOpen) {
      element.classList.toggle("task-row--open", isOpen);
      if (isOpen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    if (isNew || shown.isCurrent !== isCurrent) link.setAttribute("tabindex", isCurrent ? "0" : "-1");
    if (isNew) showId(taskId);
    if (isNew && isFresh) element.classList.add("task-row--fresh");
    const language = currentLanguage();
    const differs = isNew || shown.task !== task || shown.language !== language;
    if (differs && task === undefined) showNothing();
    else if (differs) show(task);
    if (task !== undefined && (differs || task.status === "in_progress")) say(runtime, formatRuntime(task, now));
    if (task !== undefined && (differs || task.status === "pending")) say(wait, formatWait(task, now));
    const done = progress === null ? null : barOf(progress).fraction; // told by the task itself: better than what is usual
    if (differs || task?.status === "in_progress") showGauge(task, now, done === null ? usual : null);
    if (differs || shown.mayCommand !== mayCommand) {
      for (const button of commands) hide(button, !mayCommand || !COMMANDS[button.dataset.rowCommand].has(task?.status));
    }
    if (isNew || shown.progress !== progress) showProgress(done);
    shown = { taskId, task, language, isTicked, isOpen, isCurrent, mayCommand, progress };
    if (differs && isPointedAt) showTitles();
    else if (differs && isTitled) clearTitles();
  }

  /** A thin bar under the runtime; a word without a known share has none. */
  function showProgress(done) {
    runtime.classList.toggle("has-progress", done !== null);
    if (done !== null) runtime.style.setProperty("--done", String(done));
  }

  /** It is of no task any more. */
  function reset() {
    shown = NOTHING;
    element.classList.remove("task-row--fresh");
  }

  function showId(taskId) {
    element.dataset.taskId = taskId;
    say(code, shortId(taskId));
    copy.dataset.copy = taskId;
    delete copy.dataset.said;
    link.href = `#/tasks/${encodeURIComponent(taskId)}`;
  }

  function show(task) {
    element.classList.remove("task-row--unread");
    element.removeAttribute("aria-busy");
    box.setAttribute("aria-label", t("selection.row", { id: shortId(task.task_id) }));
    showName(link, task.name);
    link.dataset.termValue = task.name ?? "";
    const isTelling = Boolean(task.reason) && !USUAL_REASONS.has(task.reason);
    say(tag, isTelling ? task.reason : "");
    hide(tag, !isTelling);
    showStatus(status, word, task.status);
    if (element.dataset.status !== task.status) element.dataset.status = task.status;
    showText(user, task.user_id, "user");
    showText(queue, task.queue, "queue");
    showText(worker, task.worker, "worker");
    say(retries, task.retries > 0 ? formatCount(task.retries) : UNKNOWN);
    say(time, formatTime(task.created_at));
    time.dateTime = task.created_at ?? "";
  }

  function showTitles() {
    const { taskId, task } = shown;
    const titles = [[code, taskId], [link, task?.name], [user, task?.user_id], [queue, task?.queue], [worker, task?.worker]];
    for (const [place, title] of titles) place.title = title ?? "";
    tag.title = meaningOf(task?.reason);
    time.title = task === undefined ? "" : formatFullTime(task.created_at);
    isTitled = true;
  }

  function clearTitles() {
    for (const place of [code, link, tag, user, queue, worker, time]) place.title = "";
    isTitled = false;
  }

  /** How far a run has come of what its type usually takes; full, and of another colour, once it takes longer. */
  function showGauge(task, now, usual) {
    const isRunning = task?.status === "in_progress" && Boolean(task.started_at) && usual > 0;
    const share = isRunning ? (now - Date.parse(task.started_at)) / 1000 / usual : null;
    if (isRunning) runtime.dataset.gauge = share > 1 ? "late" : "usual";
    else delete runtime.dataset.gauge;
    if (isRunning) runtime.style.setProperty("--share", `${Math.max(0, Math.min(100, Math.round(share * 100)))}%`);
    const told = isRunning ? t("row.usual", { duration: formatDuration(usual) }) : "";
    if (runtime.title !== told) runtime.title = told;
  }

  /** A row that was scrolled to before its task has been read. */
  function showNothing() {
    element.classList.add("task-row--unread");
    element.setAttribute("aria-busy", "true");
    delete element.dataset.status;
    box.setAttribute("aria-label", t("selection.row", { id: code.textContent }));
    link.dataset.termValue = "";
    time.dateTime = "";
    showName(link, "\u00a0");
    hide(tag, true);
    say(word, "");
    for (const cell of [user, queue, worker]) say(cell.firstElementChild ?? cell, "");
    for (const cell of [retries, wait, runtime, time]) say(cell, "");
  }

  function canCommand(command) {
    return commands.some((button) => button.dataset.rowCommand === command && !button.hidden);
  }

  /** The button of an earlier value says the new one. */
  function showText(cell, text, field) {
    const button = cell.firstElementChild;
    if (text && button !== null) say(button, text);
    else if (text) cell.replaceChildren(valueButton(field, text));
    else say(cell, UNKNOWN);
    if (cell.classList.contains("is-unknown") === Boolean(text)) cell.classList.toggle("is-unknown", !text);
  }

  return { element, link, update, reset, canCommand };
}

/** Time until the newest run: in whole seconds for what waits still. */
function formatWait(task, now) {
  const seconds = waitOf(task, now);
  return task.status === "pending" && seconds !== null ? formatElapsed(seconds) : formatDuration(seconds);
}

/** Time at work: told by the worker for what has ended, counted in whole seconds for what runs. */
export function formatRuntime(task, now) {
  if (task.status !== "in_progress" || !task.started_at) return formatDuration(task.runtime);
  return formatElapsed((now - Date.parse(task.started_at)) / 1000);
}
