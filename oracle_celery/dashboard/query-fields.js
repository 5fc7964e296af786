/**
 * The fields of the query language and the kinds of their values: the one place where a field is added in JavaScript.
 *
 * Pure. The twin of `database/query_fields.py` and `query_kinds.py`, held together with them by one table of cases
 * (`tests/query_cases.json`). A kind reads one alternative (`read`, throws `Misread`) and tests it on a task (`meets`).
 * Moments are whole microseconds since the epoch, exact as the server's. What a row does not carry is `undecided()`:
 * then nobody but the server can say whether a new task matches. What time alone may make true or false says so
 * (`isOfNow`): no fact will tell of it.
 */

export const STATUSES = Object.freeze(["pending", "in_progress", "completed", "failed", "cancelled"]);

/** The field of a word without one. */
export const BARE = "";

const LARGEST_COUNT = 2 ** 31 - 1;
const [FIRST_YEAR, LAST_YEAR] = [1970, 9998];
const SECOND = 1_000_000; // microseconds
const UNITS = Object.freeze({ ms: 0.001, s: 1, m: 60, h: 3_600, d: 86_400 }); // seconds
const LONGEST = 36_500 * UNITS.d;
const DURATION = /^(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)?$/;
const COUNT = /^\d{1,10}$/;
const MOMENT =
  /^(\d{4})-(\d{2})-(\d{2})(?:T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?(?:(Z)|([+-])(\d{2}):(\d{2}))?)?$/;
const TRACE_ID = /^[0-9a-f]{32}$/;
const COMPARISON = /^(>=|<=|>|<)(.*)$/s;

/** A value that is none of its kind; the code is the server's too, and `query.wrong.<code>` what to say. */
export class Misread extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

export const FIELDS = Object.freeze({
  [BARE]: word(),
  id: beginning((task) => task.task_id),
  name: text((task) => task.name),
  status: choice(Object.fromEntries(STATUSES.map((status) => [status, (task) => task.status === status]))),
  user: text((task) => task.user_id),
  queue: text((task) => task.queue),
  worker: text((task) => task.worker),
  reason: text((task) => task.reason),
  error: text((task) => task.error_type),
  trace: text((task) => task.trace_id),
  correlation: text((task) => task.correlation_id),
  fingerprint: undecided(),
  runtime: duration(runtime),
  wait: duration(wait),
  retries: count((task) => task.retries),
  created: moment((task) => micros(task.created_at)),
  finished: moment((task) => micros(task.finished_at)),
  since: edge((task) => micros(task.created_at), { isEnd: false }),
  until: edge((task) => micros(task.created_at), { isEnd: true }),
  /** What is usual, the server knows; a row can only say whether it may be so at all. */
  is: undecided({
    stuck: (task) => task.status === "in_progress" || task.status === "pending",
    slow: (task) => ["in_progress", "completed", "failed"].includes(task.status),
  }),
  has: choice({
    error: (task) => isThere(task.error_type),
    user: (task) => isThere(task.user_id),
    worker: (task) => isThere(task.worker),
    trace: (task) => isThere(task.trace_id),
    parent: (task) => isThere(task.parent_id),
  }),
});

/** One of a few words, each with its test. */
export function choice(tests) {
  return {
    narrows: false,
    words: Object.keys(tests),
    read(given) {
      const found = given.toLowerCase();
      if (!Object.hasOwn(tests, found)) throw new Misread("choice");
      return found;
    },
    meets: (value, task) => tests[value](task),
  };
}

/** What rows cannot tell; without `tests` any text, which any task may meet. */
export function undecided(tests = null) {
  const kind = tests === null ? { narrows: false, read: (given) => given, meets: () => true } : choice(tests);
  return { ...kind, isUndecided: true };
}

/** A text as it is; an asterisk stands for any characters. */
export function text(of) {
  return {
    narrows: false,
    read: (given) => given,
    meets: (wanted, task) => isThere(of(task)) && isLike(wanted, of(task)),
  };
}

function beginning(of) {
  return {
    narrows: false,
    read: (given) => given.replace(/\*+$/, "") || "*",
    meets: (wanted, task) => begins(of(task), wanted),
  };
}

/**
 * The beginning of an id or a part of a name; with an asterisk one of them as a whole. What has the form of a trace's id
 * is no name's part.
 */
function word() {
  return {
    narrows: true,
    read: (given) => given,
    meets(wanted, task) {
      const name = task.name ?? null;
      if (wanted.includes("*")) return isLike(wanted, task.task_id) || (name !== null && isLike(wanted, name));
      if (TRACE_ID.test(wanted)) return task.task_id.startsWith(wanted) || task.trace_id === wanted;
      return task.task_id.startsWith(wanted) || (name !== null && name.includes(wanted));
    },
  };
}

/** Of what goes on still, it grows. */
function duration(of) {
  return { ...numbers(of, seconds, "duration", { mayBeExact: false }), isOfNow: () => true };
}

function count(of) {
  const whole = (given) => (COUNT.test(given) && Number(given) <= LARGEST_COUNT ? Number(given) : null);
  return numbers(of, whole, "count", { mayBeExact: true });
}

function numbers(of, number, code, { mayBeExact }) {
  function required(given) {
    const found = number(given);
    if (found === null) throw new Misread(code);
    return found;
  }
  return {
    narrows: true,
    read(given) {
      const compared = COMPARISON.exec(given);
      if (compared) return { [compared[1]]: required(compared[2]) };
      if (!given.includes("..")) {
        if (!mayBeExact) throw new Misread(code);
        return { ">=": required(given), "<=": required(given) };
      }
      const [first, last] = parted(given);
      if (first === "" && last === "") throw new Misread(code);
      return { ...(first && { ">=": required(first) }), ...(last && { "<=": required(last) }) };
    },
    meets(wanted, task, now) {
      const value = of(task, now);
      if (!isThere(value)) return false;
      return Object.entries(wanted).every(([sign, limit]) => COMPARE[sign](value, limit));
    },
  };
}

