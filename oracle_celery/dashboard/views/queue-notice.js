/**
 * What became of the last word on a queue: "requested" until every worker has confirmed it after the act, naming those
 * that have not. What workers have said since the answer counts more than the answer.
 */

import { confirmations, takenOver } from "../fleet.js";
import { formatCount } from "../format.js";
import { t } from "../locale.js";

/** @returns {string | null} */
export function queueNotice({ commands, fleet }) {
  const [key, command] = [...commands].filter(([target]) => target.startsWith("queue ")).at(-1) ?? [];
  if (command === undefined || command.phase === "refused") return null;
  const name = key.slice("queue ".length);
  const what = name === "*" ? t("queue.all") : name; // of a group all its names
  if (command.phase === "sending") return t(`notice.${command.action}.sending`, { name: what });
  const { confirmed, total, others } = confirmations(saidSince(fleet, command) ?? command.answer.workers);
  const values = { name: what, confirmed: formatCount(confirmed), total: formatCount(total) };
  if (total === 0) return t(`notice.${command.action}.nobody`, values);
  const states = others.map(({ node, state }) => t("notice.worker", { node, state: t(`pause_state.${state}`, {}, state) }));
  const progress = t(others.length === 0 ? `notice.${command.action}.done` : `notice.${command.action}.requested`, values);
  return [progress, states.join("; ")].filter(Boolean).join(" ");
}

/**
 * What each worker has done since, of all the queues that were meant: one that is behind with any of them is behind.
 * @returns {{node: string, state: string}[] | null} null: the queues are not yet known to be so, or nobody consumes them
 */
function saidSince({ queues, everythingPaused }, { action, answer }) {
  if (queues === null) return null;
  const isPause = action === "pause";
  const isSo = (queue) => Boolean(queue.paused) === isPause;
  const isEverything = answer.queues.length === 0;
  const meant = queues.filter(({ name }) => isEverything || answer.queues.includes(name));
  // what was paused by itself before stays so when everything goes on
  const isKnown = isEverything ? (everythingPaused !== null) === isPause : meant.length > 0 && meant.every(isSo);
  if (!isKnown) return null;
  const said = new Map();
  for (const worker of meant.filter(isSo).flatMap(takenOver)) {
    if (!said.has(worker.node) || said.get(worker.node).state === "confirmed") said.set(worker.node, worker);
  }
  return said.size === 0 ? null : [...said.values()];
}
