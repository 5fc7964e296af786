/**
 * The family of a task as rows of a tree: those above it, itself, those below it, each below its parent. Pure.
 */

/**
 * `{task, depth, isSelf}` from the top down. What the server could not tell (a parent that is gone or not the reader's)
 * is a row with `task: null` and its `id`.
 * @param {object} task @param {{ancestors: object[], descendants: object[]} | null} lineage
 */
export function familyRows(task, lineage) {
  const ancestors = lineage?.ancestors ?? [];
  const top = ancestors[0] ?? task;
  const rows = [];
  if (top.parent_id) rows.push({ id: top.parent_id, task: null, isSelf: false });
  for (const one of ancestors) rows.push({ id: one.task_id, task: one, isSelf: false });
  rows.forEach((row, depth) => (row.depth = depth));
  rows.push({ id: task.task_id, task, depth: rows.length, isSelf: true });
  return [...rows, ...below(task.task_id, rows.length, childrenOf(lineage?.descendants ?? []))];
}

/** Whether there is anything to tell. */
export function hasFamily(task, lineage) {
  return Boolean(task.parent_id || task.group_id || lineage?.descendants.length > 0 || lineage?.schedule);
}

function childrenOf(descendants) {
  const children = new Map();
  for (const one of descendants) {
    if (!children.has(one.parent_id)) children.set(one.parent_id, []);
    children.get(one.parent_id).push(one);
  }
  return children;
}

function below(taskId, depth, children, met = new Set([taskId])) {
  return (children.get(taskId) ?? []).flatMap((child) => {
    if (met.has(child.task_id)) return []; // nobody is their own ancestor, whatever the messages said
    met.add(child.task_id);
    return [{ id: child.task_id, task: child, depth, isSelf: false }, ...below(child.task_id, depth + 1, children, met)];
  });
}
