/**
 * The columns of the task list: which there are, and which somebody has chosen. Pure.
 *
 * Some are always there, the others as one likes; on a narrow list the chosen ones leave by themselves, which is CSS.
 */

/** Of the column chooser, in the order of the table. `sort` is what the server sorts by. */
export const COLUMNS = Object.freeze([
  Object.freeze({ name: "id", label: "column.task_id", isFixed: true }),
  Object.freeze({ name: "name", label: "column.name", isFixed: true }),
  Object.freeze({ name: "status", label: "column.status", isFixed: true }),
  Object.freeze({ name: "user", label: "column.user", isFixed: true }),
  Object.freeze({ name: "queue", label: "column.queue", isFixed: false }),
  Object.freeze({ name: "worker", label: "column.worker", isFixed: false }),
  Object.freeze({ name: "retries", label: "column.retries", isFixed: false }),
  Object.freeze({ name: "wait", label: "column.wait", isFixed: false }),
  Object.freeze({ name: "runtime", label: "column.runtime", isFixed: false }),
  Object.freeze({ name: "created", label: "column.created", isFixed: true }),
]);

export const USUAL_COLUMNS = Object.freeze(["queue", "worker", "runtime"]);

const CHOICES = COLUMNS.filter((column) => !column.isFixed).map((column) => column.name);

/** @param {string | null} text as `textOfColumns` writes it; what is not understood is left out @returns {string[]} */
export function columnsFromText(text) {
  if (text === null) return [...USUAL_COLUMNS];
  const given = text.split(" ");
  return CHOICES.filter((name) => given.includes(name));
}

/** @param {string[]} columns @returns {string | null} null where they are the usual ones */
export function textOfColumns(columns) {
  const text = CHOICES.filter((name) => columns.includes(name)).join(" ");
  return text === USUAL_COLUMNS.join(" ") ? null : text;
}

/** @param {string[]} columns @param {string} name @returns {string[]} with it, or without */
export function toggled(columns, name) {
  return columns.includes(name) ? columns.filter((one) => one !== name) : columnsFromText([...columns, name].join(" "));
}

/**
 * Seconds from a task's sending to the start of its newest run, or to its end where it was never started; of a pending
 * one so far. As `wait:` asks (see query-fields.js). @param {number} now milliseconds
 */
export function waitOf(task, now) {
  const until = task.status === "pending" ? now : Date.parse(task.started_at ?? task.finished_at);
  const seconds = (until - Date.parse(task.created_at)) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}
