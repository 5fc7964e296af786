/**
 * What celery beat sends and when: the last run and what became of it, the next one, what was missed, and twelve hours
 * on either side of now on one line. A beat that has fallen silent is told first: then nothing comes next.
 */

import { formatExact } from "../exact-json.js";
import { formatCount, formatElapsed, formatExactTime, formatFullTime, formatTime, UNKNOWN } from "../format.js";
import { currentLocale, t } from "../locale.js";
import { hashOf } from "../route.js";
import { beatOf, countMissed, missedNow, timeline } from "../schedule.js";
import { scheduleWords } from "../schedule-words.js";
import { showStatus } from "./glyph.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { Page } from "./page.js";
import { showName } from "./task-name.js";

const DAY = 86_400; // seconds
const SOON = 3600; // seconds: nearer than that the time until is told, not the clock
const LINE_BREAK = /\n\s*/g; // no JSON string holds one
const LINE_STEP = 30_000; // ms: how often the line moves on

/** @param {HTMLElement} element */
export function SchedulePage(element) {
  const page = Page(element);
  const notice = element.querySelector(".schedule__beat");
  const table = element.querySelector(".page__table");
  const rows = KeyedList(element.querySelector("tbody"), EntryRow);

  function update({ state, now }) {
    const { told, error } = state.schedule;
    const isShown = state.route.page === "schedule";
    const isEmpty = told !== null && told.entries.length === 0;
    if (!page.update({ isShown, error, isEmpty, connection: state.connection })) return;
    if (told === null) {
      page.summary.textContent = error === null ? t("list.loading") : "";
      return;
    }
    const beat = beatOf(told);
    page.summary.textContent = summary(told.entries);
    page.empty.textContent = t(beat.kind === "none" ? "schedule.none" : "schedule.empty");
    table.hidden = isEmpty;
    showBeat(beat, now);
    const isAlive = beat.kind === "alive" || beat.kind === "several";
    const step = Math.floor(now / LINE_STEP) * LINE_STEP;
    rows.update(told.entries.map((entry) => [entry.name, entry, isAlive, nextText(entry, isAlive, now), step]));
  }

  function showBeat({ kind, beat, count }, now) {
    notice.hidden = kind === "none";
    if (notice.hidden) return;
    notice.dataset.kind = kind;
    const [use, words, detail] = [notice.querySelector("use"), notice.querySelector("strong"), notice.querySelector("span")];
    use.setAttribute("href", kind === "alive" ? "#connection-live" : "#icon-warning");
    const since = { since: formatElapsed((now - Date.parse(beat.beat_at)) / 1000), at: formatTime(beat.gone_at ?? beat.beat_at) };
    words.textContent = t(`schedule.beat.${kind}`, { count, formatted: formatCount(count), ...since });
    const where = beat.node ? t("schedule.beat.in_worker", { node: beat.node }) : beat.origin;
    detail.textContent = [where, beat.scheduler].join(" · ");
    detail.title = t("schedule.beat.started", { at: formatFullTime(beat.started_at) });
  }

  return { update, focus: page.focus };
}

function summary(entries) {
  const missed = countMissed(entries);
  const values = { count: entries.length, formatted: formatCount(entries.length) };
  const told = t("schedule.summary", values);
  return missed === 0 ? told : `${told}, ${t("schedule.summary.missed", { count: missed, formatted: formatCount(missed) })}`;
}

/** What comes next, as it is told at this moment: it counts down. */
function nextText({ next_at: next }, isAlive, now) {
  if (next === null || !isAlive) return UNKNOWN;
  const seconds = (Date.parse(next) - now) / 1000;
  if (seconds <= 0) return t("schedule.now");
  return seconds < SOON ? t("schedule.in", { duration: formatElapsed(seconds) }) : clock(next, now);
}

