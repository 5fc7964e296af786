/**
 * Everything the page knows, and how it changes: `reduce(state, action)` returns the next state and touches nothing.
 *
 * Facts arrive late, twice and in any order, from the list and from the stream. A task is replaced only by a newer
 * version of itself, so the outcome is the same whatever the order. Rows under a reader's eyes never move: what is new
 * waits in `waiting` until the reader looks up or asks for it, what no longer matches stays until then.
 */

import { NO_AUDIT, auditActions } from "./audit.js";
import { NO_BULK, bulkActions } from "./bulk.js";
import { NO_COUNTS, countActions } from "./counts.js";
import { USUAL_COLUMNS } from "./columns.js";
import { commandActions } from "./commands.js";
import { NO_FAILURES, failureActions } from "./failures.js";
import { NO_FLEET, fleetActions } from "./fleet.js";
import { NO_LOG, logActions } from "./log-lines.js";
import { WAITING_LIMIT, belongs, goingOn, isBeyond, merged, withNews } from "./placing.js";
import { DEFAULT_QUERY, NEWEST_FIRST, isFiltered, isLive, matches } from "./query.js";
import { NO_PROGRESS, progressActions } from "./progress.js";
import { REACH_LIMIT, appended, inReach, isNear, placesOf, shortened } from "./rows.js";
import { NOTHING_SELECTED, selectionActions } from "./selection.js";
import { NO_SCHEDULE, scheduleActions } from "./schedule.js";
import { NO_SESSION, sessionActions } from "./session.js";
import { NO_STATISTICS, statisticsActions } from "./statistics.js";
import { compareVersions, mergeTask } from "./versions.js";

export { WAITING_LIMIT } from "./placing.js";
export { compareVersions, mergeTask } from "./versions.js";

export const initialState = Object.freeze({
  session: NO_SESSION,
  query: DEFAULT_QUERY,
  /** The chosen columns of the list. */
  columns: USUAL_COLUMNS,
  /** Ids in the order shown. */
  rows: Object.freeze([]),
  /** The places of the rows in sight: from `first` up to, not including, `last`. */
  window: Object.freeze({ first: 0, last: 0 }),
  /** Ids of matching tasks that are not shown yet. */
  waiting: new Set(),
  /** Ids whose rows appeared live: they are tinted once. */
  fresh: new Set(),
  /** Newest known version of every task near the rows in sight, in waiting, or opened. */
  tasks: new Map(),
  list: Object.freeze({
    phase: "loading",
    request: 0,
    /** Milliseconds, by the browser's clock. */
    askedAt: 0,
    /** What the rows are an answer to; null before the first. */
    query: null,
    nextPage: null,
    /** Something has come that belongs after the end, since the next page was asked for. */
    hasMore: false,
    isAtReach: false,
    older: "idle",
    error: null,
    arrivals: null,
    /** Rows were kept for a reader though the server has been asked since: it is asked again when nobody reads. */
    isOutdated: false,
    /** More is new than waits. */
    isMoreNew: false,
  }),
  reading: false,
  /** Milliseconds that the server's clock is ahead of the browser's. */
  clockSkew: 0,
  summary: null,
  /** "connecting", "live", "reconnecting" or "deaf"; the cause is the same word, or "server" where that is deaf. */
  connection: "connecting",
  cause: "connecting",
  opened: null,
  detail: Object.freeze({ phase: "none", task: null, history: [], control: null, waiting: null, lineage: null, traceUrl: null, similar: null, audit: [], historyDeletedUntil: null, error: null }),
  route: Object.freeze({ page: "tasks", id: null, parameters: Object.freeze({}) }),
  selection: NOTHING_SELECTED,
  commands: new Map(),
  failures: NO_FAILURES,
  fleet: NO_FLEET,
  bulk: NO_BULK,
  audit: NO_AUDIT,
  schedule: NO_SCHEDULE,
  statistics: NO_STATISTICS,
  counts: NO_COUNTS,
  log: NO_LOG,
  progress: NO_PROGRESS,
});

