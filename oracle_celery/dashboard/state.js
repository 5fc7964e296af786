/**
 * Everything the page knows, and how it changes: `reduce(state, action)` returns the next state and touches nothing.
 *
 * Facts arrive late, twice and in any order, from the list and from the stream. A task is replaced only by a newer
 * version of itself, so the outcome is the same whatever the order. Rows under a reader's eyes never move: what is new
 * waits in `waiting` until the reader looks up or asks for it, what no longer matches stays until then.
 */

import { NO_AUDIT, auditActions } from "./audit.js";
import { NO_BULK, bulkActions } from "./bulk.js";
import { commandActions } from "./commands.js";
import { NO_FAILURES, failureActions } from "./failures.js";
import { NO_FLEET, fleetActions } from "./fleet.js";
import { DEFAULT_QUERY, NEWEST_FIRST, isFiltered, isLive, matches } from "./query.js";
import { NOTHING_SELECTED, selectionActions } from "./selection.js";
import { NO_SCHEDULE, scheduleActions } from "./schedule.js";
import { NO_SESSION, sessionActions } from "./session.js";
import { NO_STATISTICS, statisticsActions } from "./statistics.js";

/** Rows that may wait behind the chip; beyond it the chip says "more than" and showing them asks the server again. */
export const WAITING_LIMIT = 500; // tasks

/** Rows a live list may grow to before it is asked for anew, so that a page left open all day stays light. */
export const ROWS_LIMIT = 600; // tasks

export const initialState = Object.freeze({
  session: NO_SESSION,
  query: DEFAULT_QUERY,
  /** Ids in the order shown. */
  rows: Object.freeze([]),
  /** Ids of matching tasks that are not shown yet. */
  waiting: new Set(),
  /** Ids whose rows appeared live: they are tinted once. */
  fresh: new Set(),
  /** Newest known version of every task in rows, in waiting, or opened. */
  tasks: new Map(),
  list: Object.freeze({ phase: "loading", request: 0, nextPage: null, older: "idle", error: null, arrivals: null }),
  reading: false,
  summary: null,
  /** "connecting", "live", "reconnecting" or "deaf"; the cause is the same word, or "server" where that is deaf. */
  connection: "connecting",
  cause: "connecting",
  opened: null,
  detail: Object.freeze({ phase: "none", task: null, history: [], control: null, waiting: null, lineage: null, traceUrl: null, similar: null, audit: [], error: null }),
  route: Object.freeze({ page: "tasks", id: null, parameters: Object.freeze({}) }),
  selection: NOTHING_SELECTED,
  commands: new Map(),
  failures: NO_FAILURES,
  fleet: NO_FLEET,
  bulk: NO_BULK,
  audit: NO_AUDIT,
  schedule: NO_SCHEDULE,
  statistics: NO_STATISTICS,
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
});

