/**
 * Queues and workers as the page holds them, and what is notable about them. Pure.
 *
 * A read replaces what was known as a whole; a read that failed leaves it and says so, and what is not known is null.
 */

export const NO_FLEET = Object.freeze({ queues: null, everythingPaused: null, workers: null, error: null });

export const fleetActions = {
  queuesArrived(fleet, { answer }) {
    return { ...fleet, queues: answer.queues, everythingPaused: answer.everything_paused, error: null };
  },
  workersArrived(fleet, { answer }) {
    return { ...fleet, workers: answer.workers, error: null };
  },
  fleetFailed(fleet, { error }) {
    return { ...fleet, error };
  },
};

/** Queues as a reader looks for them: what is held or piling up first, then by name. */
export function ordered(queues) {
  const urgency = (queue) => (queue.paused ? 0 : queue.is_stranded ? 1 : 2);
  return [...queues].sort((a, b) => urgency(a) - urgency(b) || (a.name < b.name ? -1 : 1));
}

/** Whether anything is paused at all. */
export function isAnythingPaused({ queues, everythingPaused }) {
  return everythingPaused !== null || (queues ?? []).some((queue) => queue.paused);
}

/** What each worker of a queue has done of what was said of it last: `[{node, state}]`, as a command's answer tells it. */
export function takenOver({ paused, workers }) {
  return workers.map(({ node, state, is_consuming: isConsuming }) => {
    if (state === "silent") return { node, state: "unreachable" };
    if (state !== "alive") return { node, state: "gone" };
    return { node, state: isConsuming === Boolean(paused) ? "waiting" : "confirmed" };
  });
}

/** How many have taken it over, of those that can: `{confirmed, total, others: [{node, state}]}`. */
export function confirmations(workers) {
  const asked = workers.filter(({ state }) => state !== "not_consuming" && state !== "gone");
  const others = asked.filter((worker) => worker.state !== "confirmed");
  return { confirmed: asked.length - others.length, total: asked.length, others };
}

/** Tasks that wait in these queues. The broker's depth is another number: it also counts messages of cancelled tasks, and
 * not those that workers hold. */
export function totalWaiting(queues) {
  return queues.reduce((sum, queue) => sum + queue.waiting, 0);
}

const LIFE = Object.freeze({ alive: 0, silent: 1, lost: 2, stopped: 3 });

/** The living first, then by name. */
export function orderedWorkers(workers) {
  return [...workers].sort((a, b) => (LIFE[a.state] ?? 9) - (LIFE[b.state] ?? 9) || (a.node < b.node ? -1 : 1));
}

/** `{alive, busy, slots}`: slots of workers whose size is known. */
export function capacity(workers) {
  const living = workers.filter((worker) => worker.state === "alive");
  const sum = (field) => living.reduce((total, worker) => total + (worker[field] ?? 0), 0);
  return { alive: living.length, busy: sum("active"), slots: sum("concurrency") };
}
