/**
 * What the list is asked for, and its three spellings: the page's address, the API's parameters, a test on one task.
 *
 * Pure. The address says only what differs from the defaults, so that a plain link is the newest tasks of everybody.
 * `matches` repeats the server's rules for rows that arrive live; the server stays the judge: any reload asks it again.
 */

/** @typedef {{status: string[], id: string, name: string, user: string, queue: string, worker: string, sort: string}} Query */

export const STATUSES = Object.freeze(["pending", "in_progress", "completed", "failed", "cancelled"]);

/** The fields a person types into, in the order they are shown. */
export const FIELDS = Object.freeze(["id", "name", "user", "queue", "worker"]);

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
  runtime: "-runtime",
});

export const NEWEST_FIRST = "-created_at";

/** @type {Query} */
export const DEFAULT_QUERY = Object.freeze({
  status: Object.freeze([]),
  id: "",
  name: "",
  user: "",
  queue: "",
  worker: "",
  sort: NEWEST_FIRST,
});

/** The column of a task that a field filters. */
const COLUMN = Object.freeze({ id: "task_id", name: "name", user: "user_id", queue: "queue", worker: "worker" });

/** @param {string} search as in location.search; what is not understood is left out. @returns {Query} */
export function queryFromAddress(search) {
  const given = new URLSearchParams(search);
  const status = given.getAll("status").flatMap((value) => value.split(","));
  const sort = given.get("sort") ?? NEWEST_FIRST;
  const query = {
    ...DEFAULT_QUERY,
    status: STATUSES.filter((word) => status.includes(word)),
    sort: sortColumn(sort) in SORTS ? sort : NEWEST_FIRST,
  };
  for (const field of FIELDS) query[field] = (given.get(field) ?? "").trim();
  return query;
}

/** @param {Query} query @returns {string} "" or "?…" */
export function addressFromQuery(query) {
  const parameters = filterParameters(query);
  if (query.sort !== NEWEST_FIRST) parameters.set("sort", query.sort);
  const text = parameters.toString();
  return text && `?${text}`;
}

/** @param {Query} query @param {{limit: number, page?: string | null}} paging @returns {string} "?…" for /api/tasks */
export function listParameters(query, { limit, page = null }) {
  const parameters = filterParameters(query);
  if (query.name !== "") parameters.set("name", alternatives(query.name).map(containing).join(","));
  parameters.set("sort", query.sort);
  parameters.set("limit", String(limit));
  if (page !== null) parameters.set("page", page);
  return `?${parameters}`;
}

/** The filter as lists of alternatives, as an action on all that match is told it. @param {Query} query */
export function filterLists(query) {
  const lists = query.status.length > 0 ? { status: [...query.status] } : {};
  for (const field of FIELDS) if (query[field] !== "") lists[field] = alternatives(query[field]);
  if (lists.name) lists.name = lists.name.map(containing);
  return lists;
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
export function isFiltered(query) {
  return query.status.length > 0 || FIELDS.some((field) => query[field] !== "");
}

/** @param {Query} query @param {object} task */
export function matches(query, task) {
  if (query.status.length > 0 && !query.status.includes(task.status)) return false;
  return FIELDS.every((field) => {
    const wanted = alternatives(query[field]);
    return wanted.length === 0 || wanted.some((one) => MEETS[field](one, task[COLUMN[field]] ?? ""));
  });
}

/** How one alternative of a field is met by a value, as the server does it. */
const MEETS = Object.freeze({
  id: (wanted, value) => value.startsWith(wanted),
  name: (wanted, value) => isLike(containing(wanted), value),
  user: (wanted, value) => wanted === value,
  queue: isLike,
  worker: isLike,
});

function alternatives(text) {
  return text.split(",").filter((part) => part !== "");
}

/** A part of a name is enough to find it; who writes a star says where the part stands. */
function containing(name) {
  return name.includes("*") ? name : `*${name}*`;
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

function filterParameters(query) {
  const parameters = new URLSearchParams();
  if (query.status.length > 0) parameters.set("status", query.status.join(","));
  for (const field of FIELDS) if (query[field] !== "") parameters.set(field, query[field]);
  return parameters;
}
