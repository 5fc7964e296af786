/**
 * Every kind of task: how many, how many failed, how long they run and wait, on one scale for all.
 * Asks with `arrangeTypes` {sort, name}, and with `showTasks` {name}: all tasks of a type, as many as its row counts.
 */

import { UNKNOWN, formatCount, formatDuration, formatPercent, formatRate, formatSeconds } from "../format.js";
import { t } from "../locale.js";
import { arranged, arrangementOf, decades, nextTypeSort, placeOn, scaleOf } from "../types.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { Page } from "./page.js";
import { Sparkline } from "./sparkline.js";
import { shape } from "./svg.js";
import { showName } from "./task-name.js";

const TYPING_PAUSE = 250; // ms without a key after which the list is arranged
const WIDTH = 240; // units of a row's scale
const HEIGHT = 22;
const MANY_PERCENT = 2; // failures from which a type is loud

/** @param {HTMLElement} element */
export function TypesPage(element) {
  const page = Page(element);
  const rows = KeyedList(element.querySelector("tbody"), TypeRow);
  const heads = [...element.querySelectorAll("[data-sort]")];
  const form = element.querySelector("form");
  const input = form.elements.name;
  const axis = element.querySelector(".type-scale");
  let arrangement = arrangementOf({});
  let typing = null;
  let scale = null;

  for (const head of heads) {
    head.addEventListener("click", () => ask({ ...arrangement, sort: nextTypeSort(arrangement.sort, head.dataset.sort) }));
  }
  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(askTyped, TYPING_PAUSE);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    askTyped();
  });

  function askTyped() {
    clearTimeout(typing);
    typing = null;
    ask({ ...arrangement, name: input.value.trim() });
  }

  function ask(detail) {
    element.dispatchEvent(new CustomEvent("arrangeTypes", { bubbles: true, detail }));
  }

  function update({ state }) {
    const { types: answer, typesError: error } = state.statistics;
    const isShown = state.route.page === "types";
    const types = answer?.types ?? [];
    if (isShown) arrangement = arrangementOf(state.route.parameters);
    const shown = isShown ? arranged(types, arrangement) : [];
    const isEmpty = answer !== null && shown.length === 0;
    if (!page.update({ isShown, error, isEmpty, connection: state.connection })) return;
    const values = { count: answer?.total ?? 0, formatted: formatCount(answer?.total) };
    page.summary.textContent = answer === null ? t("list.loading") : t("types.summary", values);
    page.empty.textContent = t(types.length === 0 ? "types.none" : "list.filtered.title");
    element.querySelector(".page__table").hidden = shown.length === 0;
    if (document.activeElement !== input && typing === null && input.value !== arrangement.name) input.value = arrangement.name;
    for (const head of heads) showSort(head);
    const found = scaleOf(types);
    if (scale === null || scale.low !== found.low || scale.high !== found.high) scale = found; // the same object: rows stay
    drawAxis();
    rows.update(shown.map((type) => [type.name ?? "", type, scale]));
  }

  function showSort(head) {
    const column = arrangement.sort.replace(/^-/, "");
    const cell = head.closest("th");
    if (head.dataset.sort === column) cell.setAttribute("aria-sort", arrangement.sort.startsWith("-") ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }

  function drawAxis() {
    const marks = decades(scale).map(({ at, seconds }) => ({ at, text: formatSeconds(seconds) }));
    const told = marks.map(({ text }) => text).join(" ");
    if (axis.dataset.told === told) return;
    axis.dataset.told = told;
    axis.replaceChildren(
      ...marks.map(({ at, text }) => {
        const mark = Object.assign(document.createElement("span"), { textContent: text });
        mark.style.setProperty("--at", String(at));
        return mark;
      }),
    );
  }

  return { update, focus: page.focus };
}

function TypeRow() {
  const element = copyOf("type-row");
  const [name, perMinute, finished, trend, failure, durations, p50, p95, wait] = element.cells;
  const link = name.querySelector("button");
  const spark = Sparkline(trend.querySelector("svg"));
  const bar = failure.querySelector("meter");
  const picture = durations.querySelector("svg");
  let type = null;
  let line = null;

  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  link.addEventListener("click", () => {
    element.dispatchEvent(new CustomEvent("showTasks", { bubbles: true, detail: { name: type.name ?? "" } }));
  });

  function update(shown, scale) {
    type = shown;
    showName(link, type.name);
    link.title = type.name === null ? "" : t("types.open", { name: type.name });
    link.disabled = type.name === null;
    perMinute.textContent = formatRate(type.per_minute);
    finished.textContent = formatCount(type.finished);
    if (line !== type.half_hours) spark.update(type.half_hours.slice(0, -1)); // the last one is not over yet
    line = type.half_hours;
    const { value, unit } = formatPercent(type.failure_percent);
    failure.querySelector("span").textContent = unit ? `${value}\u00a0${unit}` : value;
    failure.classList.toggle("is-failing", type.failure_percent >= MANY_PERCENT);
    failure.title = t("types.failed", { failed: formatCount(type.failed), cancelled: formatCount(type.cancelled) });
    bar.value = type.failure_percent ?? 0;
    bar.setAttribute("aria-label", t("types.failure"));
    p50.textContent = formatDuration(type.runtime?.p50);
    p95.textContent = formatDuration(type.runtime?.p95);
    wait.textContent = type.wait === null ? UNKNOWN : `${formatDuration(type.wait.p50)} – ${formatDuration(type.wait.p95)}`;
    drawDurations(scale);
  }

  function drawDurations(scale) {
    const lines = decades(scale).map(({ at }) => shape("path", { class: "type-scale__line", d: `M${inset(at)} 0V${HEIGHT}` }));
    picture.replaceChildren(...lines, ...span(type.wait, scale, 16, "wait"), ...span(type.runtime, scale, 7, "runtime"));
    const told = [
      [type.runtime, "types.runtime"],
      [type.wait, "types.wait"],
    ].filter(([found]) => found !== null).map(([found, key]) => `${t(key)}: p50 ${formatDuration(found.p50)}, p95 ${formatDuration(found.p95)}`);
    picture.setAttribute("aria-label", told.join("; ") || UNKNOWN);
    durations.title = told.join("\n");
  }

  return { element, update };
}

/** From the median, a ring, to the 95th percentile, a dot. */
function span(percentiles, scale, y, kind) {
  if (percentiles === null) return [];
  const [from, to] = [inset(placeOn(scale, percentiles.p50)), inset(placeOn(scale, percentiles.p95))];
  return [
    shape("path", { class: `type-span type-span--${kind}`, d: `M${from} ${y}H${to}` }),
    shape("circle", { class: `type-span__p95 type-span--${kind}`, cx: String(to), cy: String(y), r: "3" }),
    shape("circle", { class: `type-span__p50 type-span--${kind}`, cx: String(from), cy: String(y), r: "3" }),
  ];
}

/** Rings at the edges stay whole. */
function inset(at) {
  return Math.round((4 + at * (WIDTH - 8)) * 10) / 10;
}
