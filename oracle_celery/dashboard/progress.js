/**
 * How far running tasks say that they are: the newest word of each, and what of it can be shown. Pure.
 *
 * A word is whatever a task tells Celery's `update_state`: common shapes become a bar, and anything else a text.
 */

import { formatCount } from "./format.js";

export const NO_PROGRESS = new Map();

/** Tasks whose word is kept: more than run at once where anybody looks. */
const TASKS_LIMIT = 2_000;
const TEXT_LIMIT = 200; // characters

export const progressActions = {
  /** @param {{words: {task_id: string, at: string, meta: any, state: string | null}[]}} action */
  progressArrived(progress, { words }) {
    const next = new Map(progress);
    for (const word of words) {
      if ((next.get(word.task_id)?.at ?? "") > word.at) continue;
      next.delete(word.task_id); // the newest stand last
      next.set(word.task_id, word);
    }
    for (const taskId of [...next.keys()].slice(0, Math.max(0, next.size - TASKS_LIMIT))) next.delete(taskId);
    return next;
  },
};

/** The word of a task's run that is under way, or null. Times are ISO strings of one form: they compare as text. */
export function progressOf(progress, task) {
  const word = progress.get(task.task_id);
  return word !== undefined && task.status === "in_progress" && word.at >= (task.started_at ?? "") ? word : null;
}

const DONE = ["current", "done", "completed", "processed", "n"];
const TOTAL = ["total", "of", "count"];
const TEXT = ["text", "message", "description", "desc", "stage", "step", "status", "detail"];
/** States that say nothing more than that it runs. */
const PLAIN_STATES = new Set(["PROGRESS", "STARTED", "PENDING", "RUNNING"]);

/** @returns {{fraction: number | null, text: string}} */
export function barOf({ meta, state }) {
  const fields = meta !== null && typeof meta === "object" && !Array.isArray(meta) ? meta : {};
  const done = firstNumber(fields, DONE);
  const total = firstNumber(fields, TOTAL);
  const fraction = bounded(done !== null && total > 0 ? done / total : shareOf(meta, fields));
  const counts = done === null ? null : total > 0 ? `${formatCount(done)} / ${formatCount(total)}` : formatCount(done);
  const word = TEXT.map((key) => fields[key]).find((value) => typeof value === "string" && value !== "");
  const own = state !== null && !PLAIN_STATES.has(state) ? state : null;
  const told = [own, word ?? (typeof meta === "string" ? meta : null), counts].filter((part) => part !== null);
  if (told.length === 0 && fraction === null && meta !== null) told.push(JSON.stringify(meta));
  return { fraction, text: told.join(" · ").slice(0, TEXT_LIMIT) };
}

function shareOf(meta, fields) {
  const percent = firstNumber(fields, ["percent", "percentage", "pct"]);
  if (percent !== null) return percent / 100;
  const progress = typeof meta === "number" ? meta : firstNumber(fields, ["progress", "fraction", "ratio"]);
  if (progress === null) return null;
  return progress > 1 ? progress / 100 : progress;
}

function firstNumber(fields, keys) {
  const found = keys.map((key) => fields[key]).find((value) => typeof value === "number" && Number.isFinite(value));
  return found ?? null;
}

function bounded(fraction) {
  return fraction === null ? null : Math.min(1, Math.max(0, fraction));
}
