/**
 * Actions on many tasks: the list of recent ones, and the one that is looked at. Pure.
 *
 * Progress comes from reads and from the stream in any order: of two readings of one bulk the further one counts, so a
 * bar never moves back.
 */

export const NO_BULK = Object.freeze({
  /** Newest first; null until they were read. */
  recent: null,
  /** The one whose address is open. */
  opened: null,
  items: Object.freeze([]),
  next: null,
  /** Only items of this outcome are shown; "" is all. */
  outcome: "",
  isReadingItems: false,
  error: null,
});

export const bulkActions = {
  bulksArrived(state, { bulks }) {
    const known = new Map((state.recent ?? []).map((bulk) => [bulk.bulk_id, bulk]));
    return { ...state, recent: bulks.map((bulk) => further(known.get(bulk.bulk_id), bulk)), error: null };
  },
  bulkArrived(state, { bulk }) {
    const recent = state.recent?.map((one) => (one.bulk_id === bulk.bulk_id ? further(one, bulk) : one)) ?? null;
    const isNew = recent !== null && !recent.some((one) => one.bulk_id === bulk.bulk_id);
    const isOpened = state.opened?.bulk_id === bulk.bulk_id;
    return {
      ...state,
      recent: isNew ? [bulk, ...recent] : recent,
      opened: isOpened ? further(state.opened, bulk) : state.opened,
    };
  },
  bulkOpened(state, { bulk }) {
    const known = state.recent?.find((one) => one.bulk_id === bulk.bulk_id);
    const isSame = state.opened?.bulk_id === bulk.bulk_id;
    const opened = further(isSame ? state.opened : known, bulk);
    return isSame ? { ...state, opened, error: null } : { ...NO_BULK, recent: state.recent, opened };
  },
  bulkClosed(state) {
    return { ...NO_BULK, recent: state.recent };
  },
  bulkFailed(state, { error }) {
    return { ...state, error, isReadingItems: false };
  },
  bulkOutcomeChosen(state, { outcome }) {
    return { ...state, outcome, items: [], next: null };
  },
  bulkItemsRequested(state) {
    return { ...state, isReadingItems: true };
  },
  /**
   * The answer's own question is told with it: one that was asked before another was chosen is dropped. Items that come
   * after those of the answer stay, where there are more.
   */
  bulkItemsArrived(state, { bulkId, outcome, after, page }) {
    const isWanted = state.opened?.bulk_id === bulkId && state.outcome === outcome;
    if (!isWanted) return { ...state, isReadingItems: false };
    const before = state.items.filter((item) => item.number <= after);
    const beyond = page.next === null ? [] : state.items.filter((item) => item.number > page.next);
    const next = beyond.length > 0 ? state.next : page.next;
    return { ...state, items: [...before, ...page.items, ...beyond], next, isReadingItems: false, error: null };
  },
};

/** The one of two readings that has come further. */
export function further(known, arrived) {
  if (!known) return arrived;
  const isKnownFurther = known.state === "finished" ? arrived.state !== "finished" : known.done > arrived.done;
  return isKnownFurther ? known : arrived;
}

/** Outcomes with their counts, the most frequent first. */
export function outcomeCounts(bulk) {
  return Object.entries(bulk.outcomes).sort(([a, left], [b, right]) => right - left || (a < b ? -1 : 1));
}

/** Whether an outcome says that what was wanted has been done, or is on its way. */
export function isSuccess(outcome) {
  return outcome === "sent" || outcome === "cancelled" || outcome === "requested";
}

/** Hundredths that are done, never 100 before the end. */
export function percentDone({ done, total, state }) {
  if (state === "finished") return 100;
  return total === 0 ? 0 : Math.min(99, Math.floor((100 * done) / total));
}
