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
  const queue = fleet.queues?.find((one) => one.name === name);
  const isKnown = queue && Boolean(queue.paused) === (command.action === "pause") && queue.workers.length > 0;
  const { confirmed, total, others } = confirmations(isKnown ? takenOver(queue) : command.answer.workers);
  const values = { name: what, confirmed: formatCount(confirmed), total: formatCount(total) };
  if (total === 0) return t(`notice.${command.action}.nobody`, values);
  const states = others.map(({ node, state }) => t("notice.worker", { node, state: t(`pause_state.${state}`, {}, state) }));
  const progress = t(others.length === 0 ? `notice.${command.action}.done` : `notice.${command.action}.requested`, values);
  return [progress, states.join("; ")].filter(Boolean).join(" ");
}
