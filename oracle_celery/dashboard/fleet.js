/**
 * Queues and workers as the page holds them, and what is notable about them. Pure.
 *
 * A read replaces what was known as a whole; a read that failed leaves it and says so, and what is not known is null.
 */

import { sinceKnown } from "./statistics.js";

export const NO_FLEET = Object.freeze({
  queues: null,
  everythingPaused: null,
  workers: null,
  /** How many waited, minute by minute of the last hour, by queue. */
  trends: new Map(),
  error: null,
});

export const fleetActions = {
  queuesArrived(fleet, { answer }) {
    return { ...fleet, queues: answer.queues, everythingPaused: answer.everything_paused, error: null };
  },
  workersArrived(fleet, { answer }) {
    return { ...fleet, workers: answer.workers, error: null };
  },
  queueTrendsArrived(fleet, { answer }) {
    const lines = sinceKnown(answer.queues.map(({ waiting }) => waiting));
    return { ...fleet, trends: new Map(answer.queues.map(({ queue }, at) => [queue, lines[at]])) };
  },
  queueTrendsFailed(fleet) {
    return fleet; // a line that is missing for a moment is no news
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

const DELIMITER = /[.:/]/;

/**
 * Queues by what their names begin with, up to the first ".", ":" or "/", where two or more share it: first those that
 * stand alone (`prefix` null), then group by group. Within each they are `ordered`.
 * @returns {{prefix: string | null, queues: object[]}[]} a prefix has its delimiter, like "emails."
 */
export function grouped(queues) {
  const groups = new Map();
  for (const queue of ordered(queues)) {
    const prefix = prefixOf(queue.name);
    groups.set(prefix, [...(groups.get(prefix) ?? []), queue]);
  }
  const whole = [...groups].filter(([prefix, members]) => prefix !== null && members.length > 1);
  const alone = ordered(queues).filter(({ name }) => !whole.some(([prefix]) => prefix === prefixOf(name)));
  const told = whole.map(([prefix, members]) => ({ prefix, queues: members })).sort((a, b) => (a.prefix < b.prefix ? -1 : 1));
  return alone.length > 0 ? [{ prefix: null, queues: alone }, ...told] : told;
}

function prefixOf(name) {
  const at = name.search(DELIMITER);
  return at > 0 ? name.slice(0, at + 1) : null;
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
  const sum = (amount) => living.reduce((total, worker) => total + (amount(worker) ?? 0), 0);
  return { alive: living.length, busy: sum(busySlots), slots: sum((worker) => worker.concurrency) };
}

const RUNNING_TOLD = 32; // tasks of one worker that the server tells at most

/** How many tasks it runs: the records know sooner than the beats do. Null: not told to this viewer. */
export function busySlots({ active, running = [] }) {
  if (active === null || active === undefined) return null;
  return running.length > 0 && running.length < RUNNING_TOLD ? running.length : active;
}

const FOLDED_AFTER = 15 * 60_000; // ms since it has gone

/** Those that have been gone for a while are history: `{shown, folded}`. @param {number} now */
export function foldedWorkers(workers, now) {
  const isFolded = ({ gone_at: at }) => at !== null && at !== undefined && now - Date.parse(at) > FOLDED_AFTER;
  return { shown: workers.filter((worker) => !isFolded(worker)), folded: workers.filter(isFolded) };
}

/** What most of the living run, by name: of two that are as common, the newer. @returns {Map<string, string>} */
export function usualVersions(workers) {
  const counts = new Map();
  for (const { state, versions } of workers) {
    if (state !== "alive" && state !== "silent") continue;
    for (const [name, version] of Object.entries(versions ?? {})) {
      if (!counts.has(name)) counts.set(name, new Map());
      counts.get(name).set(version, (counts.get(name).get(version) ?? 0) + 1);
    }
  }
  const newest = (a, b) => b[1] - a[1] || b[0].localeCompare(a[0], "en", { numeric: true });
  return new Map([...counts].map(([name, versions]) => [name, [...versions].sort(newest)[0][0]]));
}

/** `[name, version]` of what a living worker runs and most do not. @param {Map<string, string>} usual */
export function oddVersions({ state, versions }, usual) {
  if (state !== "alive" && state !== "silent") return [];
  return Object.entries(versions ?? {}).filter(([name, version]) => usual.has(name) && usual.get(name) !== version);
}

/** Seconds that 95 of 100 tasks of a name take at most. @param {object | null} answer of /api/task-types @returns {Map<string, number>} */
export function usualRuntimes(answer) {
  const known = (answer?.types ?? []).filter(({ name, runtime }) => name !== null && runtime !== null);
  return new Map(known.map(({ name, runtime }) => [name, runtime.p95]));
}

/** Seconds that a running task has taken so far. @param {number} now */
export function elapsed({ started_at: at }, now) {
  return at === null ? null : Math.max(0, (now - Date.parse(at)) / 1000);
}

/** Whether a task runs for longer than 95 of 100 of its kind. @param {Map<string, number>} usual seconds by name */
export function isOverdue(task, usual, now) {
  return usual.has(task.name) && elapsed(task, now) > usual.get(task.name);
}

/**
 * When a queue will be empty, going on like this: `{state, seconds}`. The state is "empty", "paused", "still" (nothing
 * ends), "growing", "unknown" (how fast it fills is not), or "emptying", which alone has seconds.
 */
export function timeToEmpty({ waiting, paused, flow }) {
  const state = (word, seconds = null) => ({ state: word, seconds });
  if (waiting === 0) return state("empty");
  if (paused) return state("paused");
  if (flow.finished === 0) return state("still");
  if (flow.arrived === null) return state("unknown");
  if (flow.arrived >= flow.finished) return state("growing");
  return state("emptying", (waiting / (flow.finished - flow.arrived)) * 60);
}
