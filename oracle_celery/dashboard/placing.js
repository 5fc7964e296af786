/**
 * Where a task that has just been told of belongs in the list. Pure.
 *
 * By creation and by id the page knows the places itself, as the server sorts; in any other order only the server does.
 * What belongs to a part of the list that is not loaded yet is not new: whoever gets there will find it.
 */

import { NEWEST_FIRST, SORTED_TASKS } from "./query.js";
import { pageAfter, placesOf } from "./rows.js";
import { mergeTask } from "./versions.js";

/** Rows that may wait behind the chip; beyond it the chip says "more than" and showing them asks the server again. */
export const WAITING_LIMIT = 500; // tasks

/** Of what time and id tell; any other order is the server's. */
const ORDERS = Object.freeze({
  [NEWEST_FIRST]: compareNewest,
  created_at: (a, b) => compareNewest(b, a),
  task_id: compareIds,
  "-task_id": (a, b) => compareIds(b, a),
});

/** Whether a task that is not among the rows, and matches, would be among them if they were asked for now. */
export function belongs(state, task) {
  const { list, query, clockSkew } = state;
  const order = ORDERS[query.sort];
  if (order !== undefined) return isBefore(state, task, order) || (query.sort === NEWEST_FIRST && isWhole(state));
  if (isWhole(state) && state.rows.length < SORTED_TASKS) return true;
  return Date.parse(task.created_at) > list.askedAt + clockSkew;
}

/** Whether it comes after the last row, in another order than newest first: then a list that was whole goes on. */
export function isBeyond(state, task) {
  const order = ORDERS[state.query.sort];
  return state.query.sort !== NEWEST_FIRST && order !== undefined && !isBefore(state, task, order);
}

/** The list with more after its last row than was known. */
export function goingOn({ list, query, rows, tasks }) {
  if (list.isAtReach || list.hasMore) return list;
  if (list.nextPage !== null) return { ...list, hasMore: true };
  return { ...list, nextPage: pageAfter(tasks.get(rows.at(-1)), query.sort) };
}

/**
 * For a reader the rows stay, and what the server has found besides them waits. After a gap in the stream (`isGap`) what
 * is known of rows out of sight is let go: it is read again where somebody comes to.
 */
export function withNews(state, { page, isGap = false }) {
  const { rows, window } = state;
  const places = placesOf(rows);
  const isAside = (id) => places.get(id) < window.first || (places.get(id) >= window.last && id !== rows.at(-1));
  const isKept = (id) => !isGap || id === state.opened || !isAside(id);
  const tasks = new Map([...state.tasks].filter(([id]) => isKept(id)));
  for (const task of page.tasks) tasks.set(task.task_id, mergeTask(tasks.get(task.task_id), task));
  // What the answer has after the last row that is known in it may belong to a part that is not loaded.
  const known = page.tasks.findLastIndex(({ task_id: id }) => places.has(id));
  const reach = known < 0 || isWhole(state) ? page.tasks.length : known;
  const waiting = new Set(state.waiting);
  for (const { task_id: id } of page.tasks.slice(0, reach)) {
    if (!places.has(id) && waiting.size < WAITING_LIMIT) waiting.add(id);
  }
  const isMoreNew = known < 0 && page.next_page !== null;
  const list = { ...state.list, phase: "ready", older: "idle", error: null, arrivals: null, isOutdated: true, isMoreNew };
  return { ...state, tasks, waiting, list };
}

/** Two lists, newest first, as one; rows keep their order among themselves even where it is not strict. */
export function merged(newcomers, rows, tasks) {
  const compare = (one, other) => compareNewest(tasks.get(one), tasks.get(other));
  const sorted = newcomers.toSorted(compare);
  const result = [];
  let next = 0;
  for (const row of rows) {
    while (next < sorted.length && compare(sorted[next], row) < 0) result.push(sorted[next++]);
    result.push(row);
  }
  return [...result, ...sorted.slice(next)];
}

function isWhole({ list }) {
  return list.nextPage === null && !list.isAtReach;
}

/** Before the last row, which is always known; before the end of no rows is everything. */
function isBefore({ rows, tasks }, task, order) {
  const last = tasks.get(rows.at(-1));
  return last === undefined || order(task, last) < 0;
}

/** Newest first, by creation and then by id, as the server sorts. Times are ISO strings of one form: they compare as text. */
function compareNewest(a, b) {
  if (a.created_at !== b.created_at) return (a.created_at ?? "") > (b.created_at ?? "") ? -1 : 1;
  return compareIds(b, a);
}

function compareIds(a, b) {
  if (a.task_id === b.task_id) return 0;
  return a.task_id < b.task_id ? -1 : 1;
}
