/**
 * Numbers over time as the page holds them, and what charts are drawn from. Pure.
 *
 * A read replaces what was known of its range; a read that failed leaves it. Between two reads the current bucket moves
 * with the header's numbers, as long as they are of the very minute of the read: what a later minute holds is not known
 * here, and is read again.
 */

export const RANGES = Object.freeze(["1h", "24h", "7d", "30d"]);
export const DEFAULT_RANGE = "24h";
const MINUTE = 60_000; // ms
const HOUR = 60 * MINUTE;

export const NO_STATISTICS = Object.freeze({ range: DEFAULT_RANGE, answers: Object.freeze({}), types: null, error: null, typesError: null });

export const statisticsActions = {
  rangeChosen(statistics, { range }) {
    return RANGES.includes(range) ? { ...statistics, range } : statistics;
  },
  statisticsArrived(statistics, { answer }) {
    return { ...statistics, answers: { ...statistics.answers, [answer.range]: answer }, error: null };
  },
  statisticsFailed(statistics, { error }) {
    return { ...statistics, error };
  },
  taskTypesArrived(statistics, { answer }) {
    return { ...statistics, types: answer, typesError: null };
  },
  taskTypesFailed(statistics, { error }) {
    return { ...statistics, typesError: error };
  },
};

/**
 * The answer with its current bucket as the summary tells it.
 * @param {object | undefined} answer of /api/statistics @param {object | null} summary
 */
export function withSummary(answer, summary) {
  if (!answer || !summary || summary.as_of < answer.as_of) return answer ?? null;
  const moved = { ...answer };
  for (const [series, now] of [["queued", summary.queued], ["active", summary.active]]) {
    if (answer[series] && isKnown(now)) moved[series] = [...answer[series].slice(0, -1), now];
  }
  if (!isOfSameMinute(answer, summary)) return moved;
  for (const [series, now] of [["completed", summary.completed_minute], ["failed", summary.failed_minute]]) {
    const last = answer[series].at(-1) + now - answer.minute[series];
    if (isKnown(now)) moved[series] = [...answer[series].slice(0, -1), Math.max(0, last)];
  }
  return moved;
}

/** Whether the minute of the read is over, so that only another read knows what came after it. */
export function isOutdated(answer, summary) {
  return Boolean(answer && summary && summary.as_of > answer.as_of && !isOfSameMinute(answer, summary));
}

/** The failures among what finished in each bucket, in per cent; null where nothing did. */
export function failureSeries({ completed, failed }) {
  return failed.map((count, at) => (count + completed[at] > 0 ? (100 * count) / (count + completed[at]) : null));
}

/** Where a bucket begins and ends. @returns {[number, number]} ms since the epoch */
export function bucketTimes({ start, seconds }, at) {
  const begin = Date.parse(start) + at * seconds * 1_000;
  return [begin, begin + seconds * 1_000];
}

/** The change of a number against what it was, or null where either is not known. */
export function change(now, before) {
  return isKnown(now) && isKnown(before) ? now - before : null;
}

/** What a gauge was about an hour before the last bucket, or null. @param {(number | null)[] | null} series */
export function anHourAgo(series, seconds) {
  const at = (series?.length ?? 0) - 1 - Math.round(HOUR / 1_000 / seconds);
  return at >= 0 ? series[at] : (series?.[0] ?? null);
}

/** The largest known value, or 0. @param {(number | null)[]} series */
export function peak(series) {
  return series.reduce((largest, value) => (isKnown(value) && value > largest ? value : largest), 0);
}

/**
 * These series from the first bucket of which any of them knows something, so that those of a system that is minutes old
 * fill their place too. All that stand side by side have one start; what is known of one bucket alone is level.
 * @param {((number | null)[] | null)[]} all @returns {((number | null)[] | null)[]}
 */
export function sinceKnown(all) {
  const starts = all.map((series) => series?.findIndex(isKnown) ?? -1).filter((at) => at >= 0);
  const start = Math.min(...starts);
  return all.map((series) => {
    if (series === null || starts.length === 0) return null;
    const known = series.slice(start);
    return known.length === 1 ? [...known, ...known] : known;
  });
}

/**
 * A line of a series that fills `width` × `height`, broken where a value is not known, and the area below it.
 * @param {(number | null)[]} series @returns {{line: string, area: string}} SVG paths
 */
