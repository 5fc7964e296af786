/**
 * The attempts of a task, told from its history. Pure.
 *
 * An attempt is one run: one worker had the message once. Two runs may share a number of retries: a message that was
 * delivered again, or two workers at it at once. Facts of no run (it was sent, a retry was scheduled) are no attempts.
 */

const FINAL = new Set(["completed", "failed", "cancelled"]);

/** Reasons for which a run gives its message back; everything else that is pending comes before the start. */
const GIVEN_BACK = new Set(["retry_scheduled", "requeued", "connection_lost", "replaced", "queue_paused", "worker_stopped"]);

/**
 * Newest first: `{key, number, worker, origin, receivedAt, startedAt, endedAt, seconds, outcome, reason, errorType,
 * errorMessage, isAgain, isDouble}`. The outcome is a status, "retried" (it failed, and the task goes on), "given_back",
 * or "held": not started yet. `isAgain`: the same attempt was under way before; `isDouble`: and had not ended.
 * @param {object[]} entries as the API tells a task's history
 */
export function attemptsOf(entries) {
  const runs = new Map();
  for (const entry of entries) {
    if (entry.run_id === null) continue;
    if (!runs.has(entry.run_id)) runs.set(entry.run_id, []);
    runs.get(entry.run_id).push(entry);
  }
  const attempts = [...runs].map(([key, facts]) => attemptOf(key, facts));
  attempts.forEach((attempt, at) => compare(attempt, attempts.slice(0, at)));
  return attempts.reverse();
}

/** What is worth a section of its own: more than the one attempt that the facts and the history tell already. */
export function isRepeated(attempts) {
  return attempts.length > 1;
}

function attemptOf(key, facts) {
  const started = facts.find((fact) => fact.status === "in_progress");
  const end = facts.findLast((fact) => FINAL.has(fact.status) || (fact.status === "pending" && isGivenBack(fact, started)));
  const told = end ?? facts.at(-1);
  return {
    key,
    number: facts[0].retries + 1,
    worker: told.worker ?? facts[0].worker,
    origin: (end ?? started ?? told).origin,
    receivedAt: facts.find((fact) => fact.status === "pending" && fact !== end)?.at ?? null,
    startedAt: started?.at ?? null,
    endedAt: end?.at ?? null,
    seconds: started && end ? (Date.parse(end.at) - Date.parse(started.at)) / 1000 : null,
    outcome: outcomeOf(started, end),
    reason: told.reason,
    errorType: end?.error_type ?? null,
    errorMessage: end?.error_message ?? null,
    isAgain: facts.some((fact) => fact.reason === "redelivered"),
    isDouble: false,
  };
}

function isGivenBack(fact, started) {
  return GIVEN_BACK.has(fact.reason) || (started !== undefined && fact.at > started.at);
}

function outcomeOf(started, end) {
  if (end === undefined) return started === undefined ? "held" : "in_progress";
  if (FINAL.has(end.status)) return end.status;
  return end.reason === "retry_scheduled" ? "retried" : "given_back";
}

function compare(attempt, earlier) {
  const same = earlier.filter((other) => other.number === attempt.number && other.outcome !== "given_back");
  if (same.length === 0) return;
  attempt.isAgain = true;
  const from = attempt.startedAt;
  attempt.isDouble = from !== null && same.some((other) => other.startedAt !== null && (other.endedAt === null || other.endedAt > from));
}