const COMPARE = Object.freeze({
  ">": (value, limit) => value > limit,
  ">=": (value, limit) => value >= limit,
  "<": (value, limit) => value < limit,
  "<=": (value, limit) => value <= limit,
});

/** A moment, or those between two. What is told to the day or the minute means all of it; without an offset: UTC. */
function moment(of) {
  return {
    narrows: true,
    read(given) {
      const compared = COMPARISON.exec(given);
      if (compared) {
        const { start, end } = instant(compared[2]);
        return { ">": { start: end }, ">=": { start }, "<": { end: start }, "<=": { end } }[compared[1]];
      }
      if (!given.includes("..")) return instant(given);
      const [first, last] = parted(given);
      if (first === "" && last === "") throw new Misread("moment");
      return { ...(first && { start: instant(first).start }), ...(last && { end: instant(last).end }) };
    },
    meets: (wanted, task, now) => isWithin(of(task), wanted, now),
    isOfNow: isRelative,
  };
}

/** From a moment on, or up to it: how long ago, or the moment itself. */
function edge(of, { isEnd }) {
  return {
    narrows: true,
    read(given) {
      const ago = /\d$/.test(given) ? null : seconds(given);
      const { start, end } = ago === null ? instant(given) : { start: { ago }, end: { ago } };
      return isEnd ? { end } : { start };
    },
    meets: (wanted, task, now) => isWithin(of(task), wanted, now),
    isOfNow: isRelative,
  };
}

function isRelative(limits) {
  return Object.values(limits).some((limit) => typeof limit === "object");
}

function isWithin(value, { start = null, end = null }, now) {
  if (!isThere(value)) return false;
  return (start === null || value >= resolved(start, now)) && (end === null || value < resolved(end, now));
}

/** @param {number | {ago: number}} limit @param {number} now milliseconds */
function resolved(limit, now) {
  return typeof limit === "number" ? limit : now * 1_000 - limit.ago * SECOND;
}

/** From where to before where a moment is. @returns {{start: number | {ago: number}, end: number | {ago: number}}} */
function instant(given) {
  if (given === "now") return { start: { ago: 0 }, end: { ago: 0 } };
  const found = MOMENT.exec(given);
  if (found === null) throw new Misread("moment");
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map((part) => Number(part ?? 0));
  const [offsetHours, offsetMinutes] = [Number(found[10] ?? 0), Number(found[11] ?? 0)];
  const isDay = month >= 1 && month <= 12 && day >= 1 && day <= new Date(Date.UTC(year, month, 0)).getUTCDate();
  const isTime = hour < 24 && minute < 60 && second < 60 && offsetHours < 24 && offsetMinutes < 60;
  if (year < FIRST_YEAR || year > LAST_YEAR || !isDay || !isTime) throw new Misread("moment");
  const offset = (found[9] === "-" ? -1 : 1) * (offsetHours * 60 + offsetMinutes); // minutes
  const start =
    Date.UTC(year, month - 1, day, hour, minute - offset, second) * 1_000 + Number((found[7] ?? "").padEnd(6, "0"));
  if (found[7] !== undefined) return { start, end: start + 1 };
  if (found[6] !== undefined) return { start, end: start + SECOND };
  return { start, end: start + (found[4] === undefined ? UNITS.d : UNITS.m) * SECOND };
}

function seconds(given) {
  const found = DURATION.exec(given);
  if (found === null) return null;
  const value = Number(found[1]) * UNITS[found[2] ?? "s"];
  return value <= LONGEST ? value : null;
}

function runtime(task, now) {
  if (isThere(task.runtime)) return task.runtime;
  return task.status === "in_progress" && isThere(task.started_at) ? since(task.started_at, now) : null;
}

function wait(task, now) {
  if (task.status === "pending") return since(task.created_at, now);
  const start = task.started_at ?? task.finished_at;
  return isThere(start) ? (micros(start) - micros(task.created_at)) / SECOND : null;
}

function since(iso, now) {
  return now / 1_000 - micros(iso) / SECOND;
}

/** @param {string} iso as the server writes it, to the microsecond */
function micros(iso) {
  if (!isThere(iso)) return null;
  const fraction = /\.(\d+)/.exec(iso)?.[1] ?? "";
  return Date.parse(iso.replace(/\.\d+/, "")) * 1_000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}

function parted(given) {
  const at = given.indexOf("..");
  return [given.slice(0, at), given.slice(at + 2)];
}

function begins(value, wanted) {
  return wanted.includes("*") ? isLike(`${wanted}*`, value) : value.startsWith(wanted);
}

/** A star stands for any characters, everything else for itself. */
function isLike(wanted, value) {
  const parts = wanted.split("*");
  if (parts.length === 1) return wanted === value;
  const [head, tail] = [parts[0], parts.at(-1)];
  if (value.length < head.length + tail.length || !value.startsWith(head) || !value.endsWith(tail)) return false;
  let from = head.length;
  for (const part of parts.slice(1, -1)) {
    const at = value.indexOf(part, from);
    if (at < 0) return false;
    from = at + part.length;
  }
  return from <= value.length - tail.length;
}

function isThere(value) {
  return value !== null && value !== undefined;
}
