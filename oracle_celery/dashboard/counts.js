/**
 * How many tasks each status has within the rest of the query. Pure.
 *
 * Counts belong to the query that they were asked for; of another one they are not known. What the server could not
 * count soon is not known either, and then nothing is shown: never a guess, never 0.
 */

import { STATUSES } from "./query-fields.js";
import { joined } from "./query-language.js";

/** @typedef {{count: number, is_more: boolean} | null} Count */

export const NO_COUNTS = Object.freeze({ rest: null, byStatus: Object.freeze({}) });

export const countActions = {
  countsArrived(_counts, { rest, counts }) {
    return { rest, byStatus: counts };
  },
};

/** The query without what it says of the status. */
export function restOf(query) {
  return joined(query.terms.filter(({ field }) => field !== "status"));
}

/** @param {{counts: {rest: string | null, byStatus: object}, query: object}} state @param {string} status "" is all @returns {Count} */
export function countOf({ counts, query }, status) {
  if (counts.rest !== restOf(query)) return null;
  if (status !== "") return counts.byStatus[status] ?? null;
  const all = STATUSES.map((one) => counts.byStatus[one] ?? null);
  if (all.includes(null)) return null;
  return { count: all.reduce((sum, { count }) => sum + count, 0), is_more: all.some((one) => one.is_more) };
}