export function sparkPaths(series, { width, height, top = peak(series) }) {
  const step = width / Math.max(1, series.length - 1);
  const place = (value, at) => `${round(at * step)} ${round(top > 0 ? height - (value / top) * height : height)}`;
  const runs = [];
  series.forEach((value, at) => {
    if (!isKnown(value)) return;
    if (at > 0 && isKnown(series[at - 1])) runs.at(-1).push([value, at]);
    else runs.push([[value, at]]);
  });
  const told = runs.map((run) => (run.length > 1 ? run : [run[0], [run[0][0], run[0][1] + 0.5]])); // a value alone is a dash
  const line = told.map((run) => `M${run.map(([value, at]) => place(value, at)).join("L")}`).join("");
  const area = told
    .map((run) => `M${round(run[0][1] * step)} ${height}L${run.map(([value, at]) => place(value, at)).join("L")}L${round(run.at(-1)[1] * step)} ${height}Z`)
    .join("");
  return { line, area };
}

/** Bars from a base line, upward or (negative height) downward: one SVG path. A bar of something is never nothing. */
export function barPath(series, { base, height, gap = 0.2, top = peak(series) }) {
  return series
    .map((value, at) => {
      if (!isKnown(value) || value <= 0) return "";
      const sign = Math.sign(height);
      const length = Math.max(MINIMUM_BAR, (value / top) * Math.abs(height)) * sign;
      return `M${round(at + gap / 2)} ${base}h${1 - gap}v${round(-length)}h${-(1 - gap)}z`;
    })
    .join("");
}

const MINIMUM_BAR = 1.5; // px

/** Round times of the reader's clock for the axis, none where "now" stands. @returns {{at: number, time: number}[]} `at`: part of the width */
export function axisTimes({ range, start, seconds, completed }) {
  const begin = Date.parse(start);
  const length = completed.length * seconds * 1_000;
  const zone = new Date(begin).getTimezoneOffset() * MINUTE;
  const step = AXIS_STEP[range];
  const times = [];
  for (let time = Math.ceil((begin - zone) / step) * step + zone; time < begin + length * AXIS_END; time += step) {
    times.push({ at: (time - begin) / length, time });
  }
  return times;
}

const AXIS_STEP = Object.freeze({ "1h": 10 * MINUTE, "24h": 4 * HOUR, "7d": 24 * HOUR, "30d": 5 * 24 * HOUR });
const AXIS_END = 0.92;

// -- the brush: a part of the range as a term of the query

/** @typedef {{from: number, to: number}} Span buckets, `to` is not in it any more */

/** A span as the value of the term `created:`. An end that is now stays open: the list goes on live. */
export function spanValue(answer, { from, to }) {
  const [begin] = bucketTimes(answer, from);
  const end = to >= answer.completed.length ? "" : iso(bucketTimes(answer, to)[0]);
  return `${iso(begin)}..${end}`;
}

/** The span that the query's `created:` term names, null where there is none, or none that this range shows. */
export function spanOfQuery(query, answer) {
  const terms = (query.terms ?? []).filter(({ field, excludes }) => field === "created" && !excludes);
  if (terms.length !== 1 || terms[0].texts?.length !== 1 || !answer) return null;
  const [low, high] = terms[0].texts[0].split("..");
  if (high === undefined) return null;
  const [begin, end] = [low === "" ? -Infinity : Date.parse(low), high === "" ? Infinity : Date.parse(high)];
  if (Number.isNaN(begin) || Number.isNaN(end)) return null;
  const count = answer.completed.length;
  const place = (time) => (time - Date.parse(answer.start)) / (answer.seconds * 1_000);
  const span = { from: clamp(place(begin), 0, count), to: clamp(place(end), 0, count) };
  return span.to > span.from ? span : null;
}

/** Everything typed but the `created:` terms. */
export function withoutSpan(query) {
  const kept = (query.terms ?? []).filter(({ field }) => field !== "created");
  return [...kept, ...(query.wrong ?? [])].map(({ text }) => text).join(" ");
}

/** The span after one end was moved: whole buckets, at least one. @param {"from" | "to"} end */
export function movedSpan(span, end, at, count) {
  const place = Math.round(at);
  if (end === "from") return { from: clamp(place, 0, Math.ceil(span.to) - 1), to: Math.ceil(span.to) };
  return { from: Math.floor(span.from), to: clamp(place, Math.floor(span.from) + 1, count) };
}

/** The buckets that a drag from one place to another covers, or null for a click. */
export function draggedSpan(begin, end, count) {
  if (Math.abs(end - begin) < 0.5) return null;
  return { from: clamp(Math.floor(Math.min(begin, end)), 0, count - 1), to: clamp(Math.ceil(Math.max(begin, end)), 1, count) };
}

function isOfSameMinute(answer, summary) {
  return Math.floor(Date.parse(answer.as_of) / MINUTE) === Math.floor(Date.parse(summary.as_of) / MINUTE);
}

function isKnown(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function iso(time) {
  return new Date(time).toISOString().replace(/\.000Z$/, "Z");
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

function round(value) {
  return Math.round(value * 100) / 100;
}
