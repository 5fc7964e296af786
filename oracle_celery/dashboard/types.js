/**
 * Task types as their page arranges them: filter, order, and one logarithmic scale for all durations. Pure.
 */

/** Columns that may be sorted by, with the direction of the first click: words from A, numbers from the largest. */
export const TYPE_SORTS = Object.freeze({
  name: "name",
  per_minute: "-per_minute",
  finished: "-finished",
  failure: "-failure",
  runtime_p50: "-runtime_p50",
  runtime_p95: "-runtime_p95",
  wait_p50: "-wait_p50",
  wait_p95: "-wait_p95",
});
export const DEFAULT_TYPE_SORT = "-finished";

const VALUES = Object.freeze({
  name: (type) => type.name,
  per_minute: (type) => type.per_minute,
  finished: (type) => type.finished,
  failure: (type) => type.failure_percent,
  runtime_p50: (type) => type.runtime?.p50 ?? null,
  runtime_p95: (type) => type.runtime?.p95 ?? null,
  wait_p50: (type) => type.wait?.p50 ?? null,
  wait_p95: (type) => type.wait?.p95 ?? null,
});

/** What an address says of the page; what is not understood is the usual. @param {Record<string, string>} parameters */
export function arrangementOf({ sort = "", name = "" }) {
  return { sort: Object.hasOwn(TYPE_SORTS, sort.replace(/^-/, "")) ? sort : DEFAULT_TYPE_SORT, name };
}

/** The same as parameters of an address, which tell only what is not usual. */
export function parametersOf({ sort, name }) {
  return { sort: sort === DEFAULT_TYPE_SORT ? "" : sort, name };
}

/** The order after a click on a column's head. */
export function nextTypeSort(sort, column) {
  if (sort.replace(/^-/, "") !== column) return TYPE_SORTS[column];
  return sort.startsWith("-") ? column : `-${column}`;
}

/** Types whose name has the text in it, in order; what is not known comes last. */
export function arranged(types, { sort, name }) {
  const value = VALUES[sort.replace(/^-/, "")];
  const sign = sort.startsWith("-") ? -1 : 1;
  const wanted = name.toLowerCase();
  return types.filter((type) => (type.name ?? "").toLowerCase().includes(wanted)).sort((a, b) => compare(value(a), value(b), sign) || compare(a.name, b.name, 1));
}

function compare(a, b, sign) {
  if (a === b) return 0;
  if (a === null) return 1;
  if (b === null) return -1;
  return a < b ? -sign : sign;
}

/**
 * Whole powers of ten around all runtimes and waits: `{low, high}` are exponents. A wait of nothing counts as the lowest.
 */
export function scaleOf(types) {
  const known = types.flatMap(({ runtime, wait }) => [runtime, wait]).filter(Boolean).flatMap(({ p50, p95 }) => [p50, p95]);
  const logs = known.filter((seconds) => seconds > 0).map((seconds) => Math.log10(Math.max(seconds, SHORTEST)));
  if (logs.length === 0) return { low: -2, high: 1 };
  const low = Math.floor(Math.min(...logs));
  return { low, high: Math.max(low + 1, Math.ceil(Math.max(...logs))) };
}

const SHORTEST = 0.001; // seconds

/** Where a duration stands on a scale, from 0 to 1. */
export function placeOn({ low, high }, seconds) {
  const log = Math.log10(Math.max(seconds, SHORTEST));
  return Math.min(1, Math.max(0, (log - low) / (high - low)));
}

/** The powers of ten of a scale, thinned out where there are many. @returns {{at: number, seconds: number}[]} */
export function decades(scale) {
  const step = scale.high - scale.low > 5 ? 2 : 1;
  const marks = [];
  for (let power = scale.low; power <= scale.high; power += step) marks.push({ at: (power - scale.low) / (scale.high - scale.low), seconds: 10 ** power });
  return marks;
}

const NOTHING_USUAL = new Map();
/** Once for each answer. */
const usual = new WeakMap();

/** Seconds within which 95 of 100 tasks of a type end, by its name, where it is known. */
export function usualRuntimes(answer) {
  if (!answer) return NOTHING_USUAL;
  if (!usual.has(answer)) {
    const known = answer.types.filter(({ runtime }) => runtime !== null);
    usual.set(answer, new Map(known.map(({ name, runtime }) => [name, runtime.p95])));
  }
  return usual.get(answer);
}
