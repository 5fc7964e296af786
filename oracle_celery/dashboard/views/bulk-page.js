/**
 * One action on many tasks: how far it is, what came of it, task by task. Its address survives a reload.
 * Asks with `chooseOutcome` {outcome} and `loadItems`.
 */

import { isSuccess, outcomeCounts, percentDone } from "../bulk.js";
import { UNKNOWN, formatCount, formatTime, shortId } from "../format.js";
import { t } from "../locale.js";
import { hashOf } from "../route.js";
import { outcomeWord } from "./audit-words.js";
import { bulkTitle } from "./bulks-page.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { Page } from "./page.js";

/** @param {HTMLElement} element */
export function BulkPage(element) {
  const page = Page(element);
  const progress = element.querySelector(".bulk-progress");
  const bar = progress.querySelector("progress");
  const [state_, detail] = progress.querySelector(".bulk-progress__state").children;
  const outcomes = KeyedList(progress.querySelector(".bulk-progress__outcomes"), OutcomeButton);
  const items = KeyedList(element.querySelector("tbody"), BulkItem);
  const more = element.querySelector(".page__more button");

  more.addEventListener("click", () => element.dispatchEvent(new CustomEvent("loadItems", { bubbles: true })));

  function update({ state }) {
    const { opened: bulk, error, next, outcome, isReadingItems } = state.bulk;
    const isShown = state.route.page === "bulk" && state.route.id !== null;
    if (!page.update({ isShown, error, connection: state.connection })) return;
    progress.hidden = bulk === null;
    element.querySelector(".page__table").hidden = bulk === null;
    page.title.textContent = bulk === null ? t("page.bulk") : bulkTitle(bulk);
    if (bulk === null) {
      page.summary.textContent = error === null ? t("list.loading") : "";
      return;
    }
    page.summary.textContent = t("bulk.by", { actor: bulk.actor, at: formatTime(bulk.created_at) });
    updateProgress(bulk);
    const all = ["", t("status.all"), bulk.total];
    const counted = outcomeCounts(bulk).map(([name, count]) => [name, outcomeWord(name), count]);
    outcomes.update([all, ...counted].map(([name, word, count]) => [name || "*", { name, word, count, isPressed: name === outcome }]));
    items.update(state.bulk.items.map((item) => [String(item.number), item]));
    more.hidden = next === null;
    more.disabled = isReadingItems;
  }

  function updateProgress(bulk) {
    const isOver = bulk.state === "finished";
    progress.dataset.state = bulk.state;
    bar.value = percentDone(bulk) / 100;
    state_.textContent = isOver ? t("bulk.state.finished") : `${formatCount(percentDone(bulk))}\u00a0%`;
    const values = { done: formatCount(bulk.done), total: formatCount(bulk.total), at: formatTime(bulk.finished_at) };
    detail.textContent = t(isOver ? "bulk.finished" : "bulk.running", values);
    progress.querySelector(".bulk-progress__reason").textContent = bulk.reason ? t("waiting.because", { reason: bulk.reason }) : "";
  }

  return { update, focus: page.focus };
}

function OutcomeButton() {
  const element = document.createElement("button");
  const word = document.createElement("span");
  const number = document.createElement("strong");
  Object.assign(element, { type: "button", className: "outcome" });
  element.append(word, " ", number);
  let outcome = "";

  element.addEventListener("click", () => {
    element.dispatchEvent(new CustomEvent("chooseOutcome", { bubbles: true, detail: { outcome } }));
  });

  function update({ name, word: text, count, isPressed }) {
    outcome = name;
    word.textContent = text;
    number.textContent = formatCount(count);
    element.dataset.kind = kindOf(name);
    element.setAttribute("aria-pressed", String(isPressed));
  }

  return { element, update };
}

function BulkItem() {
  const element = copyOf("bulk-item");
  const [number, task, outcome, fresh, detail] = element.cells;

  function update(item) {
    number.textContent = formatCount(item.number);
    aim(task.firstElementChild, item.task_id);
    outcome.textContent = item.outcome === null ? t("bulk.item.waiting") : outcomeWord(item.outcome);
    outcome.dataset.kind = kindOf(item.outcome);
    aim(fresh.firstElementChild, item.new_task_id);
    detail.textContent = item.detail ?? "";
    detail.title = item.detail ?? "";
  }

  return { element, update };
}

function kindOf(outcome) {
  if (!outcome) return "open";
  if (outcome === "failed" || outcome === "unknown") return outcome;
  return isSuccess(outcome) ? "success" : "other";
}

function aim(link, taskId) {
  link.textContent = taskId ? shortId(taskId) : UNKNOWN;
  link.title = taskId ?? "";
  if (taskId) link.href = hashOf("tasks", taskId);
  else link.removeAttribute("href");
}