export function reduce(state, action) {
  switch (action.type) {
    case "queryChanged":
      if (isSameList(state.query, action.query)) return { ...state, query: action.query };
      return { ...state, query: action.query, waiting: new Set(), fresh: new Set(), selection: NOTHING_SELECTED };
    case "routeChanged":
      return { ...state, route: action.route };
    case "listRequested":
      return { ...state, list: { ...state.list, phase: "loading", request: action.request, arrivals: new Set() } };
    case "listArrived":
      return action.request === state.list.request ? withList(state, action.page) : state;
    case "listFailed":
      if (action.request !== state.list.request) return state;
      return { ...state, list: { ...state.list, phase: "failed", error: action.error, arrivals: null } };
    case "olderRequested":
      return { ...state, list: { ...state.list, older: "loading" } };
    case "olderArrived":
      return action.request === state.list.request ? withOlder(state, action.page) : state;
    case "olderFailed":
      return { ...state, list: { ...state.list, older: "failed" } };
    case "factsArrived":
      return withFacts(state, action.facts);
    case "readingChanged":
      return action.reading ? { ...state, reading: true } : settled({ ...state, reading: false });
    case "newShown":
      return { ...settled({ ...state, reading: false }), reading: state.reading };
    case "summaryArrived":
      return { ...state, summary: action.summary };
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

/** @returns {number} negative where a is older than b. A version is [retries, run_at, rank]; no run sorts first. */
export function compareVersions(a, b) {
  for (let part = 0; part < 3; part += 1) {
    const difference = (a[part] ?? -Infinity) - (b[part] ?? -Infinity);
    if (difference < 0 || difference > 0) return difference;
  }
  return 0;
}

/** The newer of two readings of one task. Readings of one version may know different facts of its sending: both count. */
export function mergeTask(known, arrived) {
  if (known === undefined || known === null) return arrived;
  const order = compareVersions(known.version, arrived.version);
  if (order > 0) return known;
  if (order < 0) return arrived;
  const merged = { ...known };
  let changed = false;
  for (const [field, value] of Object.entries(arrived)) {
    if (field === "version" || value === null || value === known[field]) continue;
    merged[field] = value;
    changed = true;
  }
  return changed ? merged : known;
}

/** Whether showing what waits needs the server: too many wait, or only the server knows their places. */
export function needsServerToShow(state) {
  return state.query.sort !== NEWEST_FIRST || state.waiting.size >= WAITING_LIMIT;
}

/** Whether more has come by itself than a live list holds, so that it should be asked for anew. */
export function isOvergrown(state) {
  if (state.reading || state.list.phase !== "ready" || state.query.sort !== NEWEST_FIRST) return false;
  return state.rows.length > ROWS_LIMIT || state.waiting.size >= WAITING_LIMIT;
}

/** Why the list is empty: "nothing" (there are no tasks), "filtered" (the filters hide all), or null: it is not. */
export function emptiness(state) {
  if (state.rows.length > 0 || state.list.phase !== "ready") return null;
  return isFiltered(state.query) ? "filtered" : "nothing";
}

/** Nothing that one viewer has read is there for the next one; where the page was, is. */
function withoutContent({ session, query, route, reading, connection, cause }) {
  return { ...initialState, session, query, route, reading, connection, cause };
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
    ...state.list,
    phase: "ready",
    nextPage: page.next_page,
    older: "idle",
    error: null,
    arrivals: null,
  };
  // Facts that came while the answer was under way may be missing from it: they are placed as if they came now.
  const late = [...state.list.arrivals].filter((id) => !listed.has(id) && tasks.has(id));
  const next = { ...state, tasks, rows, list, waiting: new Set(), fresh: new Set() };
  return pruned(settledOrWaiting(next, late));
}

function withOlder(state, page) {
  const tasks = new Map(state.tasks);
  const shown = new Set(state.rows);
  const rows = [...state.rows];
  const waiting = new Set(state.waiting);
  for (const task of page.tasks) {
    tasks.set(task.task_id, mergeTask(tasks.get(task.task_id), task));
    waiting.delete(task.task_id);
    if (!shown.has(task.task_id)) rows.push(task.task_id);
  }
  return { ...state, tasks, rows, waiting, list: { ...state.list, nextPage: page.next_page, older: "idle" } };
}

function withFacts(state, facts) {
  const tasks = new Map(state.tasks);
  const arrivals = state.list.arrivals && new Set(state.list.arrivals);
  const shown = new Set(state.rows);
  const newcomers = new Set();
  for (const { task } of facts) {
    const merged = mergeTask(tasks.get(task.task_id), task);
    tasks.set(task.task_id, merged);
    if (shown.has(task.task_id)) continue;
    if (matches(state.query, merged)) newcomers.add(task.task_id);
    else newcomers.delete(task.task_id);
    arrivals?.add(task.task_id);
  }
  const detail = state.opened && tasks.has(state.opened) ? refreshed(state.detail, tasks.get(state.opened)) : state.detail;
  const waiting = new Set([...state.waiting].filter((id) => matches(state.query, tasks.get(id))));
  const next = { ...state, tasks, detail, waiting, list: { ...state.list, arrivals } };
  return pruned(settledOrWaiting(next, [...newcomers]));
}

/** The opened task's row moves on at once; its history and result follow when they have been read. */
function refreshed(detail, task) {
  if (detail.task === null || compareVersions(detail.task.version, task.version) > 0) return detail;
  return { ...detail, task: { ...detail.task, ...task } };
}

function settledOrWaiting(state, newcomers) {
  // What only the server can judge comes with the next answer of the server.
  const placeable = isLive(state.query) ? newcomers.filter((id) => isWithinPages(state, state.tasks.get(id))) : [];
  if (placeable.length === 0 && state.reading) return state;
  const waiting = new Set(state.waiting);
  for (const id of placeable) if (waiting.size < WAITING_LIMIT) waiting.add(id);
  const next = { ...state, waiting };
  return state.reading ? next : settled(next);
}

/** Whether only words that were not understood tell two queries apart. */
function isSameList(query, other) {
  return query.q === other.q && query.sort === other.sort;
}

/** A task older than the last loaded row belongs to a page that is not loaded yet. */
function isWithinPages(state, task) {
  if (state.query.sort !== NEWEST_FIRST || state.list.nextPage === null) return true;
  const last = state.tasks.get(state.rows.at(-1));
  return last === undefined || compareNewest(task, last) < 0;
}

/** Nobody reads: what waits takes its place, what no longer matches goes. Where only the server knows the places, the chip stays. */
function settled(state) {
  const stay = state.rows.filter((id) => id === state.opened || matches(state.query, state.tasks.get(id)));
  const rows = stay.length === state.rows.length ? state.rows : stay;
  if (needsServerToShow(state) || state.waiting.size === 0) return pruned({ ...state, rows });
  const shown = new Set(rows);
  const newcomers = [...state.waiting]
    .filter((id) => !shown.has(id) && matches(state.query, state.tasks.get(id)))
    .sort((a, b) => compareNewest(state.tasks.get(a), state.tasks.get(b)));
  return pruned({
    ...state,
    rows: merged(newcomers, rows, (a, b) => compareNewest(state.tasks.get(a), state.tasks.get(b))),
    waiting: new Set(),
    fresh: new Set(newcomers),
  });
}

/** Two sorted lists as one; rows keep their order among themselves even where it is not strict. */
function merged(newcomers, rows, compare) {
  const result = [];
  let next = 0;
  for (const row of rows) {
    while (next < newcomers.length && compare(newcomers[next], row) < 0) result.push(newcomers[next++]);
    result.push(row);
  }
  return [...result, ...newcomers.slice(next)];
}

/** Newest first, by creation and then by id, as the server sorts. Times are ISO strings of one form: they compare as text. */
function compareNewest(a, b) {
  if (a.created_at !== b.created_at) return (a.created_at ?? "") > (b.created_at ?? "") ? -1 : 1;
  if (a.task_id === b.task_id) return 0;
  return a.task_id > b.task_id ? -1 : 1;
}

function opened(state, taskId) {
  if (taskId === state.opened) return state;
  const task = state.tasks.get(taskId) ?? null;
  const detail = { ...initialState.detail, phase: taskId === null ? "none" : "loading", task };
  return { ...state, opened: taskId, detail };
}

function withDetail(state, { task, history, control = null, waiting = null, lineage = null, trace_url: traceUrl = null, similar = null, audit = [] }) {
  const known = state.tasks.get(task.task_id);
  const merged = mergeTask(known, task);
  const tasks = new Map(state.tasks).set(task.task_id, withoutPayload(merged));
  const detail = { phase: "ready", task: { ...task, ...merged }, history, control, waiting, lineage, traceUrl, similar, audit, error: null };
  return { ...state, tasks, detail };
}

/** Rows do not hold results and tracebacks in memory. */
function withoutPayload(task) {
  const { arguments: _arguments, result_payload: _result, traceback: _traceback, error_message: _error, ...row } = task;
  return row;
}

/** Forgets tasks that are shown nowhere. */
function pruned(state) {
  const arrivals = state.list.arrivals ?? new Set();
  const wanted = new Set([...state.rows, ...state.waiting, ...arrivals, state.opened]);
  if (state.tasks.size <= wanted.size && [...state.tasks.keys()].every((id) => wanted.has(id))) return state;
  return { ...state, tasks: new Map([...state.tasks].filter(([id]) => wanted.has(id))) };
}
