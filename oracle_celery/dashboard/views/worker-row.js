/** One worker of the workers page: its line, and what the line opens on. */

import { busySlots, elapsed, isOverdue, oddVersions } from "../fleet.js";
import { UNKNOWN, formatBytes, formatCount, formatElapsed, formatFullTime, formatPercent, formatTime, shortId } from "../format.js";
import { t } from "../locale.js";
import { hashOf } from "../route.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { showName } from "./task-name.js";

const DRAWN_SLOTS = 32; // squares; a larger pool is told as a number
const VERSION_NAMES = Object.freeze({ __proto__: null, python: "Python", celery: "Celery", oracle: "Oracle" });

/** @param {Iterable<[string, string]>} versions @returns {string} "Python 3.13.1, Celery 5.7.0" */
export function versionText(versions) {
  const order = Object.keys(VERSION_NAMES);
  const sorted = [...versions].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  return sorted.map(([name, version]) => `${VERSION_NAMES[name] ?? name} ${version}`).join(", ");
}

export function WorkerRow() {
  const element = copyOf("worker-row");
  const [line, detail] = element.rows;
  const [head, life, slots, longest, queues, pool, cpu, memory, beat, up] = line.cells;
  const toggle = head.querySelector("button");
  const odd = head.querySelector(".tag");
  const more = WorkerDetail(detail.querySelector(".worker-detail"));

  /** @param {Map<string, string>} usual versions by name @param {Map<string, number>} runtimes seconds, of most by name */
  function update(worker, now, isOpen, usual, runtimes) {
    element.dataset.state = worker.state;
    element.dataset.workerId = worker.worker_id;
    toggle.querySelector("span").textContent = worker.node;
    toggle.setAttribute("aria-expanded", String(isOpen));
    const unusual = oddVersions(worker, usual);
    odd.hidden = unusual.length === 0;
    odd.textContent = versionText(unusual);
    odd.title = t("worker.odd", { versions: versionText(usual) });
    life.querySelector("span").textContent = lifeText(worker, now);
    drawSlots(slots.firstElementChild, worker, now, runtimes);
    showLongest(longest, worker, now, runtimes);
    const consumed = queueText(worker);
    queues.firstElementChild.textContent = consumed;
    queues.title = consumed;
    pool.textContent = worker.pool ?? UNKNOWN;
    showLoad(worker);
    const isHere = worker.state === "alive" || worker.state === "silent";
    beat.textContent = isHere && worker.beat_at !== null ? formatElapsed((now - Date.parse(worker.beat_at)) / 1000) : UNKNOWN;
    beat.title = formatFullTime(worker.beat_at);
    const until = worker.gone_at === null ? now : Date.parse(worker.gone_at);
    const lived = formatElapsed((until - Date.parse(worker.started_at)) / 1000);
    up.textContent = isHere ? lived : t("worker.ran", { duration: lived });
    up.title = formatFullTime(worker.started_at);
    detail.hidden = !isOpen;
    if (isOpen) more.update(worker, now, { usual, runtimes });
  }

  function showLoad({ state, cpu: cores, memory: bytes, concurrency }) {
    const isKnown = state === "alive" && typeof cores === "number";
    const bar = cpu.querySelector("progress");
    const { value, unit } = formatPercent(isKnown ? Math.round(cores * 100) : null);
    cpu.querySelector("span").textContent = unit ? `${value.replace(/[.,]0$/, "")}\u00a0${unit}` : value;
    cpu.title = isKnown ? t("worker.cpu.means") : "";
    bar.hidden = !isKnown;
    bar.value = isKnown ? Math.min(1, cores / Math.max(1, concurrency ?? 1)) : 0; // of a core for each slot
    memory.textContent = state === "alive" ? formatBytes(bytes) : UNKNOWN;
    memory.title = state === "alive" && typeof bytes === "number" ? t("worker.memory.means") : "";
  }

  return { element, update };
}

/** "silent 38 s", "stopped 09:12:03" */
function lifeText({ state, beat_at: beatAt, gone_at: goneAt }, now) {
  const word = t(`worker_state.${state}`, {}, state);
  if (state === "silent") return `${word} ${formatElapsed((now - Date.parse(beatAt)) / 1000)}`;
  return goneAt === null || goneAt === undefined ? word : `${word} ${formatTime(goneAt)}`;
}

function drawSlots(place, worker, now, runtimes) {
  const { state, concurrency, running = [] } = worker;
  const busy = busySlots(worker);
  const isKnown = state === "alive" && typeof concurrency === "number" && busy !== null;
  const total = isKnown && concurrency <= DRAWN_SLOTS ? concurrency : 0;
  while (place.childElementCount > total) place.lastElementChild.remove();
  while (place.childElementCount < total) place.append(document.createElement("i"));
  const late = running.filter((task) => isOverdue(task, runtimes, now)).length;
  [...place.children].forEach((slot, at) => {
    slot.classList.toggle("is-busy", at < busy);
    slot.classList.toggle("is-overdue", at < late); // the longest come first
    slot.title = at < busy && running[at] ? `${running[at].name ?? running[at].task_id}, ${elapsedText(running[at], now)}` : "";
  });
  place.setAttribute("aria-label", slotText(worker, busy, late));
  place.dataset.told = total === 0 ? slotText(worker, busy, late) : "";
}

