/**
 * A long list of task ids, and the part of its tasks that is kept in memory. Pure.
 *
 * Ids are kept for every row that was loaded, for selection and for finding a place; what a row shows only for rows near
 * the reader, so that memory follows the screen and not the way one has scrolled. What was let go is asked for again by
 * id, which no later change of the list can lead astray.
 */

import { NEWEST_FIRST, sortColumn } from "./query.js";

/** Rows a live list that nobody reads may have: what came long before is let go, and asked for when it is scrolled to. */
export const ROWS_LIMIT = 600; // tasks

/** Rows to either side of those in sight whose tasks stay in memory. */
export const KEPT_AROUND = 1_000; // rows

/** Rows that can be scrolled to: a browser's page may be some ten million pixels high. */
export const REACH_LIMIT = 200_000; // rows

/** Where each id is, once for each list: an array of rows is never changed. @type {WeakMap<readonly string[], Map<string, number>>} */
const places = new WeakMap();

/** @param {readonly string[]} rows @returns {Map<string, number>} place by id */
export function placesOf(rows) {
  let known = places.get(rows);
  if (known === undefined) {
    known = new Map();
    for (let place = 0; place < rows.length; place += 1) known.set(rows[place], place);
    places.set(rows, known);
  }
  return known;
}

/** The rows with those of `ids` at the end that are not among them. The places move on to the new list, uncopied. */
export function appended(rows, ids) {
  const known = placesOf(rows);
  const result = [...rows];
  for (const id of ids) {
    if (known.has(id)) continue;
    known.set(id, result.length);
    result.push(id);
  }
  places.delete(rows);
  places.set(result, known);
  return result;
}

/** Whether the task of an id is near enough to the rows in sight to be kept; the last row's is, it tells where the list ends. */
export function isNear({ rows, window }, id) {
  const place = placesOf(rows).get(id);
  if (place === undefined) return false;
  return place === rows.length - 1 || (place >= window.first - KEPT_AROUND && place < window.last + KEPT_AROUND);
}

/** The window of another list: its beginning, where it was further down than that list reaches. */
export function inReach(window, rows) {
  return window.first < rows.length ? window : { first: 0, last: Math.min(rows.length, window.last - window.first) };
}

/** Ids of rows whose tasks have been let go: those in sight, then those after them, then those before. @returns {string[]} */
export function missing({ rows, window, tasks }, margin) {
  const first = Math.max(0, window.first - margin);
  const near = [...rows.slice(window.first, window.last + margin), ...rows.slice(first, window.first).reverse()];
  return near.filter((id) => !tasks.has(id));
}

/** The list newest first, cut where its tasks are not known or it is longer than anybody needs; it goes on from there. */
export function shortened(state) {
  const { rows, tasks } = state;
  let length = 0;
  while (length < rows.length && length < ROWS_LIMIT && tasks.has(rows[length])) length += 1;
  if (length === rows.length || length === 0) return state;
  const left = rows.slice(0, length);
  const list = { ...state.list, nextPage: pageAfter(tasks.get(rows[length - 1]), NEWEST_FIRST), isAtReach: false, older: "idle" };
  return { ...state, rows: left, window: inReach(state.window, left), list };
}

/** The page that begins after a task, by creation or by id, spelled as the server's own `next_page` (see database/listing.py). */
export function pageAfter(task, sort) {
  const bytes = new TextEncoder().encode(JSON.stringify([sort, task[sortColumn(sort)], task.task_id]));
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
