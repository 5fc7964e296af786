/**
 * The only fetch of the page: addresses, answers and errors of the sidecar's API.
 *
 * A failure is an `ApiError` whose message may be shown: the server's own words where it had some. Its `code` is
 * "unreachable" where nobody answered, or somebody in between with a page of theirs.
 */

import { listParameters } from "./query.js";
import { formatExact, parseExact } from "./exact-json.js";

export const PAGE_SIZE = 100; // tasks
export const OLDER_SIZE = 200; // tasks: who scrolls wants more
const ANSWER_TIMEOUT = 15_000; // ms
const KEEPALIVE_LIMIT = 16_000; // characters: browsers keep 64 KiB alive in all
const SESSION = "/api/session";
export const NOT_FOUND = 404; // the HTTP status
const NO_CONTENT = 204;
const BULK_TIMEOUT = 60_000; // ms: a filter that matches a million tasks is looked through as a whole

/** Tells "refused" when an answer says that nobody is logged in any more. */
export const gate = new EventTarget();

export class ApiError extends Error {
  /** @param {{status: number, code: string, message: string, parameter?: string}} facts */
  constructor({ status, code, message, parameter = null }) {
    super(message);
    Object.assign(this, { name: "ApiError", status, code, parameter });
  }
}

/** Whether it may be otherwise in a moment: nobody answered, the server is in trouble, or was asked too much. */
export function isPassing({ status }) {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}

/** @returns {Promise<{tasks: object[], next_page: string | null, cursor: string}>} */
export async function getTasks(query, { page = null, limit = PAGE_SIZE, signal = null } = {}) {
  return JSON.parse(await answer(`/api/tasks${listParameters(query, { limit, page })}`, { signal }));
}

/** Tasks whose ids begin with one of these: theirs, mostly. @param {string[]} ids without a comma @returns {Promise<object[]>} */
export async function getTasksById(ids) {
  const search = new URLSearchParams([...ids.map((id) => ["id", id]), ["sort", "task_id"], ["limit", String(OLDER_SIZE)]]);
  return JSON.parse(await answer(`/api/tasks?${search}`)).tasks;
}

/** Arguments and result come as `parseExact` reads them. @returns {Promise<{task: object, history: object[]}>} */
export async function getTask(taskId) {
  const text = await answer(`/api/tasks/${encodeURIComponent(taskId)}`);
  const detail = JSON.parse(text);
  const exact = parseExact(text).get("task");
  for (const field of ["arguments", "result_payload"]) detail.task[field] = exact.get(field) ?? null;
  return detail;
}

/** Lines of a task's log. @returns {Promise<{lines: object[], previous: number | null, runs: object[], cursor: string}>} */
export async function getLog(taskId, { before, limit, run, level }) {
  const search = new URLSearchParams(given({ before, limit, run, level: level || null }));
  return JSON.parse(await answer(`/api/tasks/${encodeURIComponent(taskId)}/logs?${search}`));
}

/** How far running tasks say that they are. @returns {Promise<{tasks: object[]}>} */
export async function getProgress() {
  return JSON.parse(await answer("/api/progress"));
}

export function logStreamAddress(taskId, cursor) {
  return `/api/tasks/${encodeURIComponent(taskId)}/logs/subscribe?after=${encodeURIComponent(cursor)}`;
}

/** Of all of it, as a file. */
export function logFileAddress(taskId, run) {
  const search = new URLSearchParams(given({ run })).toString();
  return `/api/tasks/${encodeURIComponent(taskId)}/logs/download${search && `?${search}`}`;
}

/** @param {{reason: string}} options @returns {Promise<{status: string, outcome: string, interruptible?: boolean | null}>} */
export async function cancelTask(taskId, { reason }) {
  return order("DELETE", `/api/tasks/${encodeURIComponent(taskId)}`, JSON.stringify(given({ reason })));
}

/** @param {Map} fields values as `parseExact` reads them: no digit of an argument is lost. */
export async function retryTask(taskId, fields) {
  return order("POST", `/api/tasks/${encodeURIComponent(taskId)}/retry`, formatExact(fields));
}

/** @param {"pause" | "resume"} action @param {{queue: string | string[], reason: string, until?: string | null}} wanted */
export async function commandQueues(action, wanted) {
  return order("POST", `/api/admin/queue/${action}`, JSON.stringify(given(wanted)));
}

/** With dry_run a preview, else the bulk that has begun. */
export async function commandMany(wanted) {
  return order("POST", "/api/tasks/bulk", JSON.stringify(given(wanted)), BULK_TIMEOUT);
}

/** @returns {Promise<{queues: object[], everything_paused: object | null}>} */
export async function getQueues() {
  return JSON.parse(await answer("/api/queues"));
}

/** @returns {Promise<{workers: object[]}>} */
export async function getWorkers() {
  return JSON.parse(await answer("/api/workers"));
}

/** @param {{range?: string, limit?: number}} wanted */
export async function getFailures(wanted) {
  return JSON.parse(await answer(`/api/failures?${new URLSearchParams(wanted)}`));
}

