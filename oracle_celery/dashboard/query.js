/**
 * What the list is asked for, and its three spellings: the page's address, the API's parameters, a test on one task.
 *
 * Pure. A query holds only what was understood; words that were not are kept beside it (`wrong`), for the field to show,
 * while the list goes on with the others. The address says only what differs from the defaults, so that a plain link is
 * the newest tasks of everybody; links with a parameter per field, as they once were, are read as a query.
 */

import { STATUSES } from "./query-fields.js";
import { formatTerm, isDecided, isOfNow, isTerm, joined, meetsTerms, parseWords } from "./query-language.js";

/** @typedef {{q: string, terms: object[], wrong: object[], sort: string}} Query */

export { STATUSES };

/** Columns the server sorts by, each with the direction of the first click: newest and longest first, words from A. */
export const SORTS = Object.freeze({
  task_id: "task_id",
  name: "name",
  status: "status",
  user_id: "user_id",
  queue: "queue",
  worker: "worker",
  retries: "-retries",
  created_at: "-created_at",
  started_at: "-started_at",
  finished_at: "-finished_at",
  wait: "-wait",
  runtime: "-runtime",
});

export const NEWEST_FIRST = "-created_at";

/** How many an order that no index has is of: the newest that match. */
export const SORTED_TASKS = 10_000;

/** Parameters of links from before the query language. */
const OLD_PARAMETERS = Object.freeze(["status", "id", "name", "user", "queue", "worker"]);

/** @param {string} text in the query language @returns {Query} */
export function queryOf(text, sort = NEWEST_FIRST) {
  const words = parseWords(text);
  const terms = words.filter(isTerm);
  return { q: joined(terms), terms, wrong: words.filter((word) => !isTerm(word)), sort };
}

/** @type {Query} */
export const DEFAULT_QUERY = Object.freeze(queryOf(""));

/** All that was typed, what was not understood included. @param {Query} query */
export function typedText(query) {
  return joined([...query.terms, ...query.wrong]);
}

/** @param {string} search as in location.search; what is not understood is left out. @returns {Query} */
export function queryFromAddress(search) {
  const given = new URLSearchParams(search);
  const sort = given.get("sort") ?? NEWEST_FIRST;
  const text = [...oldTerms(given), ...given.getAll("q")].join(" ");
  return queryOf(text, isSort(sort) ? sort : NEWEST_FIRST);
}

/** Whether an address says its filter as links did before the query language. @param {string} search */
export function isOldAddress(search) {
  const given = new URLSearchParams(search);
  return OLD_PARAMETERS.some((name) => given.has(name));
}

/** @param {Query} query @returns {string} "" or "?…" */
export function addressFromQuery(query) {
  const parameters = new URLSearchParams();
  if (query.q !== "") parameters.set("q", query.q);
  if (query.sort !== NEWEST_FIRST) parameters.set("sort", query.sort);
  const text = parameters.toString();
  return text && `?${text}`;
}

/** @param {Query} query @param {{limit: number, page?: string | null}} paging @returns {string} "?…" for /api/tasks */
export function listParameters(query, { limit, page = null }) {
  const parameters = new URLSearchParams();
  if (query.q !== "") parameters.set("q", query.q);
  parameters.set("sort", query.sort);
  parameters.set("limit", String(limit));
  if (page !== null) parameters.set("page", page);
  return `?${parameters}`;
}

/** The filter as an action on all that match is told it. @param {Query} query */
export function bulkFilter(query) {
  return query.q === "" ? {} : { q: query.q };
}

/** @param {string} sort @param {string} column @returns {string} the sort after a click on that column's head */
export function nextSort(sort, column) {
  if (sortColumn(sort) !== column) return SORTS[column];
  return sort.startsWith("-") ? column : `-${column}`;
}

/** @param {string} sort */
export function sortColumn(sort) {
  return sort.replace(/^-/, "");
}

/** @param {Query} query */
export function isSort(sort) {
  return Object.hasOwn(SORTS, sortColumn(sort));
}

export function isFiltered(query) {
  return query.q !== "";
}

/** @param {Query} query @param {object} task @param {number} now milliseconds, of the server's clock */
export function matches(query, task, now) {
  return meetsTerms(query.terms, task, now);
}

/** Whether a task may come to match, or cease to, by time alone, of which no fact tells. @param {Query} query */
export function isTimed(query) {
  return isOfNow(query.terms);
}

/** Whether the server sorts all tasks there are, and not only the newest SORTED_TASKS that match. @param {string} sort */
export function sortsAll(sort) {
  return ["created_at", "task_id"].includes(sortColumn(sort));
}

/** Whether `matches` can tell of a task that was not listed; else only the server can. @param {Query} query */
export function isLive(query) {
  return isDecided(query.terms);
}

/** The statuses that the query names, as a tab shows them; none: all. @param {Query} query */
export function namedStatuses(query) {
  return query.terms.filter(({ field, excludes }) => field === "status" && !excludes).flatMap(({ values }) => values);
}

/** The statuses that tasks of the list may have. @param {Query} query */
export function possibleStatuses(query) {
  const named = namedStatuses(query);
  const excluded = query.terms.filter(({ field, excludes }) => field === "status" && excludes);
  return STATUSES.filter(
    (status) => (named.length === 0 || named.includes(status)) && !excluded.some(({ values }) => values.includes(status)),
  );
}

function oldTerms(given) {
  const said = (name) => given.getAll(name).flatMap((value) => value.split(",")).map((value) => value.trim()).filter(Boolean);
  return OLD_PARAMETERS.map((field) => [field, said(field)])
    .map(([field, values]) => {
      if (field === "status") return [field, STATUSES.filter((word) => values.includes(word))];
      // a part of a name was enough to find it
      return field === "name" ? [field, values.map((name) => (name.includes("*") ? name : `*${name}*`))] : [field, values];
    })
    .filter(([, values]) => values.length > 0)
    .map(([field, values]) => formatTerm({ field, values }));
}
