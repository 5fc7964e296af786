/**
 * Which tasks are ticked, and what that means as the target of one action on many. Pure.
 *
 * Ticked are either single ids, or everything the list's filter matches: then no id is known and none is needed. A task
 * that leaves the list stays ticked as long as the selection lives: what was chosen does not change by itself.
 */

import { bulkFilter, possibleStatuses } from "./query.js";

/** @typedef {{ids: Set<string>, anchor: string | null, isEverything: boolean, total: number | null}} Selection */

/** @type {Selection} */
export const NOTHING_SELECTED = Object.freeze({
  ids: new Set(),
  /** Where a range starts: the last row ticked by itself. */
  anchor: null,
  isEverything: false,
  /** How many the filter matches, where everything is ticked and somebody has counted. */
  total: null,
});

export const selectionActions = {
  rowTicked(selection, { taskId, isRange }, { rows }) {
    const from = rows.indexOf(selection.anchor);
    const to = rows.indexOf(taskId);
    if (isRange && from >= 0 && to >= 0) {
      const range = rows.slice(Math.min(from, to), Math.max(from, to) + 1);
      return { ...NOTHING_SELECTED, ids: new Set([...chosenRows(selection, rows), ...range]), anchor: selection.anchor };
    }
    const ids = chosenRows(selection, rows);
    if (!ids.delete(taskId)) ids.add(taskId);
    return { ...NOTHING_SELECTED, ids, anchor: taskId };
  },
  rowsHereTicked(selection, _action, { rows }) {
    return { ...NOTHING_SELECTED, ids: new Set(rows) };
  },
  everythingTicked(selection) {
    return { ...NOTHING_SELECTED, isEverything: true, total: selection.total };
  },
  everythingCounted(selection, { total }) {
    return selection.isEverything ? { ...selection, total } : selection;
  },
  selectionCleared() {
    return NOTHING_SELECTED;
  },
};

/** @param {Selection} selection */
export function isSelecting(selection) {
  return selection.isEverything || selection.ids.size > 0;
}

/** @param {Selection} selection @param {string} taskId */
export function isTicked(selection, taskId) {
  return selection.isEverything || selection.ids.has(taskId);
}

/** "all", "some" or "none" of the rows that are shown. */
export function tickedRows(selection, rows) {
  const { ids, isEverything } = selection;
  if (rows.length === 0 || (!isEverything && ids.size === 0)) return "none";
  if (isEverything || (ids.size >= rows.length && rows.every((id) => ids.has(id)))) return "all";
  return rows.some((id) => ids.has(id)) ? "some" : "none";
}

const RETRIED_FROM = new Set(["failed", "cancelled"]);
const CANCELLED_FROM = new Set(["pending", "in_progress"]);

/** Whether any of what is ticked can be meant by the action; what is not on this page counts as "maybe". */
export function mayApply(action, { selection, query, tasks }) {
  const statuses = action === "retry" ? RETRIED_FROM : CANCELLED_FROM;
  if (selection.isEverything) return possibleStatuses(query).some((status) => statuses.has(status));
  return [...selection.ids].some((id) => !tasks.has(id) || statuses.has(tasks.get(id).status));
}

/** What the server is told to act on. */
export function bulkTarget(selection, query) {
  return selection.isEverything ? { filter: bulkFilter(query) } : { ids: [...selection.ids] };
}

/** A row unticked out of "everything" leaves the others that are shown: what is not shown cannot be listed. */
function chosenRows(selection, rows) {
  return new Set(selection.isEverything ? rows : selection.ids);
}