/** Parts of the state that change by themselves, each in its own module. */
const PARTS = Object.entries({
  session: sessionActions,
  selection: selectionActions,
  commands: commandActions,
  failures: failureActions,
  fleet: fleetActions,
  bulk: bulkActions,
  audit: auditActions,
  schedule: scheduleActions,
  statistics: statisticsActions,
  counts: countActions,
  log: logActions,
  progress: progressActions,
});

export function reduce(state, action) {
  switch (action.type) {
    case "queryChanged":
      if (isSameList(state.query, action.query)) return { ...state, query: action.query };
      return { ...state, query: action.query, waiting: new Set(), fresh: new Set(), selection: NOTHING_SELECTED };
    case "columnsChosen":
      return { ...state, columns: action.columns };
    case "routeChanged":
      return { ...state, route: action.route };
    case "listRequested":
      return { ...state, list: { ...state.list, phase: "loading", request: action.request, askedAt: Date.now(), arrivals: new Set() } };
    case "listArrived":
      if (action.request !== state.list.request) return state;
      return action.mayWait && isHeld(state) ? pruned(withNews(state, action)) : withList(state, action.page);
    case "listFailed":
      if (action.request !== state.list.request) return state;
      return withFailure(action.isLost ? withoutRows(state) : state, action.error);
    case "olderRequested":
      return { ...state, list: { ...state.list, older: "loading" } };
    case "olderArrived":
      return isAnswered(state, action) ? withOlder(state, action.page) : state;
    case "olderFailed":
      return isAnswered(state, action) ? { ...state, list: { ...state.list, older: "failed" } } : state;
    case "windowMoved":
      return pruned({ ...state, window: { first: action.first, last: action.last } });
    case "rowsArrived":
      return withRows(state, action.tasks);
    case "factsArrived":
      return withFacts(state, action.facts);
    case "readingChanged":
      return action.reading ? { ...state, reading: true } : settled({ ...state, reading: false });
    case "newShown":
      return { ...settled({ ...state, reading: false }), reading: state.reading };
    case "summaryArrived":
      return { ...state, summary: action.summary, clockSkew: action.clockSkew ?? state.clockSkew };
    case "connectionChanged":
      return { ...state, connection: action.connection, cause: action.cause };
    case "taskOpened":
      return opened(state, action.taskId);
    case "detailArrived":
      return action.detail.task.task_id === state.opened ? withDetail(state, action.detail) : state;
    case "detailFailed":
      if (action.taskId !== state.opened) return state;
      return { ...state, detail: { ...state.detail, phase: "failed", error: action.error } };
    case "sessionOpened":
    case "sessionEnded":
      return withPart(withoutContent(state), action);
    default:
      return withPart(state, action);
  }
}

/** Whether showing what waits needs the server: too many wait, only the server knows their places, or the list's top has been let go. */
export function needsServerToShow({ query, waiting, rows, tasks, list }) {
  if (query.sort !== NEWEST_FIRST || list.isOutdated) return true;
  return waiting.size >= WAITING_LIMIT || (rows.length > 0 && !tasks.has(rows[0]));
}

/** Whether more waits than is kept and nobody reads, so that the list should be asked for anew. */
export function isOvergrown(state) {
  if (state.reading || state.list.phase !== "ready" || state.query.sort !== NEWEST_FIRST) return false;
  return state.waiting.size >= WAITING_LIMIT;
}

/** Why the list is empty: "nothing" (there are no tasks), "filtered" (the filters hide all), or null: it is not. */
export function emptiness(state) {
  if (state.rows.length > 0 || state.list.phase === "failed" || isFirstLoad(state)) return null;
  return isFiltered(state.query) ? "filtered" : "nothing";
}

/** Whether nothing is there because nothing has come yet. */
export function isFirstLoad({ list, query, rows }) {
  return list.phase === "loading" && rows.length === 0 && !isOf(list, query);
}

/** Nothing that one viewer has read is there for the next one; where the page was, is. */
function withoutContent({ session, query, columns, route, reading, clockSkew, connection, cause }) {
  return { ...initialState, session, query, columns, route, reading, clockSkew, connection, cause };
}

function withPart(state, action) {
  const [part, actions] = PARTS.find(([, known]) => Object.hasOwn(known, action.type)) ?? [];
  if (part === undefined) throw new Error(`No such action: ${action.type}`);
  return { ...state, [part]: actions[action.type](state[part], action, state) };
}