function EntryRow() {
  const element = copyOf("schedule-row");
  const [name, when, line, last, next] = element.cells;
  const words = when.querySelector("span");
  const notes = when.querySelector("small");
  const marks = line.querySelector(".schedule-line__marks");
  const link = last.querySelector("a");

  function update(entry, isAlive, nextTold, now) {
    showName(name, entry.name);
    const [task, given] = name.querySelectorAll("small");
    task.textContent = entry.task === entry.name ? "" : (entry.task ?? "");
    given.textContent = entry.arguments ? formatExact(entry.arguments).replaceAll(LINE_BREAK, " ") : "";
    given.title = given.textContent;
    const { text, isCode } = scheduleWords(entry.schedule);
    words.textContent = text;
    words.classList.toggle("is-code", isCode);
    notes.textContent = noteOf(entry);
    element.classList.toggle("is-idle", !isAlive);
    drawLine(entry, now);
    showLast(entry, now);
    next.textContent = nextTold;
    next.title = isAlive ? formatFullTime(entry.next_at) : t("schedule.next.silent");
  }

  function noteOf({ zone, queue, schedule, total_runs: total }) {
    const ours = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const isElsewhere = schedule.kind === "crontab" && zone !== null && zone !== ours;
    return [
      isElsewhere ? zone : "",
      queue ? t("schedule.queue", { queue }) : "",
      total > 0 ? t("schedule.runs", { count: total, formatted: formatCount(total) }) : "",
    ].filter(Boolean).join(" · ");
  }

  function showLast(entry, now) {
    const missed = missedNow(entry);
    const run = entry.last_run;
    last.dataset.kind = missed ? "missed" : run ? "run" : "none";
    const use = last.querySelector("use");
    link.removeAttribute("href");
    link.title = "";
    delete last.dataset.status;
    if (missed) {
      use.setAttribute("href", "#icon-warning");
      link.textContent = t("schedule.missed", { at: clock(missed, now) });
      link.title = formatFullTime(missed);
    } else if (run) {
      if (run.status) showStatus(last, null, run.status);
      else use.setAttribute("href", "");
      link.textContent = clock(run.at, now);
      link.title = `${run.status ? t(`status.${run.status}`) : t("schedule.run.unknown")}, ${formatFullTime(run.at)}`;
      link.href = hashOf("tasks", run.task_id);
    } else {
      use.setAttribute("href", "");
      link.textContent = UNKNOWN;
    }
    last.querySelector("small").textContent = missed && run ? t("schedule.last", { at: clock(run.at, now) }) : "";
  }

  function drawLine(entry, now) {
    const { bands, ticks } = timeline(entry, now);
    marks.replaceChildren(...bands.map(bandOf), ...ticks.map(tickOf));
    line.firstElementChild.setAttribute("aria-label", spoken(entry));
  }

  return { element, update };
}

function bandOf({ from, to, isAhead }) {
  const band = document.createElement("i");
  band.className = "schedule-line__band";
  band.dataset.kind = isAhead ? "due" : "run";
  band.style.setProperty("--from", from);
  band.style.setProperty("--to", to);
  return band;
}

function tickOf({ at, kind, iso, status, taskId }) {
  const tick = document.createElement(taskId ? "a" : "i");
  tick.className = "schedule-line__tick";
  tick.dataset.kind = kind;
  if (status) tick.dataset.status = status;
  if (taskId) {
    tick.href = hashOf("tasks", taskId);
    tick.tabIndex = -1; // the last run is a link of its own; the others are in the list of tasks
  }
  tick.title = t(`schedule.tick.${kind}`, { at: formatFullTime(iso), status: status ? t(`status.${status}`) : "" });
  tick.style.setProperty("--at", at);
  return tick;
}

function spoken({ runs, due, missed }) {
  const count = (key, list) => t(key, { count: list.length, formatted: formatCount(list.length) });
  return [count("schedule.line.runs", runs), count("schedule.line.missed", missed), count("schedule.line.due", due)].join(", ");
}

/** The clock within a day, the date too beyond. */
function clock(iso, now) {
  const seconds = Math.abs(Date.parse(iso) - now) / 1000;
  if (Number.isNaN(seconds)) return UNKNOWN; // no calendar of a browser goes that far
  const time = formatExactTime(iso).slice(0, 8);
  if (seconds < DAY && new Date(iso).toDateString() === new Date(now).toDateString()) return time;
  const isTomorrow = new Date(now + DAY * 1000).toDateString() === new Date(iso).toDateString();
  if (isTomorrow) return t("schedule.tomorrow", { at: time.slice(0, 5) });
  const day = new Intl.DateTimeFormat(currentLocale(), { day: "numeric", month: "short" }).format(new Date(iso));
  return `${day}, ${time.slice(0, 5)}`;
}
