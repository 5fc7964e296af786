/**
 * Every worker: alive or not, a square for each of its slots, what it runs and for how long, and what it costs. A row
 * opens on its running tasks, its queues and its versions; workers that are long gone lie folded at the end.
 * Asks with `showTasks` {worker, status}.
 *
 * Whoever may not see every task is told of their own tasks alone, and of no worker's load.
 */

import { capacity, foldedWorkers, orderedWorkers, usualRuntimes, usualVersions } from "../fleet.js";
import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { KeyedList } from "./keyed-list.js";
import { Page } from "./page.js";
import { WorkerRow, versionText } from "./worker-row.js";

/** @param {HTMLElement} element */
export function WorkersPage(element) {
  const page = Page(element);
  const table = element.querySelector("table");
  const rows = KeyedList(table, WorkerRow);
  const fold = element.querySelector(".workers__fold");
  const common = element.querySelector(".workers__versions");
  const opened = new Set();
  let areGoneShown = false;
  let known = null;
  let usual = new Map();
  let types = null;
  let runtimes = new Map();
  let latest = null;

  fold.addEventListener("click", () => {
    areGoneShown = !areGoneShown;
    update(latest);
  });
  table.addEventListener("click", (event) => {
    const toggle = event.target.closest(".worker-row__toggle");
    if (toggle) return open(toggle.closest("tbody").dataset.workerId);
    const link = event.target.closest("[data-show]");
    if (link) ask("showTasks", JSON.parse(link.dataset.show));
  });

  function open(workerId) {
    if (!opened.delete(workerId)) opened.add(workerId);
    update(latest);
  }

  function ask(type, detail) {
    element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  function update(shown) {
    latest = shown;
    const { state, now } = shown;
    const { workers, error } = state.fleet;
    const isShown = state.route.page === "workers";
    if (!page.update({ isShown, error, isEmpty: workers?.length === 0, connection: state.connection })) return;
    page.summary.textContent = workers === null ? t("list.loading") : summary(workers);
    page.empty.textContent = t("workers.none");
    element.querySelector(".page__table").hidden = !workers?.length;
    element.classList.toggle("is-load-withheld", !(workers ?? []).some(isLoadTold));
    if (workers !== known) {
      known = workers;
      usual = usualVersions(workers ?? []);
    }
    if (state.statistics.types !== types) {
      types = state.statistics.types;
      runtimes = usualRuntimes(types);
    }
    common.textContent = usual.size === 0 ? "" : t("workers.versions", { versions: versionText(usual) });
    const { shown: near, folded } = foldedWorkers(orderedWorkers(workers ?? []), now);
    showFold(folded.length);
    const drawn = [...near, ...(areGoneShown ? folded : [])];
    rows.update(drawn.map((worker) => [
      worker.worker_id, worker, now, opened.has(worker.worker_id), usual, runtimes,
    ]));
  }

  function showFold(count) {
    fold.hidden = count === 0;
    const values = { count, formatted: formatCount(count) };
    fold.querySelector("span").textContent = t(areGoneShown ? "workers.fold" : "workers.unfold", values);
    fold.setAttribute("aria-expanded", String(areGoneShown));
  }

  return { update, focus: page.focus };
}

/** What a worker does beside the viewer's tasks is told to those who may see every task. */
function isLoadTold({ active }) {
  return active !== null && active !== undefined;
}

function summary(workers) {
  const { alive, busy, slots } = capacity(workers);
  const values = { count: alive, formatted: formatCount(alive), busy: formatCount(busy), slots: formatCount(slots) };
  return t(workers.some(isLoadTold) || workers.length === 0 ? "workers.summary" : "workers.summary.own", values);
}