function withList(state, page) {
  const tasks = new Map(state.tasks);
  for (const task of page.tasks) tasks.set(task.task_id, mergeTask(tasks.get(task.task_id), task));
  const rows = page.tasks.map((task) => task.task_id);
  const listed = new Set(rows);
  const list = {
    ...initialState.list,
    phase: "ready",
    request: state.list.request,
    askedAt: state.list.askedAt,
    query: state.query,
    nextPage: page.next_page,
  };
  const window = inReach(state.window, rows);
  const next = { ...state, tasks, rows, window, list, waiting: new Set(), fresh: new Set() };
  // Facts that came while the answer was under way may be missing from it: they are placed as if they came now. What the
  // server has just found is not judged again by our guess of its clock.
  const { arrivals } = state.list;
  const late = [...arrivals].filter((id) => !listed.has(id) && tasks.has(id) && isMatching(next, tasks.get(id)));
  return pruned(settledOrWaiting(next, late, arrivals));
}

function withFailure(state, error) {
  return { ...state, list: { ...state.list, phase: "failed", error, arrivals: null } };
}

/** There is a gap before the stream, and no list to close it: what is shown may be old, and nobody would ever say so. */
function withoutRows(state) {
  const list = { ...state.list, nextPage: null };
  return pruned({ ...state, rows: [], window: inReach(state.window, []), list, waiting: new Set(), fresh: new Set() });
}

/** Whether rows are there that somebody reads, and that the answer to the same question must not move. */
function isHeld({ list, query, rows, reading }) {
  return reading && rows.length > 0 && isOf(list, query);
}

function isOf(list, query) {
  return list.query !== null && isSameList(list.query, query);
}

/** Whether an answer continues the list as it is: it may have been asked for anew, or cut, since. */
function isAnswered({ list }, { request, after = list.nextPage }) {
  return request === list.request && after === list.nextPage;
}

function withOlder(state, page) {
  const tasks = new Map(state.tasks);
  const waiting = new Set(state.waiting);
  for (const task of page.tasks) {
    tasks.set(task.task_id, mergeTask(tasks.get(task.task_id), task));
    waiting.delete(task.task_id);
  }
  const rows = appended(state.rows, page.tasks.map((task) => task.task_id));
  const isLast = page.next_page === null;
  const isAtReach = !isLast && rows.length >= REACH_LIMIT;
  const list = { ...state.list, nextPage: isAtReach ? null : page.next_page, isAtReach, older: "idle", hasMore: false };
  const next = { ...state, tasks, rows, waiting, list };
  return pruned(isLast && state.list.hasMore ? { ...next, list: goingOn(next) } : next);
}

/** Tasks of rows that had been let go. */
function withRows(state, arrived) {
  const places = placesOf(state.rows);
  const tasks = new Map(state.tasks);
  for (const task of arrived) {
    if (places.has(task.task_id)) tasks.set(task.task_id, withoutPayload(mergeTask(tasks.get(task.task_id), task)));
  }
  return pruned({ ...state, tasks });
}

function withFacts(state, facts) {
  const places = placesOf(state.rows);
  const tasks = new Map(state.tasks);
  const waiting = new Set(state.waiting);
  const arrivals = state.list.arrivals && new Set(state.list.arrivals);
  const newcomers = new Set();
  const touched = new Set();
  for (const { task } of facts) {
    const id = task.task_id;
    const newest = mergeTask(tasks.get(id), task);
    tasks.set(id, newest);
    arrivals?.add(id);
    if (places.has(id)) {
      touched.add(id);
    } else if (isMatching(state, newest)) {
      newcomers.add(id);
    } else {
      newcomers.delete(id);
      waiting.delete(id);
    }
  }
  const detail = state.opened && tasks.has(state.opened) ? refreshed(state.detail, tasks.get(state.opened)) : state.detail;
  const next = { ...state, tasks, detail, waiting, list: { ...state.list, arrivals } };
  return pruned(settledOrWaiting(next, [...newcomers], touched));
}

