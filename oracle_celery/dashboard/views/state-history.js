/**
 * How a task came to where it is: a bar in proportion (hatched: waiting, solid: working) and one line per state with
 * the next state, what is to be said of it, and the time between, as in "Pending → In progress 1.2 s".
 */

import { formatCount, formatDuration, formatElapsed, formatExactTime, formatFullTime } from "../format.js";
import { t } from "../locale.js";
import { meaningOf } from "../reasons.js";
import { showStatus } from "./glyph.js";

const OPEN_STATUSES = new Set(["pending", "in_progress"]);
/** What a state says by itself already. */
const USUAL_REASONS = Object.freeze({ in_progress: "started" });
/** What somebody did: a sentence with a name. The others are words that can be looked for, with what they mean. */
const TOLD_REASONS = new Set(["sent", "received", "retry_scheduled"]);
const LABEL_SHARE = 0.13; // of the bar's width that a duration needs to be written into its part

/** @param {HTMLElement} element */
export function StateHistory(element) {
  const bar = element.querySelector(".state-history__bar");
  const scale = [...element.querySelector(".state-history__scale").children];
  const deleted = element.querySelector(".state-history__deleted");
  const lines = element.querySelector(".state-history__lines");
  const template = document.querySelector("#state-line");

  /** `deletedUntil`: what was told before is no longer there; null where the history is whole. */
  function update({ entries, now, isKnown, deletedUntil = null }) {
    element.hidden = !isKnown || (entries.length === 0 && deletedUntil === null);
    if (element.hidden) return;
    deleted.hidden = deletedUntil === null;
    deleted.textContent = deletedUntil === null ? "" : t("history.deleted", { date: formatFullTime(deletedUntil) });
    for (const part of [bar, bar.nextElementSibling, lines]) part.hidden = entries.length === 0;
    if (entries.length === 0) return;
    const spans = measured(entries, now);
    updateBar(spans);
    updateScale(spans);
    updateLines(spans);
  }

  function updateBar(spans) {
    const parts = joined(spans);
    const total = parts.reduce((sum, part) => sum + part.seconds, 0);
    const last = spans.at(-1);
    bar.replaceChildren(
      ...parts.map((part) => {
        const block = document.createElement("span");
        block.className = "state-history__part";
        block.dataset.status = part.status;
        block.classList.toggle("is-open", part.isOpen);
        block.style.flexGrow = String(growth(part.seconds, total));
        if (part.seconds >= total * LABEL_SHARE) block.textContent = told(part);
        return block;
      }),
    );
    const end = template.content.querySelector(".glyph").cloneNode(true);
    const holder = document.createElement("span");
    holder.className = "state-history__end";
    holder.append(end);
    showStatus(holder, null, last.status);
    bar.append(holder);
    bar.hidden = parts.length === 0;
  }

  function updateScale(spans) {
    const [first, last] = [spans[0], spans.at(-1)];
    const total = spans.reduce((sum, span) => sum + (span.seconds ?? 0), 0);
    const work = spans.reduce((sum, span) => sum + (span.status === "in_progress" ? span.seconds : 0), 0);
    const values = { total: formatDuration(total), work: formatDuration(work) };
    scale[0].textContent = formatExactTime(first.at).slice(0, 8);
    scale[1].textContent = t(work > 0 ? "history.total" : "history.waiting", values);
    scale[2].textContent = last.isOpen ? t("history.now") : formatExactTime(last.at).slice(0, 8);
  }

  function updateLines(spans) {
    while (lines.childElementCount > spans.length) lines.lastElementChild.remove();
    while (lines.childElementCount < spans.length) lines.append(template.content.cloneNode(true));
    spans.forEach((span, at) => updateLine(lines.children[at], span, spans[at + 1]));
  }

  function updateLine(line, span, next) {
    showStatus(line, line.querySelector(".state-line__word"), span.status);
    line.querySelector(".state-line__next").textContent = next ? ` → ${t(`status.${next.status}`)}` : "";
    line.querySelector(".state-line__duration").textContent = span.seconds === null ? "" : told(span);
    const at = line.querySelector(".state-line__at");
    at.textContent = formatExactTime(span.at);
    at.dateTime = span.at;
    at.title = formatFullTime(span.at);
    const said = line.querySelector(".state-line__note");
    said.textContent = note(span);
    said.title = said.textContent;
  }

  return { update };
}

/** Every entry with the seconds it lasted; the last one of a task that goes on lasts until now. */
export function measured(entries, now) {
  return entries.map((entry, at) => {
    const isLast = at === entries.length - 1;
    const isOpen = isLast && OPEN_STATUSES.has(entry.status);
    const seconds = isOpen ? Math.max(0, Math.floor((now - Date.parse(entry.at)) / 1000)) : entry.duration;
    return { ...entry, isOpen, seconds: isLast && !isOpen ? null : Math.max(0, seconds ?? 0) };
  });
}

/** Of the bar's width, in hundredths and at least one: a sum below 1 would leave the bar unfilled, however short the task. */
function growth(seconds, total) {
  return total > 0 ? Math.max(1, (seconds / total) * 100) : 1;
}

/** Neighbours of one status are one part of the bar; an end takes no time. */
function joined(spans) {
  const parts = [];
  for (const span of spans) {
    if (span.seconds === null) continue;
    const last = parts.at(-1);
    if (last?.status === span.status) Object.assign(last, { seconds: last.seconds + span.seconds, isOpen: span.isOpen });
    else parts.push({ status: span.status, seconds: span.seconds, isOpen: span.isOpen });
  }
  return parts;
}

/** What goes on is told in whole seconds: it ticks. */
function told({ seconds, isOpen }) {
  return isOpen ? formatElapsed(seconds) : formatDuration(seconds);
}

function note(span) {
  const attempt = span.status === "in_progress" && span.retries > 0;
  const isUsual = span.reason === USUAL_REASONS[span.status];
  const who = OPEN_STATUSES.has(span.status) ? (span.worker ?? span.origin) : null;
  const isTold = TOLD_REASONS.has(span.reason) && who;
  return [
    attempt ? t("task.attempt", { formatted: formatCount(span.retries + 1) }) : null,
    isTold ? t(`history.${span.reason}`, { who }) : isUsual ? null : explained(span.reason),
    span.error_type && span.error_type !== span.reason ? span.error_type : null,
    isTold ? null : who,
  ]
    .filter(Boolean)
    .join(" · ");
}

function explained(reason) {
  const meaning = meaningOf(reason);
  return meaning ? `${reason}: ${meaning}` : reason;
}