export async function getFailure(fingerprint, wanted) {
  return JSON.parse(await answer(`/api/failures/${encodeURIComponent(fingerprint)}?${new URLSearchParams(wanted)}`));
}

/** @returns {Promise<{bulks: object[]}>} newest first */
export async function getBulks() {
  return JSON.parse(await answer("/api/bulk"));
}

export async function getBulk(bulkId) {
  return JSON.parse(await answer(`/api/bulk/${encodeURIComponent(bulkId)}`));
}

/** @returns {Promise<{items: object[], next: number | null}>} */
export async function getBulkItems(bulkId, { after, outcome, limit }) {
  const search = new URLSearchParams(given({ after, outcome, limit }));
  return JSON.parse(await answer(`/api/bulk/${encodeURIComponent(bulkId)}/items?${search}`));
}

/** @returns {Promise<{entries: object[], next: number | null}>} */
export async function getAudit(filter) {
  return JSON.parse(await answer(`/api/admin/audit?${new URLSearchParams(given(filter))}`));
}

/** Arguments come as `parseExact` reads them. @returns {Promise<{entries: object[], beats: object[]}>} */
export async function getSchedule() {
  const text = await answer("/api/schedule");
  const told = JSON.parse(text);
  const exact = parseExact(text).get("entries");
  told.entries.forEach((entry, at) => (entry.arguments = exact[at].get("arguments") ?? null));
  return told;
}

/** @param {string} range one of RANGES in statistics.js */
export async function getStatistics(range) {
  return JSON.parse(await answer(`/api/statistics?${new URLSearchParams({ range })}`));
}

/** @returns {Promise<{queues: {queue: string, waiting: (number | null)[]}[]}>} not for owners */
export async function getQueueStatistics(range) {
  return JSON.parse(await answer(`/api/statistics/queues?${new URLSearchParams({ range })}`));
}

/** @returns {Promise<{types: object[], total: number, since: string}>} of the last 24 hours */
export async function getTaskTypes() {
  return JSON.parse(await answer("/api/task-types"));
}

/** Real values of a field of the query language. @returns {Promise<{value: string, count: number | null}[]>} */
export async function getValues(field, part) {
  return JSON.parse(await answer(`/api/values?${new URLSearchParams(given({ field, part }))}`)).values;
}

/** By status, within a query. @returns {Promise<Record<string, {count: number, is_more: boolean} | null>>} */
export async function getCounts(q, { signal = null } = {}) {
  return JSON.parse(await answer(`/api/counts?${new URLSearchParams(given({ q }))}`, { signal }));
}

export async function getSummary() {
  return JSON.parse(await answer("/api/summary"));
}

/** Who is logged in, as the cookie says. @returns {Promise<object>} see `Viewer` in session.js */
export async function getSession() {
  return JSON.parse(await answer(SESSION));
}

/** The token goes in the body, never in an address; what comes back is a cookie that no script can read. */
export async function openSession(token) {
  return order("POST", SESSION, JSON.stringify({ token }));
}

export async function closeSession() {
  await answer(SESSION, { method: "DELETE" });
}

/** What the sidecar says of itself; it answers with 503 where something is missing. */
export async function getReadiness() {
  return JSON.parse(await answer("/readyz", { accept: [503] }));
}

/** @param {string} language */
export async function getLocale(language) {
  return JSON.parse(await answer(new URL(`./locales/${language}.json`, import.meta.url)));
}

async function order(method, address, body, patience = ANSWER_TIMEOUT) {
  return JSON.parse(await answer(address, { method, body, patience }));
}

/** Without what was not said: an empty field is no wish. */
function given(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== "" && value !== null && value !== false));
}

async function answer(address, { method = "GET", body = null, signal = null, accept = [], patience = ANSWER_TIMEOUT } = {}) {
  const timeout = AbortSignal.timeout(patience);
  let response;
  let text;
  try {
    response = await fetch(address, {
      method,
      body,
      keepalive: body !== null && body.length < KEEPALIVE_LIMIT, // a command outlives the page that gave it
      headers: { Accept: "application/json", ...(body === null ? {} : { "Content-Type": "application/json" }) },
      signal: signal ? (AbortSignal.any?.([signal, timeout]) ?? signal) : timeout, // older browsers wait as long as it takes
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError({ status: 0, code: "unreachable", message: String(error.message) });
  }
  if (response.ok && !isOurs(response)) {
    throw new ApiError({ status: 0, code: "unreachable", message: `${response.status} ${response.statusText}` });
  }
  if (response.ok || accept.includes(response.status)) return text;
  if (response.status === 401 && address !== SESSION) gate.dispatchEvent(new Event("refused"));
  throw new ApiError({ status: response.status, ...errorFacts(text, response) });
}

/** What the sidecar says of success is JSON, or nothing. */
function isOurs({ status, headers }) {
  return status === NO_CONTENT || /\bjson\b/.test(headers.get("Content-Type") ?? "");
}

function errorFacts(text, response) {
  try {
    return JSON.parse(text).error;
  } catch {
    return { code: "http", message: `${response.status} ${response.statusText}` };
  }
}
