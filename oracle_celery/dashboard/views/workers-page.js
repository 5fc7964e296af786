/** Every worker: alive or not, what it is doing, which queues it consumes now and which it is to. */

import { capacity, orderedWorkers } from "../fleet.js";
import { UNKNOWN, formatCount, formatElapsed, formatTime, formatFullTime } from "../format.js";
import { t } from "../locale.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { Page } from "./page.js";

const DRAWN_SLOTS = 32; // squares; a larger pool is told as a number

/** @param {HTMLElement} element */
export function WorkersPage(element) {
  const page = Page(element);
  const rows = KeyedList(element.querySelector("tbody"), WorkerRow);

  function update({ state, now }) {
    const { workers, error } = state.fleet;
    const isShown = state.route.page === "workers";
    if (!page.update({ isShown, error, isEmpty: workers?.length === 0, connection: state.connection })) return;
    const { alive, busy, slots } = capacity(workers ?? []);
    const values = { count: alive, formatted: formatCount(alive), busy: formatCount(busy), slots: formatCount(slots) };
    page.summary.textContent = workers === null ? t("list.loading") : t("workers.summary", values);
    page.empty.textContent = t("workers.none");
    element.querySelector(".page__table").hidden = !workers?.length;
    rows.update(orderedWorkers(workers ?? []).map((worker) => [worker.worker_id, worker, now]));
  }

  return { update, focus: page.focus };
}

function WorkerRow() {
  const element = copyOf("worker-row");
  const [node, life, slotCell, reserved, queues, pool, beat, started] = element.cells;
  const slots = slotCell.firstElementChild;

  function update(worker, now) {
    element.dataset.state = worker.state;
    node.textContent = worker.node;
    node.title = Object.entries(worker.versions ?? {}).map(([name, version]) => `${name} ${version}`).join(", ");
    life.textContent = t(`worker_state.${worker.state}`, {}, worker.state);
    drawSlots(worker);
    reserved.textContent = worker.state === "alive" ? formatCount(worker.reserved) : UNKNOWN;
    queues.textContent = queueText(worker);
    pool.textContent = poolText(worker);
    pool.title = worker.interruptible ? "" : t("control.not_interruptible");
    beat.textContent = worker.beat_at === null ? UNKNOWN : formatElapsed((now - Date.parse(worker.beat_at)) / 1000);
    beat.title = formatFullTime(worker.beat_at);
    started.textContent = formatTime(worker.started_at);
    started.title = formatFullTime(worker.started_at);
  }

  function drawSlots({ state, active, concurrency }) {
    const isKnown = state === "alive" && typeof concurrency === "number";
    const total = isKnown && concurrency <= DRAWN_SLOTS ? concurrency : 0;
    while (slots.childElementCount > total) slots.lastElementChild.remove();
    while (slots.childElementCount < total) slots.append(document.createElement("i"));
    [...slots.children].forEach((slot, at) => slot.classList.toggle("is-busy", at < (active ?? 0)));
    const text = isKnown ? t("worker.slots.told", { busy: formatCount(active), slots: formatCount(concurrency) }) : UNKNOWN;
    slots.setAttribute("aria-label", text);
    slots.title = text;
    slots.dataset.told = total === 0 ? text : "";
  }

  return { element, update };
}

/** What it consumes; a queue that it is to consume and does not is said so. */
function queueText({ queues, consuming }) {
  if (consuming === null || consuming === undefined) return (queues ?? []).join(", ") || UNKNOWN;
  const idle = (queues ?? []).filter((queue) => !consuming.includes(queue));
  const told = [...consuming, ...idle.map((queue) => t("worker.not_consuming", { queue }))];
  return told.join(", ") || UNKNOWN;
}

function poolText({ pool, interruptible }) {
  return [pool ?? UNKNOWN, interruptible === false ? t("worker.cooperative") : ""].filter(Boolean).join(", ");
}
