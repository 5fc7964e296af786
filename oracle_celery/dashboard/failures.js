/**
 * Failures in groups as the page holds them, and what is drawn of them. Pure.
 *
 * A read replaces what was known as a whole; a read that failed leaves it and says so, and what is not known is null.
 */

/** Ranges that the list may show, with their length in seconds. */
export const FAILURE_RANGES = Object.freeze({ "1h": 3_600, "24h": 86_400, "7d": 604_800 });
export const USUAL_RANGE = "24h";

/** The columns of counts, from short to long. */
export const SPANS = Object.freeze(["1h", "3h", "24h", "3d", "7d"]);

const AXIS_LABELS = 4; // times over the marks, before "now"

export const NO_FAILURES = Object.freeze({
  /** As /api/failures tells it; null until it was read. */
  list: null,
  /** Groups that are new, or have come back: what the navigation says. */
  news: 0,
  /** Of the group that is opened, as /api/failures/… tells it. */
  detail: null,
  error: null,
  detailError: null,
});

export const failureActions = {
  failuresArrived(failures, { list }) {
    return { ...failures, list, news: list.new + list.regressed, error: null };
  },
  failuresGlanced(failures, { list }) {
    return { ...failures, news: list.new + list.regressed };
  },
  failuresFailed(failures, { error }) {
    return { ...failures, error };
  },
  failureArrived(failures, { detail }) {
    return { ...failures, detail, detailError: null };
  },
  failureFailed(failures, { error }) {
    return { ...failures, detailError: error };
  },
  failureClosed(failures) {
    return { ...failures, detail: null, detailError: null };
  },
};

/** The range that an address asks for. @param {Record<string, string>} parameters */
export function rangeOf(parameters) {
  return Object.hasOwn(FAILURE_RANGES, parameters.range ?? "") ? parameters.range : USUAL_RANGE;
}

/** What an address says of a range: nothing of the usual one. */
export function rangeParameters(range) {
  return range === USUAL_RANGE ? {} : { range };
}

/** The groups of the list with the opened one, which may be of another range. */
export function shownGroups({ list, detail }) {
  if (list === null) return [];
  const isListed = detail === null || list.shown.some((group) => group.fingerprint === detail.group.fingerprint);
  return isListed ? list.shown : [detail.group, ...list.shown];
}

/**
 * The marks of a group: where each stands and how large it is, both from 0 to 1, and what it stands for. The size grows
 * with the logarithm: one failure is seen beside ten thousand.
 * @returns {{at: number, size: number, start: number, count: number}[]} start in milliseconds
 */
export function placedMarks(group, { step, range, starts }, most) {
  const places = markPlaces(step, range);
  const start = Date.parse(starts[range]);
  return group.marks.map(([place, count]) => ({
    at: Math.min(place, places - 1) / places,
    size: most > 0 ? Math.log1p(count) / Math.log1p(most) : 0,
    start: start + place * step * 1000,
    count,
  }));
}

/** How many marks have room beside each other: a range begins within a slot, so one more than its length. */
export function markPlaces(step, range) {
  return Math.ceil(FAILURE_RANGES[range] / step) + 1;
}

/** The largest mark of all groups: sizes compare between rows. */
export function largestMark(groups) {
  return groups.reduce((most, { marks }) => marks.reduce((larger, [, count]) => Math.max(larger, count), most), 0);
}

/** Times over the marks, evenly: [{at: 0…1, time: milliseconds}]. */
export function axisTimes({ step, range, starts }) {
  const start = Date.parse(starts[range]);
  const length = markPlaces(step, range) * step * 1000;
  return Array.from({ length: AXIS_LABELS }, (_, number) => {
    const at = number / AXIS_LABELS;
    return { at, time: start + at * length };
  });
}

/** The tasks of a group that ended within a span, in the query language. */
export function groupQuery(fingerprint, start = null) {
  return start === null ? `fingerprint:${fingerprint}` : `fingerprint:${fingerprint} finished:>=${start}`;
}

/** Those that can be sent again. */
export function retryQuery(fingerprint) {
  return `fingerprint:${fingerprint} status:failed`;
}
