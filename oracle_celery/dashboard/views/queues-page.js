/**
 * Every queue, those whose names begin alike together: what waits and how long, how fast it comes and goes, who consumes it, who paused it and why, and which
 * workers have taken that over. Asks with `pauseQueue` and `resumeQueue` {queue}; "*" stands for all; and with
 * `showTasks` {queue, status}.
 */

import { confirmations, grouped, takenOver, timeToEmpty, totalWaiting } from "../fleet.js";
import { UNKNOWN, formatCount, formatElapsed, formatRate, formatTime } from "../format.js";
import { t } from "../locale.js";
import { hashOf } from "../route.js";
import { isAdmin, seesEverything } from "../session.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { Page } from "./page.js";
import { Sparkline } from "./sparkline.js";

/** Glyphs of a worker's word on a pause or a resume. */
const GLYPHS = Object.freeze({ confirmed: "completed", waiting: "pending", unreachable: "failed", gone: "cancelled" });

/** @param {HTMLElement} element */
export function QueuesPage(element) {
  const page = Page(element);
  const groups = KeyedList(element.querySelector(".queue-groups"), QueueGroup);
  const buttons = [...element.querySelectorAll("[data-everything]")];

  for (const button of buttons) {
    button.addEventListener("click", () => {
      const detail = { queue: "*" };
      element.dispatchEvent(new CustomEvent(`${button.dataset.everything}Queue`, { bubbles: true, detail }));
    });
  }

  function update({ state, now }) {
    const { queues, everythingPaused, error } = state.fleet;
    const isEmpty = queues?.length === 0;
    const isShown = state.route.page === "queues";
    if (!page.update({ isShown, error, isEmpty, connection: state.connection })) return;
    const values = { count: queues?.length ?? 0, formatted: formatCount(queues?.length), waiting: formatCount(totalWaiting(queues ?? [])) };
    page.summary.textContent = queues === null ? t("list.loading") : t("queues.summary", values);
    page.empty.textContent = t("queues.none");
    for (const button of buttons) {
      const isMeant = button.dataset.everything === "resume" ? everythingPaused !== null : everythingPaused === null;
      button.hidden = !isAdmin(state) || !isMeant || queues === null;
    }
    const { trends } = state.fleet;
    const shown = { now, mayPause: isAdmin(state), seesAll: seesEverything(state), trends };
    groups.update(grouped(queues ?? []).map((group) => [group.prefix ?? "", group, shown]));
  }

  return { update, focus: page.focus };
}

/** A head with what its queues sum up to, which pauses or resumes them all, and their cards; those that stand alone have none. */
function QueueGroup() {
  const element = copyOf("queue-group");
  const head = element.querySelector("header");
  const button = head.querySelector("button");
  const cards = KeyedList(element.querySelector(".queue-cards"), () => QueueCard({ isBelowHead: group.prefix !== null }));
  let group = null;

  button.addEventListener("click", () => {
    const action = isHeld(group) ? "resumeQueue" : "pauseQueue";
    element.dispatchEvent(new CustomEvent(action, { bubbles: true, detail: { queue: `${group.prefix}*` } }));
  });

  function update(told, { trends, ...shown }) {
    group = told;
    const { prefix, queues } = group;
    head.hidden = prefix === null;
    if (prefix !== null) showHead(shown.mayPause);
    cards.update(queues.map((queue) => [queue.name, queue, { ...shown, waited: trends.get(queue.name) ?? null }]));
  }

  function showHead(mayPause) {
    const { prefix, queues } = group;
    const name = `${prefix}*`;
    head.querySelector("h3").textContent = name;
    const values = { count: queues.length, formatted: formatCount(queues.length), waiting: formatCount(totalWaiting(queues)) };
    head.querySelector("p").textContent = t("queues.summary", values);
    button.hidden = !mayPause;
    button.querySelector("use").setAttribute("href", isHeld(group) ? "#icon-play" : "#icon-pause");
    button.querySelector("span").textContent = t(isHeld(group) ? "queue.resume_group" : "queue.pause_group");
    button.setAttribute("aria-label", `${button.textContent.trim()}: ${name}`);
  }

  return { element, update };
}

/** Whether every queue of it is paused. */
function isHeld({ queues }) {
  return queues.every((queue) => queue.paused);
}

