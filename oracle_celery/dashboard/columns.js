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

/** Seconds from a task's sending, or from a further attempt's arrival at a worker, to its start; null while it waits. */
export function waitOf(task) {
  const since = task.retries > 0 ? (task.received_at ?? null) : task.created_at;
  if (!since || !task.started_at) return null;
  return Math.max(0, (Date.parse(task.started_at) - Date.parse(since)) / 1000);
}
