/**
 * The log of the opened task, as far as this page holds it, and how it changes. Pure.
 *
 * Lines keep the order in which they came; one that comes again (after a reconnect) is dropped by its id. What is held is
 * bounded: while somebody follows, the oldest go and can be loaded again; while somebody reads, nothing goes, and what
 * is beyond the bound is counted and read when they follow again.
 */

export const LINES_LIMIT = 3_000;
/** A reader's lines may become so many before new ones are only counted. */
const READING_LIMIT = 2 * LINES_LIMIT;

export const NO_LOG = Object.freeze({
  taskId: null,
  /** "none", "loading", "ready" or "failed". */
  phase: "none",
  request: 0,
  /** As the API tells them; without a message: a word about lines that were not kept. */
  lines: Object.freeze([]),
  /** {run_id, attempt, lines, numbers, reasons}: of the numbers that a run has given, so many lines are there. */
  runs: Object.freeze([]),
  /** From where earlier lines are loaded; null: all are here. */
  previous: null,
  deletedUntil: null, // lines of before may be missing
  /** "idle", "loading" or "failed". */
  earlier: "idle",
  /** Only lines of this run, and of this level or above. */
  run: null,
  level: 0,
  isFollowed: true,
  /** Lines that came since nobody follows, and whether some of them are not held. */
  news: 0,
  isCut: false,
  isLive: false,
  error: null,
});

export const logActions = {
  logOpened(log, { taskId }) {
    return { ...NO_LOG, taskId, request: log.request };
  },
  logRequested(log, { request, run = log.run, level = log.level }) {
    const isOther = run !== log.run || level !== log.level;
    return { ...log, phase: "loading", request, run, level, error: null, ...(isOther ? { lines: [], previous: null } : {}) };
  },
  logArrived(log, { request, page }) {
    if (request !== log.request) return log;
    const runs = page.runs.map(({ not_kept, ...run }) => ({ ...run, numbers: run.lines + not_kept }));
    const now = { phase: "ready", lines: page.lines, runs, previous: page.previous, deletedUntil: page.lines_deleted_until ?? null, earlier: "idle" };
    return { ...log, ...now, isFollowed: true, news: 0, isCut: false };
  },
  logFailed(log, { request, error }) {
    return request === log.request ? { ...log, phase: "failed", error } : log;
  },
  logEarlierRequested(log) {
    return { ...log, earlier: "loading" };
  },
  logEarlierArrived(log, { request, page }) {
    if (request !== log.request) return log;
    const known = new Set(log.lines.map((line) => line.line_id));
    const lines = [...page.lines.filter((line) => !known.has(line.line_id)), ...log.lines];
    return { ...log, lines, previous: page.previous, earlier: "idle", isFollowed: false };
  },
  logEarlierFailed(log, { request }) {
    return request === log.request ? { ...log, earlier: "failed" } : log;
  },
  logLinesArrived(log, { taskId, lines }) {
    return taskId === log.taskId && log.phase === "ready" ? withLines(log, lines) : log;
  },
  logFollowed(log, { isFollowed }) {
    if (isFollowed === log.isFollowed) return log;
    return trimmed({ ...log, isFollowed, news: 0 });
  },
  logLive(log, { isLive }) {
    return isLive === log.isLive ? log : { ...log, isLive };
  },
};

/** @returns {number} lines that were logged and are nowhere, of one run or of all */
export function notKept(log) {
  const runs = log.runs.filter((run) => log.run === null || run.run_id === log.run);
  return runs.reduce((sum, run) => sum + Math.max(0, run.numbers - run.lines), 0);
}

/** @returns {number | null} which attempt a run is */
export function attemptOf(log, runId) {
  return log.runs.find((run) => run.run_id === runId)?.attempt ?? null;
}

/**
 * What is to be drawn: `{key, kind: "line", line}`, `{key, kind: "gap", count, reason}` for lines that are not there, and
 * `{key, kind: "attempt", attempt}` where another run begins to speak. A gap is told only where nothing is filtered.
 */
export function logRows(log) {
  const rows = [];
  const expected = new Map();
  let runId = null;
  for (const line of log.lines) {
    if (line.run_id !== runId) {
      runId = line.run_id;
      const attempt = attemptOf(log, runId);
      if (log.runs.length > 1 && log.run === null && attempt !== null) rows.push({ key: `a${line.line_id}`, kind: "attempt", attempt });
    }
    const next = expected.get(line.run_id) ?? (log.previous === null ? 0 : null);
    const isWord = line.message === null;
    const missing = next === null || log.level > 0 ? 0 : line.number - next + (isWord ? 1 : 0);
    expected.set(line.run_id, Math.max(next ?? 0, line.number + 1));
    if (missing > 0) {
      const last = rows.at(-1);
      const reason = isWord ? line.logger : null;
      if (last?.kind === "gap") rows[rows.length - 1] = { ...last, count: last.count + missing, reason: last.reason ?? reason };
      else rows.push({ key: `g${line.line_id}`, kind: "gap", count: missing, reason });
    }
    if (!isWord) rows.push({ key: String(line.line_id), kind: "line", line });
  }
  return rows;
}

/** Colours and cursor movements of a terminal are no words. */
export function plainText(message) {
  return message.replace(/\u001b\[[0-9;?]*[ -/]*[@-~]/g, "");
}

/** The places of a sought text, whatever the case. @returns {{text: string, isMatch: boolean}[]} */
export function matchParts(text, sought) {
  if (sought === "") return [{ text, isMatch: false }];
  const parts = [];
  const pattern = new RegExp(sought.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu");
  let from = 0;
  for (const { 0: found, index } of text.matchAll(pattern)) {
    if (index > from) parts.push({ text: text.slice(from, index), isMatch: false });
    parts.push({ text: found, isMatch: true });
    from = index + found.length;
  }
  if (from < text.length || parts.length === 0) parts.push({ text: text.slice(from), isMatch: false });
  return parts;
}

function withLines(log, arrived) {
  const known = new Set(log.lines.map((line) => line.line_id));
  const fresh = arrived.filter((line) => !known.has(line.line_id));
  if (fresh.length === 0) return log;
  const runs = fresh.reduce(withNumber, log.runs);
  const wanted = fresh.filter((line) => isWanted(log, line));
  const spoken = wanted.filter((line) => line.message !== null).length;
  const news = log.isFollowed ? 0 : log.news + spoken;
  const isCut = log.isCut || (!log.isFollowed && log.lines.length + wanted.length > READING_LIMIT);
  return trimmed({ ...log, runs, news, isCut, lines: isCut ? log.lines : [...log.lines, ...wanted] });
}

function isWanted(log, line) {
  return (log.run === null || line.run_id === log.run) && (line.message === null || line.level >= log.level);
}

function withNumber(runs, line) {
  const at = runs.findIndex((run) => run.run_id === line.run_id);
  const run = runs[at] ?? { run_id: line.run_id, attempt: (runs.at(-1)?.attempt ?? 0) + 1, lines: 0, numbers: 0, reasons: [] };
  const next = {
    ...run,
    lines: run.lines + (line.message === null ? 0 : 1),
    numbers: Math.max(run.numbers, line.number + 1),
    reasons: line.message === null && !run.reasons.includes(line.logger) ? [...run.reasons, line.logger] : run.reasons,
  };
  return at < 0 ? [...runs, next] : runs.with(at, next);
}

function trimmed(log) {
  if (!log.isFollowed || log.lines.length <= LINES_LIMIT) return log;
  const lines = log.lines.slice(-LINES_LIMIT);
  return { ...log, lines, previous: lines[0].line_id };
}