function QueueCard({ isBelowHead }) {
  const element = copyOf("queue-card");
  if (isBelowHead) lowerHeading(element.querySelector(".queue-card__name"));
  const button = element.querySelector("header > .button");
  const title = element.querySelector(".queue-card__tasks");
  const note = element.querySelector(".queue-card__note");
  const picture = element.querySelector("svg.queue-card__line");
  const line = Sparkline(picture);
  const stranded = element.querySelector(".queue-card__stranded");
  const workers = KeyedList(element.querySelector(".queue-card__workers"), QueueWorker);
  let queue = null;

  button.addEventListener("click", () => {
    const action = queue.paused ? "resumeQueue" : "pauseQueue";
    const name = queue.paused?.everything ? "*" : queue.name;
    element.dispatchEvent(new CustomEvent(action, { bubbles: true, detail: { queue: name } }));
  });

  title.addEventListener("click", () => {
    const detail = { queue: queue.name, status: "pending" };
    element.dispatchEvent(new CustomEvent("showTasks", { bubbles: true, detail }));
  });

  function update(shown, { now, mayPause, seesAll, waited }) {
    queue = shown;
    element.dataset.state = queue.paused ? "paused" : queue.is_stranded ? "stranded" : "flowing";
    title.textContent = queue.name;
    title.title = t("queue.tasks", { name: queue.name });
    button.hidden = !mayPause;
    button.classList.toggle("button--main", Boolean(queue.paused));
    button.querySelector("use").setAttribute("href", queue.paused ? "#icon-play" : "#icon-pause");
    button.querySelector("span").textContent = t(queue.paused ? "queue.resume" : "queue.pause");
    button.setAttribute("aria-label", `${button.textContent.trim()}: ${queue.name}`);
    showFigures(now);
    picture.toggleAttribute("hidden", !seesAll); // nobody else is told
    line.update(waited);
    note.hidden = !queue.paused;
    if (queue.paused) showPause();
    stranded.hidden = !queue.is_stranded;
    stranded.querySelector("span").textContent = t(queue.paused ? "queue.stranded.paused" : "queue.stranded");
    showFact("flow", flowText(queue.flow));
    showFact("consumers", servedText(queue));
    showFact("empty", emptyText(queue));
    showFact("depth", formatCount(queue.depth), queue.depth_error);
    element.querySelector('[data-fact="depth"]').hidden = !seesAll;
    workers.update(takenOver(queue).map((worker) => [worker.node, worker, Boolean(queue.paused)]));
  }

  function showFigures(now) {
    const [waiting, oldest] = element.querySelectorAll("[data-figure]");
    waiting.textContent = formatCount(queue.waiting);
    waiting.nextElementSibling.textContent = t("queue.waiting");
    const since = queue.oldest_waiting_at === null ? null : (now - Date.parse(queue.oldest_waiting_at)) / 1000;
    oldest.textContent = since === null ? UNKNOWN : formatElapsed(since);
    const link = oldest.nextElementSibling.querySelector("a");
    link.textContent = t("queue.oldest");
    if (queue.oldest_waiting_id) link.href = hashOf("tasks", queue.oldest_waiting_id);
    else link.removeAttribute("href");
  }

  function showPause() {
    const { by, at, reason, until, everything } = queue.paused;
    const { confirmed, total } = confirmations(takenOver(queue));
    note.querySelector("strong").textContent = t(everything ? "queue.note.everything" : "queue.note", { by, at: formatTime(at) });
    note.querySelector("p").textContent = [
      reason ? t("waiting.because", { reason }) : "",
      total > 0 ? t("queue.note.held", { confirmed: formatCount(confirmed), total: formatCount(total) }) : "",
      until ? t("queue.note.until", { at: formatTime(until) }) : t("queue.note.stays"),
    ].filter(Boolean).join(" ");
  }

  /** With what keeps the number from being known. */
  function showFact(name, text, problem = null) {
    const place = element.querySelector(`[data-fact="${name}"] dd`);
    place.textContent = text;
    place.title = problem ?? "";
    place.classList.toggle("is-warning", problem !== null);
  }

  return { element, update };
}

/** A name below the head of its group is one level deeper in the page's outline. */
function lowerHeading(heading) {
  const lower = document.createElement("h4");
  lower.className = heading.className;
  lower.append(...heading.childNodes);
  heading.replaceWith(lower);
}

function flowText({ arrived, finished }) {
  const values = { arrived: formatRate(arrived), finished: formatRate(finished) };
  return t(arrived === null ? "queue.flow.out" : "queue.flow.both", values);
}

/** "3 workers, 48 slots"; where the broker counts others than the workers that are known, its number alone. */
function servedText({ consumers, workers }) {
  const consuming = workers.filter((worker) => worker.is_consuming && worker.state === "alive");
  if (consuming.length !== consumers || consumers === 0) return formatCount(consumers);
  const slots = consuming.reduce((sum, worker) => sum + worker.slots, 0);
  return t("queue.served", {
    workers: t("queue.workers", { count: consumers, formatted: formatCount(consumers) }),
    slots: t("queue.slots", { count: slots, formatted: formatCount(slots) }),
  });
}

function emptyText(queue) {
  const { state, seconds } = timeToEmpty(queue);
  return state === "emptying" ? formatElapsed(Math.max(1, seconds)) : t(`queue.empty.${state}`);
}

function QueueWorker() {
  const element = copyOf("queue-worker");
  const [node, word] = element.querySelectorAll("span");

  function update(worker, isPaused) {
    element.dataset.state = worker.state;
    element.querySelector("use").setAttribute("href", `#status-${GLYPHS[worker.state] ?? "pending"}`);
    node.textContent = worker.node;
    const isFlowing = !isPaused && worker.state === "confirmed";
    word.textContent = isFlowing ? t("pause_state.consuming") : t(`pause_state.${worker.state}`, {}, worker.state);
  }

  return { element, update };
}
