/**
 * Failures in groups, one row each: what fails, when, how often, whom it hurts; opened, where in the code and which
 * tasks. Every count leads to its tasks. Asks with `filterTasks` {q} and `retryGroup` {fingerprint}.
 */

import { SPANS, axisTimes, groupQuery, largestMark, placedMarks, rangeOf, rangeParameters, shownGroups } from "../failures.js";
import { formatClock, formatCount, formatFullTime, formatTime, shortId } from "../format.js";
import { t } from "../locale.js";
import { hashOf } from "../route.js";
import { mayControl, seesEverything } from "../session.js";
import { readErrorText } from "./error-text.js";
import { showStatus } from "./glyph.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { Page } from "./page.js";
import { showName } from "./task-name.js";

/** @param {HTMLElement} element */
export function FailuresPage(element) {
  const page = Page(element);
  const table = element.querySelector(".failures");
  const axis = KeyedList(element.querySelector(".failures__axis"), AxisTime);
  const groups = KeyedList(table, Group);
  const cut = element.querySelector(".failures__cut");
  const ranges = [...element.querySelectorAll("[data-range]")];

  element.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-q]");
    const isPlain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
    if (link === null || !isPlain) return;
    event.preventDefault();
    element.dispatchEvent(new CustomEvent("filterTasks", { bubbles: true, detail: { q: link.dataset.q } }));
  });

  function update({ state }) {
    const { list, detail, error } = state.failures;
    const isShown = state.route.page === "failures";
    const shown = shownGroups(state.failures);
    if (!page.update({ isShown, error, isEmpty: list !== null && shown.length === 0, connection: state.connection })) return;
    const range = rangeOf(state.route.parameters);
    page.summary.textContent = list === null ? t("list.loading") : summaryOf(list);
    page.empty.textContent = t("failures.none", { range: t(`failures.range.${range}`) });
    for (const link of ranges) showRange(link, range, state.route.id);
    table.hidden = shown.length === 0;
    element.classList.toggle("is-everybodys", seesEverything(state));
    if (list === null) return;
    cut.hidden = list.groups <= list.shown.length;
    cut.textContent = cut.hidden ? "" : t("failures.cut", { count: list.shown.length, formatted: formatCount(list.shown.length) });
    axis.update(axisTimes(list).map(({ at, time }) => [String(at), at, time, list.range]));
    const most = largestMark(shown);
    const how = { range: list.range, isWithheld: list.payloads_withheld, mayRetry: mayControl(state) };
    groups.update(
      shown.map((group) => {
        const isOpened = group.fingerprint === state.route.id;
        const told = detail?.group.fingerprint === group.fingerprint ? detail : null;
        const timing = told !== null && told.group === group ? told : list;
        return [group.fingerprint, group, timing, most, JSON.stringify(how), isOpened, isOpened ? told : null, isOpened ? state.failures.detailError : null];
      }),
    );
  }

  return { update, focus: page.focus };
}

