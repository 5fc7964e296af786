/**
 * Why a pending task is not running: each reason in the reader's language, made from its code and facts; a code that
 * this page does not know is told in the server's own words. Asks with `resumeQueue` {queue} where a pause is the
 * reason and the reader may end it.
 */

import { formatCount, formatElapsed, formatTime } from "../format.js";
import { t } from "../locale.js";
import { KeyedList, copyOf } from "./keyed-list.js";

/** What holds for long stands out, each by its shape; everything else is a note. */
const SHAPES = Object.freeze({
  cancelled: "status-cancelled",
  expired: "status-cancelled",
  queue_paused: "icon-pause",
  no_consumer: "icon-warning",
  holder_gone: "icon-warning",
});

const SENTENCES = Object.freeze({
  cancelled: ({ by, reason }) => [t("waiting.cancelled", { by }), because(reason)],
  expired: ({ expires }) => [t("waiting.expired", { at: formatTime(expires) })],
  retry_scheduled: (reason) => [t("waiting.retry_scheduled", due(reason)), heldBy(reason)],
  eta: (reason) => [t("waiting.eta", due(reason)), heldBy(reason)],
  queue_paused: ({ queue, by, at, reason, until, everything }) => [
    t(everything ? "waiting.all_paused" : "waiting.queue_paused", { queue, by, at: formatTime(at) }),
    because(reason),
    until ? t("waiting.until", { at: formatTime(until) }) : "",
  ],
  no_consumer: ({ queue, configured, last_worker: worker, last_at: at }) => [
    t("waiting.no_consumer", { queue }),
    configured.length > 0 ? t("waiting.configured", { workers: configured.join(", ") }) : "",
    configured.length === 0 && worker ? t("waiting.last_worker", { worker, at: formatTime(at) }) : "",
  ],
  holder_gone: ({ worker, at }) => [t("waiting.holder_gone", { worker, at: formatTime(at) })],
  rate_limited: ({ name, rate_limit: limit }) => [t("waiting.rate_limited", { name, limit })],
  slots_busy: ({ slots, workers, ahead, at_least: isMore, of, free_workers: free }) => [
    t("waiting.slots_busy", { count: slots, formatted: formatCount(slots), workers: workers.join(", ") }),
    ahead > 0 ? inFront(ahead, isMore, of) : "",
    free.length > 0 ? t("waiting.free_elsewhere", { workers: free.join(", ") }) : "",
  ],
  in_line: ({ ahead, at_least: isMore, of }) => [inFront(ahead, isMore, of)],
  given_back: ({ worker }) => [worker ? t("waiting.given_back", { worker }) : t("waiting.given_back.unknown")],
  held: ({ worker }) => [t("waiting.held", { worker })],
  unknown: ({ seconds }) => [t("waiting.unknown", { duration: formatElapsed(seconds) })],
});

/** @param {{code: string, message: string}} reason with its facts */
export function sentenceOf(reason) {
  const sentences = SENTENCES[reason.code]?.(reason) ?? [reason.message];
  return sentences.filter(Boolean).join(" ");
}

/** @param {HTMLElement} element */
export function WaitingReasons(element) {
  const reasons = KeyedList(element.querySelector("ul"), Reason);
  const act = element.querySelector(".waiting-reasons__act");
  let queue = null;

  act.querySelector("button").addEventListener("click", () => {
    element.dispatchEvent(new CustomEvent("resumeQueue", { bubbles: true, detail: { queue } }));
  });

  function update({ task, waiting, isAdmin }) {
    const told = task.status === "pending" ? (waiting?.reasons ?? []) : [];
    element.hidden = told.length === 0;
    element.classList.toggle("is-held", told.some((reason) => reason.code in SHAPES));
    reasons.update(told.map((reason, at) => [`${at} ${reason.code}`, reason]));
    const pause = told.find((reason) => reason.code === "queue_paused");
    queue = pause?.everything ? "*" : pause?.queue;
    act.hidden = !isAdmin || pause === undefined;
  }

  return { update };
}

function Reason() {
  const element = copyOf("waiting-reason");

  function update(reason) {
    const shape = SHAPES[reason.code];
    element.classList.toggle("is-cause", shape !== undefined);
    element.querySelector("use").setAttribute("href", `#${shape ?? "icon-sort"}`);
    element.querySelector("span").textContent = sentenceOf(reason);
  }

  return { element, update };
}

function because(reason) {
  return reason ? t("waiting.because", { reason }) : "";
}

function due({ eta, seconds }) {
  return { at: formatTime(eta), duration: formatElapsed(seconds) };
}

function heldBy({ worker }) {
  return worker ? t("waiting.held_by", { worker }) : "";
}

function inFront(ahead, isMore, of) {
  const values = { count: ahead, formatted: isMore ? `> ${formatCount(ahead)}` : formatCount(ahead) };
  return t(of === "all" ? "waiting.in_line" : "waiting.in_line.own", values);
}
