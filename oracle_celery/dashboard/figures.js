/**
 * Reads numbers over time on their own cadence, while somebody looks: the last 24 hours for the header, the range that is
 * chosen for the chart, task types where they are shown or measured by, and how queues filled. The minute's end is read at once: what came after the last
 * read in it is known to nobody else.
 */

import { getQueueStatistics, getStatistics, getTaskTypes } from "./api.js";
import { seesEverything } from "./session.js";
import { DEFAULT_RANGE, isOutdated } from "./statistics.js";

const INTERVAL = 15_000; // ms between two reads of the same
const MINUTE_END = 2_000; // ms: no more often, however fast minutes end
const LOOK = 1_000; // ms
const USUAL_INTERVAL = 300_000; // ms: how long tasks usually run, for the gauges of rows that run

/** @param {{dispatch: Function, state: () => object}} page */
export function Figures({ dispatch, state }) {
  const readAt = new Map();
  const reading = new Set();

  setInterval(look, LOOK);

  /** Somebody is in, or came to another page: what it shows is read. */
  function look() {
    const { session, route, statistics, summary } = state();
    if (document.hidden || session.phase !== "in") return;
    if (route.page === "types" || route.page === "workers") readDue("types", () => getTaskTypes(), "taskTypes");
    if (route.page === "queues" && seesEverything(state())) readDue("queues", () => getQueueStatistics("1h"), "queueTrends");
    if (route.page !== "tasks") return;
    const { rows, window, tasks } = state();
    const isAnyRunning = rows.slice(window.first, window.last).some((id) => tasks.get(id)?.status === "in_progress");
    if (isAnyRunning) readDue("types", () => getTaskTypes(), "taskTypes", USUAL_INTERVAL);
    for (const range of new Set([DEFAULT_RANGE, statistics.range])) {
      const interval = isOutdated(statistics.answers[range], summary) ? MINUTE_END : INTERVAL;
      readDue(range, () => getStatistics(range), "statistics", interval);
    }
  }

  /** What was read is for nobody any more. */
  function forget() {
    readAt.clear();
  }

  async function readDue(key, ask, name, interval = INTERVAL) {
    const { viewer } = state().session;
    if (reading.has(key) || performance.now() - (readAt.get(key) ?? -Infinity) < interval) return;
    reading.add(key);
    readAt.set(key, performance.now());
    try {
      const answer = await ask();
      if (state().session.viewer === viewer) dispatch({ type: `${name}Arrived`, answer });
    } catch (error) {
      if (state().session.viewer === viewer) dispatch({ type: `${name}Failed`, error });
    } finally {
      reading.delete(key);
    }
  }

  return { look, forget };
}
