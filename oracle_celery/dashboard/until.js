/** When a pause ends by itself: the choice of a form as a moment. Pure. */

const MINUTE = 60_000; // ms
const LENGTHS = Object.freeze({ quarter: 15 * MINUTE, hour: 60 * MINUTE });

/**
 * @param {string} choice "", "quarter", "hour" or "time" @param {string} time as in a datetime-local field @param {number} now ms
 * @returns {{until: string | null, problem: "missing" | "past" | null}}
 */
export function untilOf(choice, time, now) {
  if (choice in LENGTHS) return { until: new Date(now + LENGTHS[choice]).toISOString(), problem: null };
  if (choice !== "time") return { until: null, problem: null };
  const moment = new Date(time); // such a text is a local time
  if (Number.isNaN(moment.getTime())) return { until: null, problem: "missing" };
  if (moment.getTime() <= now) return { until: null, problem: "past" };
  return { until: moment.toISOString(), problem: null };
}

/** The earliest a field may offer, as it writes it. @param {number} now ms */
export function localTime(now) {
  const moment = new Date(now);
  return new Date(now - moment.getTimezoneOffset() * MINUTE).toISOString().slice(0, 16);
}
