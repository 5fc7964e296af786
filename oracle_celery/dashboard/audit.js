/** The audit's page as it is held: entries newest first, read page by page. Pure. */

export const NO_AUDIT = Object.freeze({ entries: null, next: null, isReading: false, error: null });

/** What entries are found by, in the page's address. */
export const AUDIT_FILTERS = Object.freeze(["actor", "action", "task_id"]);
export const AUDIT_ACTIONS = Object.freeze(["cancel", "retry", "pause", "resume", "bulk_cancel", "bulk_retry"]);

export const auditActions = {
  auditRequested(audit, { isFirst }) {
    return { ...audit, isReading: true, entries: isFirst ? audit.entries : (audit.entries ?? []) };
  },
  auditArrived(audit, { page, isFirst }) {
    const before = isFirst ? [] : audit.entries;
    return { entries: [...before, ...page.entries], next: page.next, isReading: false, error: null };
  },
  auditFailed(audit, { error }) {
    return { ...audit, isReading: false, error };
  },
};

/** @param {Record<string, string>} parameters of the address */
export function auditFilter(parameters) {
  return Object.fromEntries(AUDIT_FILTERS.map((name) => [name, (parameters[name] ?? "").trim()]));
}

/** What an entry acted on: `{kind: "task" | "bulk" | "queues" | "everything", …}`. */
export function auditTarget({ task_id: taskId, bulk_id: bulkId, queues }) {
  if (bulkId) return { kind: "bulk", id: bulkId };
  if (taskId) return { kind: "task", id: taskId };
  if (queues && queues.length > 0) return { kind: "queues", names: queues };
  return { kind: "everything" };
}

/** The newest outcome of every subject, in the order they first came: one line per worker or task. */
export function newestOutcomes(outcomes) {
  const bySubject = new Map();
  for (const outcome of outcomes) bySubject.set(outcome.subject, outcome);
  return [...bySubject.values()];
}