function showRange(link, range, fingerprint) {
  const isCurrent = link.dataset.range === range;
  link.href = hashOf("failures", fingerprint, rangeParameters(link.dataset.range));
  if (isCurrent) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

/** "12,480 failures in 24 hours fall into 7 groups", and how many need a look. */
function summaryOf({ failures, groups, new: fresh, regressed, range }) {
  const values = { count: failures, formatted: formatCount(failures), groups: t("failures.groups", { count: groups, formatted: formatCount(groups) }), range: t(`failures.range.${range}`) };
  const parts = [
    failures === 0 ? "" : t("failures.summary", values),
    fresh > 0 ? t("failures.new", { count: fresh, formatted: formatCount(fresh) }) : "",
    regressed > 0 ? t("failures.regressed", { count: regressed, formatted: formatCount(regressed) }) : "",
  ];
  return parts.filter(Boolean).join(", ");
}

function AxisTime() {
  const element = document.createElement("span");

  function update(at, time, range) {
    element.style.setProperty("--at", String(at));
    const iso = new Date(time).toISOString();
    element.textContent = range === "7d" ? formatTime(iso) : formatClock(iso);
  }

  return { element, update };
}

function Group() {
  const element = copyOf("failure-group");
  const [row, more] = element.rows;
  const [what, task, marks] = row.cells;
  const opener = what.querySelector("a");
  const retry = row.querySelector("button");
  const drawnMarks = KeyedList(marks.firstElementChild, Mark);
  const frames = KeyedList(more.querySelector(".failure-frames"), FrameLine);
  const tasks = KeyedList(more.querySelector(".failure-tasks"), FailedTask);
  let fingerprint = "";

  retry.addEventListener("click", () => {
    element.dispatchEvent(new CustomEvent("retryGroup", { bubbles: true, detail: { fingerprint } }));
  });

  function update(group, timing, most, howText, isOpened, detail, error) {
    const how = JSON.parse(howText);
    fingerprint = group.fingerprint;
    element.dataset.state = group.state;
    const moreId = `failure-${fingerprint}`;
    more.id = moreId;
    opener.href = hashOf("failures", isOpened ? null : fingerprint, rangeParameters(how.range));
    opener.setAttribute("aria-expanded", String(isOpened));
    opener.setAttribute("aria-controls", moreId);
    opener.querySelector("code").textContent = group.error_type ?? t("failure.untyped");
    const message = what.querySelector("p");
    message.textContent = how.isWithheld ? t("failure.withheld") : group.message || t("failure.silent");
    message.title = message.textContent;
    message.classList.toggle("is-unknown", how.isWithheld || !group.message);
    showName(task, group.name);
    task.title = group.name ?? "";
    showMarks(group, timing, most);
    SPANS.forEach((span, at) => showCount(row.cells[3 + at].firstElementChild, group, span, timing.starts[span]));
    row.querySelector(".failure__users").textContent = formatCount(group.users);
    showSeen(group);
    retry.hidden = !how.mayRetry;
    retry.setAttribute("aria-label", t("failure.retry.label", { error: group.error_type ?? t("failure.untyped"), name: group.name ?? t("task.unnamed") }));
    more.hidden = !isOpened;
    if (isOpened) showMore(group, detail, error, how);
  }

  function showMarks(group, timing, most) {
    const place = marks.firstElementChild;
    const placed = placedMarks(group, timing, most);
    const total = placed.reduce((sum, { count }) => sum + count, 0);
    const ends = placed.length === 0 ? {} : { from: formatTime(new Date(placed[0].start).toISOString()), to: formatTime(group.last_seen) };
    place.setAttribute("aria-label", t(placed.length === 0 ? "failure.marks.none" : "failure.marks", { count: total, formatted: formatCount(total), ...ends }));
    drawnMarks.update(placed.map(({ at, size, start, count }) => [String(start), at, size, start, count, timing.step]));
  }

  function showSeen(group) {
    const [time, tag] = row.querySelector(".failure__seen").children;
    time.textContent = formatTime(group.first_seen);
    time.dateTime = group.first_seen;
    time.title = t("failure.seen", { first: formatFullTime(group.first_seen), last: formatFullTime(group.last_seen) });
    tag.hidden = group.state === "recurring";
    tag.textContent = tag.hidden ? "" : t(`failure.state.${group.state}`, {}, group.state);
  }

  function showMore(group, detail, error, how) {
    const problem = more.querySelector(".failure__problem");
    problem.hidden = error === null;
    problem.textContent = error === null ? "" : t("page.failed", { message: readErrorText(error) });
    const [first, last] = more.querySelectorAll("dd time");
    for (const [place, iso] of [[first, group.first_seen], [last, group.last_seen]]) {
      place.textContent = formatTime(iso);
      place.dateTime = iso;
      place.title = formatFullTime(iso);
    }
    const all = more.querySelector(".failure__all");
    all.dataset.q = groupQuery(group.fingerprint);
    all.href = listAddress(all.dataset.q);
    frames.update((detail?.frames ?? []).map((frame, at) => [String(at), frame]));
    more.querySelector(".failure__no-frames").hidden = detail === null || detail.frames.length > 0;
    more.querySelector(".failure__no-frames").textContent = t(how.isWithheld ? "failure.withheld" : "failure.no_frames");
    tasks.update((detail?.tasks ?? []).map((one) => [`${one.task.task_id} ${one.failed_at}`, one]));
  }

  return { element, update };
}

function listAddress(q) {
  return `?${new URLSearchParams({ q })}${hashOf("tasks")}`;
}

/** Nothing is no link: there is nothing to see. */
function showCount(link, group, span, start) {
  const count = group.counts[span];
  link.dataset.span = t(`failures.span.${span}`); // where there is no head
  link.textContent = formatCount(count);
  link.classList.toggle("is-nothing", count === 0);
  if (count === 0) {
    link.removeAttribute("href");
    delete link.dataset.q;
    link.removeAttribute("aria-label");
    return;
  }
  link.dataset.q = groupQuery(group.fingerprint, start);
  link.href = listAddress(link.dataset.q);
  link.setAttribute("aria-label", t("failure.count", { count, formatted: formatCount(count), range: t(`failures.range.${span}`) }));
}

function Mark() {
  const element = document.createElement("i");

  function update(at, size, start, count, step) {
    element.style.setProperty("--at", at.toFixed(4));
    element.style.setProperty("--size", size.toFixed(3));
    const [from, to] = [start, start + step * 1000].map((time) => formatClock(new Date(time).toISOString()));
    element.title = t("failure.mark", { from, to, count, formatted: formatCount(count) });
  }

  return { element, update };
}

function FrameLine() {
  const element = copyOf("failure-frame");
  const [place, code] = element.children;

  function update(frame) {
    place.querySelector("strong").textContent = frame.function || "?";
    place.querySelector("span").textContent = `${frame.file}:${frame.line}`;
    code.hidden = frame.code === null;
    code.textContent = frame.code ?? "";
  }

  return { element, update };
}

function FailedTask() {
  const element = copyOf("failure-task");
  const link = element.querySelector("a");

  function update({ task, failed_at: failedAt }) {
    showStatus(element, element.querySelector(".status-word"), task.status);
    link.textContent = shortId(task.task_id);
    link.title = task.task_id;
    link.href = hashOf("tasks", task.task_id);
    element.querySelector(".failure-task__user").textContent = task.user_id ?? "";
    const time = element.querySelector("time");
    time.textContent = formatTime(failedAt);
    time.dateTime = failedAt;
    time.title = formatFullTime(failedAt);
  }

  return { element, update };
}

