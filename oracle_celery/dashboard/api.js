/**
 * The only fetch of the page: addresses, answers and errors of the sidecar's API.
 *
 * A failure is an `ApiError` whose message may be shown: the server's own words where it had some. Its `code` is
 * "unreachable" where nobody answered.
 */

import { listParameters } from "./query.js";
import { parseExact } from "./exact-json.js";

export const PAGE_SIZE = 100; // tasks
const ANSWER_TIMEOUT = 15_000; // ms

export class ApiError extends Error {
  /** @param {{status: number, code: string, message: string, parameter?: string}} facts */
  constructor({ status, code, message, parameter = null }) {
    super(message);
    Object.assign(this, { name: "ApiError", status, code, parameter });
  }
}

/** @returns {Promise<{tasks: object[], next_page: string | null, cursor: string}>} */
export async function getTasks(query, { page = null, signal = null } = {}) {
  return JSON.parse(await answer(`/api/tasks${listParameters(query, { limit: PAGE_SIZE, page })}`, { signal }));
}

/** Arguments and result come as `parseExact` reads them. @returns {Promise<{task: object, history: object[]}>} */
export async function getTask(taskId) {
  const text = await answer(`/api/tasks/${encodeURIComponent(taskId)}`);
  const detail = JSON.parse(text);
  const exact = parseExact(text).get("task");
  for (const field of ["arguments", "result_payload"]) detail.task[field] = exact.get(field) ?? null;
  return detail;
}

export async function getSummary() {
  return JSON.parse(await answer("/api/summary"));
}

/** What the sidecar says of itself; it answers with 503 where something is missing. */
export async function getReadiness() {
  return JSON.parse(await answer("/readyz", { accept: [503] }));
}

/** @param {string} language */
export async function getLocale(language) {
  return JSON.parse(await answer(new URL(`./locales/${language}.json`, import.meta.url)));
}

async function answer(address, { signal = null, accept = [] } = {}) {
  const timeout = AbortSignal.timeout(ANSWER_TIMEOUT);
  let response;
  let text;
  try {
    response = await fetch(address, {
      headers: { Accept: "application/json" },
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError({ status: 0, code: "unreachable", message: String(error.message) });
  }
  if (response.ok || accept.includes(response.status)) return text;
  throw new ApiError({ status: response.status, ...errorFacts(text, response) });
}

function errorFacts(text, response) {
  try {
    return JSON.parse(text).error;
  } catch {
    return { code: "http", message: `${response.status} ${response.statusText}` };
  }
}