/** The opened task's row moves on at once; its history and result follow when they have been read. */
function refreshed(detail, task) {
  if (detail.task === null || compareVersions(detail.task.version, task.version) > 0) return detail;
  return { ...detail, task: { ...detail.task, ...task } };
}

function settledOrWaiting(state, newcomers, touched = null) {
  // What only the server can judge comes with the next answer of the server.
  const judged = isLive(state.query) ? newcomers : [];
  const list = judged.some((id) => isBeyond(state, state.tasks.get(id))) ? goingOn(state) : state.list;
  const placeable = judged.filter((id) => belongs(state, state.tasks.get(id)));
  if (placeable.length === 0 && list === state.list && state.reading) return state;
  const waiting = new Set(state.waiting);
  for (const id of placeable) if (waiting.size < WAITING_LIMIT) waiting.add(id);
  const next = { ...state, waiting, list };
  return state.reading ? next : settled(next, touched);
}

/** Whether only words that were not understood tell two queries apart. */
function isSameList(query, other) {
  return query.q === other.q && query.sort === other.sort;
}

/** By the server's clock. What we have been told of has happened, however far our guess of that clock is behind. */
function isMatching(state, task) {
  const told = [task.created_at, task.started_at, task.finished_at].map((at) => (at ? Date.parse(at) + 1 : 0));
  return matches(state.query, task, Math.max(Date.now() + state.clockSkew, ...told));
}

/**
 * Nobody reads: what waits takes its place, what no longer matches goes. Where only the server knows the places, the chip stays.
 * @param {Set<string> | null} touched rows that may have ceased to match; null: any
 */
function settled(before, touched = null) {
  const state = before.query.sort === NEWEST_FIRST ? shortened(before) : before;
  const places = placesOf(state.rows);
  const isLeaving = (id) => {
    const task = state.tasks.get(id); // not there: it has been let go, and is looked at when it is back
    return id !== state.opened && task !== undefined && !isMatching(state, task);
  };
  const leaving = new Set([...(touched ?? state.rows)].filter((id) => places.has(id) && isLeaving(id)));
  const rows = leaving.size === 0 ? state.rows : state.rows.filter((id) => !leaving.has(id));
  if (needsServerToShow(state) || state.waiting.size === 0) return pruned({ ...state, rows });
  const isComing = (task) => isMatching(state, task) && belongs(state, task);
  const newcomers = [...state.waiting].filter((id) => !places.has(id) && isComing(state.tasks.get(id)));
  const next = {
    ...state,
    rows: merged(newcomers, rows, state.tasks),
    waiting: new Set(),
    fresh: new Set(newcomers),
  };
  return pruned(shortened(next));
}

function opened(state, taskId) {
  if (taskId === state.opened) return state;
  const task = state.tasks.get(taskId) ?? null;
  const detail = { ...initialState.detail, phase: taskId === null ? "none" : "loading", task };
  return { ...state, opened: taskId, detail };
}

function withDetail(state, { task, history, control = null, waiting = null, lineage = null, trace_url: traceUrl = null, similar = null, audit = [], history_deleted_until: historyDeletedUntil = null }) {
  const known = state.tasks.get(task.task_id);
  const merged = mergeTask(known, task);
  const tasks = new Map(state.tasks).set(task.task_id, withoutPayload(merged));
  const detail = { phase: "ready", task: { ...task, ...merged }, history, control, waiting, lineage, traceUrl, similar, audit, historyDeletedUntil, error: null };
  return { ...state, tasks, detail };
}

/** Rows do not hold results and tracebacks in memory. */
function withoutPayload(task) {
  const { arguments: _arguments, result_payload: _result, traceback: _traceback, error_message: _error, ...row } = task;
  return row;
}

/** Forgets tasks that are shown nowhere, or far from here. */
function pruned(state) {
  const { arrivals } = state.list;
  const isWanted = (id) => id === state.opened || state.waiting.has(id) || arrivals?.has(id) || isNear(state, id);
  const unwanted = [...state.tasks.keys()].filter((id) => !isWanted(id));
  if (unwanted.length === 0) return state;
  const tasks = new Map(state.tasks);
  for (const id of unwanted) tasks.delete(id);
  return { ...state, tasks };
}
