/** Recent actions on many tasks, newest first; each leads to its own page. */

import { outcomeCounts, percentDone } from "../bulk.js";
import { UNKNOWN, formatCount, formatFullTime, formatTime } from "../format.js";
import { t } from "../locale.js";
import { hashOf } from "../route.js";
import { outcomeWord } from "./audit-words.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { Page } from "./page.js";

const TOLD_OUTCOMES = 3;

/** @param {HTMLElement} element */
export function BulksPage(element) {
  const page = Page(element);
  const rows = KeyedList(element.querySelector("tbody"), BulkRow);

  function update({ state }) {
    const { recent, error } = state.bulk;
    const isShown = state.route.page === "bulk" && state.route.id === null;
    if (!page.update({ isShown, error, isEmpty: recent?.length === 0, connection: state.connection })) return;
    element.querySelector(".page__table").hidden = !recent?.length;
    rows.update((recent ?? []).map((bulk) => [bulk.bulk_id, bulk]));
  }

  return { update, focus: page.focus };
}

function BulkRow() {
  const element = copyOf("bulk-row");
  const [title, progress, outcomes, actor, reason, created] = element.cells;
  const bar = progress.querySelector("progress");

  function update(bulk) {
    element.dataset.state = bulk.state;
    const link = title.querySelector("a");
    link.href = hashOf("bulk", bulk.bulk_id);
    link.textContent = bulkTitle(bulk);
    bar.value = percentDone(bulk) / 100;
    progress.querySelector("span").textContent =
      bulk.state === "finished" ? t("bulk.state.finished") : `${formatCount(bulk.done)} / ${formatCount(bulk.total)}`;
    outcomes.textContent = outcomeCounts(bulk).slice(0, TOLD_OUTCOMES)
      .map(([outcome, count]) => `${formatCount(count)} ${outcomeWord(outcome)}`).join(", ") || UNKNOWN;
    actor.textContent = bulk.actor;
    reason.textContent = bulk.reason ?? "";
    created.textContent = formatTime(bulk.created_at);
    created.title = formatFullTime(bulk.created_at);
  }

  return { element, update };
}

/** "Retry of 20,000 tasks" */
export function bulkTitle({ action, total }) {
  return t(`bulk.${action}.heading`, { count: total, formatted: formatCount(total) });
}
