/**
 * Commands that this page has given, from the click to the fact. Pure.
 *
 * One entry per target: a task's id, or a name of `queueKey`. A command that the server took is "requested" until the
 * fact has come back over the stream: what the page says of it is decided by `taskNotice` from both.
 */

/** @typedef {{action: string, phase: "deferred" | "sending" | "taken" | "refused", isQuick: boolean, answer: object | null, error: Error | null}} Command */

export const commandActions = {
  /** Given and not sent yet: it can still be taken back. */
  commandDeferred(commands, { target, action }) {
    return new Map(commands).set(target, { action, phase: "deferred", isQuick: true, answer: null, error: null });
  },
  commandGiven(commands, { target, action, isQuick = false }) {
    return new Map(commands).set(target, { action, phase: "sending", isQuick, answer: null, error: null });
  },
  commandTaken(commands, { target, answer }) {
    return changed(commands, target, { phase: "taken", answer });
  },
  commandRefused(commands, { target, error }) {
    return changed(commands, target, { phase: "refused", error });
  },
  commandForgotten(commands, { target }) {
    const left = new Map(commands);
    left.delete(target);
    return left;
  },
};

/** @param {string | string[]} queue "*" stands for all */
export function queueKey(queue) {
  return `queue ${[queue].flat().join(", ")}`;
}

/**
 * What to say of a task's command: `{key, taskId, canUndo, error}` of the sentence, or null where the task itself says it all.
 * @param {Command | undefined} command @param {object} task
 */
export function taskNotice(command, task) {
  if (command === undefined) return null;
  if (command.phase === "deferred") return { key: `notice.${command.action}.deferred`, canUndo: true };
  // A dialog tells its own refusals; a command that was given without one has no other place for it.
  if (command.phase === "refused") return command.isQuick ? { key: "notice.refused", error: command.error } : null;
  if (command.phase === "sending") return { key: `notice.${command.action}.sending` };
  if (command.action === "retry") return { key: "notice.retry.taken", taskId: command.answer.new_task_id };
  const isOver = ["completed", "failed", "cancelled"].includes(task.status);
  if (!isOver) return { key: "notice.cancel.requested" };
  if (task.status !== "cancelled") return { key: "notice.cancel.too_late" };
  return { key: command.answer.outcome === "cancelled" ? "notice.cancel.dropped" : "notice.cancel.confirmed" };
}

function changed(commands, target, fields) {
  const command = commands.get(target);
  return command === undefined ? commands : new Map(commands).set(target, { ...command, ...fields });
}
