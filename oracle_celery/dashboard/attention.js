/**
 * What the tab says while nobody looks at it: how many tasks have failed since. Pure.
 *
 * A task counts once, however often it fails. What a stream may have missed is not known: then the number is "at least".
 */

export const NOTHING_FAILED = Object.freeze({ isLooking: true, failed: new Set(), isAtLeast: false });

/** Tasks remembered; with more the number is "at least" as well. */
export const FAILED_LIMIT = 1_000;

/** @param {typeof NOTHING_FAILED} attention @param {object[]} facts of the stream */
export function withFailures(attention, facts) {
  if (attention.isLooking) return attention;
  const news = facts.filter(({ new_status: status, task_id: id }) => status === "failed" && !attention.failed.has(id));
  if (news.length === 0) return attention;
  const all = [...attention.failed, ...news.map(({ task_id: id }) => id)];
  const failed = new Set(all.slice(0, FAILED_LIMIT));
  return { ...attention, failed, isAtLeast: attention.isAtLeast || new Set(all).size > FAILED_LIMIT };
}

/** Somebody looks, or looks away. */
export function whileLooking(attention, isLooking) {
  return isLooking ? NOTHING_FAILED : { ...NOTHING_FAILED, isLooking: false };
}

/** The stream has gone on somewhere else than it stopped. */
export function afterGap(attention) {
  return attention.isLooking ? attention : { ...attention, isAtLeast: true };
}

/** The title, and whether the icon tells of failures. @param {string} name what the tab is called @param {(count: number) => string} format */
export function tabOf({ failed, isAtLeast }, name, format) {
  const count = failed.size;
  return { title: count === 0 ? name : `(${format(count)}${isAtLeast ? "+" : ""}) ${name}`, isFailing: count > 0 };
}
