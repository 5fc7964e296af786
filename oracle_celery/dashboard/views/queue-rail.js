/**
 * The queues at a glance, below the metrics, for those who see all of them; and what became of the last word on one. While anything is
 * paused it stays in sight on every page. Asks with `pauseQueue` and `resumeQueue` {queue}, and `dismissNotice`.
 */

import { confirmations, isAnythingPaused, ordered, takenOver } from "../fleet.js";
import { formatCount, formatTime } from "../format.js";
import { t } from "../locale.js";
import { isAdmin, seesEverything } from "../session.js";
import { hide } from "./drawing.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { queueNotice } from "./queue-notice.js";

/** @param {HTMLElement} element */
export function QueueRail(element) {
  const list = KeyedList(element.querySelector(".queue-rail__list"), RailQueue);
  const place = element.querySelector(".queue-rail__notice");
  const said = place.querySelector("p");
  const pause = element.querySelector(".queue-rail__pause");

  pause.addEventListener("click", () => ask("pauseQueue", { queue: null }));
  place.querySelector("button").addEventListener("click", () => ask("dismissNotice"));

  function ask(type, detail) {
    element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  function update({ state }) {
    const { fleet, route } = state;
    const notice = queueNotice(state);
    const isBare = !isAdmin(state) && fleet.queues?.length === 0;
    const isWanted = route.page === "tasks" || (route.page !== "queues" && isAnythingPaused(fleet));
    // its room is there before the queues are: no row moves down later
    hide(element, !seesEverything(state) || !(isWanted || notice !== null) || isBare);
    if (element.hidden) return;
    hide(element.querySelector(".queue-rail__row"), !isWanted);
    element.dataset.connection = state.connection;
    hide(pause, !isAdmin(state) || fleet.queues === null);
    const whole = fleet.everythingPaused;
    const everything = whole === null ? [] : [["*", { name: "*", paused: whole, workers: [] }, true]];
    const queues = ordered(fleet.queues ?? []).map((queue) => [queue.name, queue, Boolean(queue.paused) && !queue.paused.everything]);
    const shown = [...everything, ...queues].map((entry) => [...entry, isAdmin(state)]);
    list.update(shown);
    hide(place, notice === null);
    if (notice !== null && said.textContent !== notice) said.textContent = notice;
  }

  return { update };
}

function RailQueue() {
  const element = copyOf("rail-queue");
  const name = element.querySelector("a");
  const waiting = element.querySelector(".rail-queue__backlog");
  const told = element.querySelector(".rail-queue__told");
  const resume = element.querySelector("button");
  let queueName = null;

  resume.addEventListener("click", () => {
    element.dispatchEvent(new CustomEvent("resumeQueue", { bubbles: true, detail: { queue: queueName } }));
  });

  function update(queue, isOwnPause, mayResume) {
    queueName = queue.name;
    const isEverything = queue.name === "*";
    name.textContent = isEverything ? t("queue.all") : queue.name;
    const count = isEverything ? 0 : queue.waiting;
    waiting.textContent = isEverything ? "" : t("queue.backlog", { count, formatted: formatCount(count) });
    element.dataset.state = queue.paused ? "paused" : queue.is_stranded ? "stranded" : "flowing";
    const icon = queue.is_stranded && !queue.paused ? "icon-warning" : "icon-pause";
    element.querySelector(".rail-queue__icon use").setAttribute("href", `#${icon}`);
    told.textContent = isOwnPause ? pauseText(queue) : queue.is_stranded && !queue.paused ? t("queue.no_consumer") : "";
    told.title = told.textContent;
    resume.hidden = !isOwnPause || !mayResume;
    resume.title = name.textContent;
  }

  return { element, update };
}

/** "paused by anna since 13:51: “…”, held by 2 of 3 workers" */
function pauseText(queue) {
  const { paused } = queue;
  const { confirmed, total } = confirmations(takenOver(queue));
  return [
    t(paused.reason ? "queue.paused_by.reason" : "queue.paused_by", { by: paused.by, at: formatTime(paused.at), reason: paused.reason }),
    paused.until ? t("queue.paused_until", { at: formatTime(paused.until) }) : "",
    total > 0 && confirmed < total ? t("queue.held", { confirmed: formatCount(confirmed), total: formatCount(total) }) : "",
  ].filter(Boolean).join(", ");
}