function slotText({ state, concurrency, running = [] }, busy, late) {
  if (state === "stopped" || state === "lost") return t("worker.slots.none");
  if (busy === null) return t("worker.slots.own", { count: running.length, formatted: formatCount(running.length) });
  if (state !== "alive" || typeof concurrency !== "number") return UNKNOWN;
  const told = t("worker.slots.told", { busy: formatCount(busy), slots: formatCount(concurrency) });
  return late === 0 ? told : `${told}, ${t("worker.slots.late", { count: late, formatted: formatCount(late) })}`;
}

/** The task that it has run for the longest; of a worker that is silent or lost, what that means for its tasks. */
function showLongest(cell, worker, now, runtimes) {
  const { state, node, running = [], lost_tasks: lost } = worker;
  const [link, time, fate, button] = cell.children;
  const task = state === "alive" ? running[0] : undefined;
  link.hidden = time.hidden = task === undefined;
  if (task !== undefined) {
    link.href = hashOf("tasks", task.task_id);
    showName(link, task.name);
    time.textContent = elapsedText(task, now);
    time.classList.toggle("is-overdue", isOverdue(task, runtimes, now));
    time.title = time.classList.contains("is-overdue") ? t("worker.overdue", { duration: formatElapsed(runtimes.get(task.name)) }) : "";
  }
  const isFateful = state === "silent" && running.length > 0;
  fate.hidden = task !== undefined || lost > 0;
  fate.textContent = isFateful ? t("worker.fate.silent", { count: running.length, formatted: formatCount(running.length) }) : UNKNOWN;
  fate.classList.toggle("is-overdue", isFateful);
  button.hidden = !(lost > 0);
  button.textContent = lost > 0 ? t("worker.fate.lost", { count: lost, formatted: formatCount(lost) }) : "";
  button.dataset.show = JSON.stringify({ worker: node, status: "failed", reason: "worker_lost" });
}

function elapsedText(task, now) {
  const seconds = elapsed(task, now);
  return seconds === null ? UNKNOWN : formatElapsed(seconds);
}

/** What it consumes; a queue that it is to consume and does not is said so, and before the others. */
function queueText({ queues, consuming }) {
  if (consuming === null || consuming === undefined) return (queues ?? []).join(", ") || UNKNOWN;
  const idle = (queues ?? []).filter((queue) => !consuming.includes(queue));
  const told = [...idle.map((queue) => t("worker.not_consuming", { queue })), ...consuming];
  return told.join(", ") || UNKNOWN;
}

function WorkerDetail(element) {
  const tasks = KeyedList(element.querySelector("ul"), RunningTask);
  const none = element.querySelector(".worker-detail__none");
  const facts = element.querySelector("dl");
  const all = element.querySelector("[data-show]");

  function update(worker, now, { usual, runtimes }) {
    const { node, running = [], state } = worker;
    tasks.update(running.map((task) => [task.task_id, task, now, isOverdue(task, runtimes, now)]));
    const further = (busySlots(worker) ?? 0) - running.length;
    const isCut = state === "alive" && further > 0;
    none.hidden = running.length > 0 && !isCut;
    none.textContent = running.length === 0 && !isCut ? t("worker.running.none") : t("worker.running.more", { count: further, formatted: formatCount(further) });
    const fact = (name, text) => (facts.querySelector(`[data-fact="${name}"]`).textContent = text || UNKNOWN);
    fact("queues", queueText(worker));
    fact("versions", versionText(Object.entries(worker.versions ?? {})));
    fact("limits", Object.entries(worker.rate_limits ?? {}).map(([name, limit]) => `${name} ${limit}`).join(", "));
    fact("pool", poolText(worker));
    fact("held", worker.state === "alive" ? formatCount(worker.reserved) : UNKNOWN);
    fact("started", formatTime(worker.started_at));
    facts.querySelector('[data-fact="versions"]').classList.toggle("is-overdue", oddVersions(worker, usual).length > 0);
    all.dataset.show = JSON.stringify({ worker: node });
  }

  return { update };
}

function poolText({ pool, concurrency, interruptible }) {
  const size = typeof concurrency === "number" ? t("worker.pool.size", { count: concurrency, formatted: formatCount(concurrency) }) : "";
  return [pool ?? UNKNOWN, size, interruptible === false ? t("worker.cooperative") : ""].filter(Boolean).join(", ");
}

function RunningTask() {
  const element = copyOf("worker-task");
  const [link, id, user, time] = element.querySelectorAll("a, code, span.worker-task__user, span.worker-task__time");

  function update(task, now, isLate) {
    link.href = hashOf("tasks", task.task_id);
    showName(link, task.name);
    id.textContent = shortId(task.task_id);
    id.title = task.task_id;
    user.textContent = task.user_id ?? "";
    time.textContent = elapsedText(task, now);
    time.classList.toggle("is-overdue", isLate);
  }

  return { element, update };
}
