/**
 * The four numbers on top, each with its last 24 hours, as far as they are known, and what has changed, and beside them
 * the chart. What is not known yet, or not known any more, is "–".
 */

import { UNKNOWN, durationParts, formatChange, formatCount, formatDuration, formatPercent } from "../format.js";
import { t } from "../locale.js";
import { DEFAULT_RANGE, anHourAgo, change, failureSeries, sinceKnown, withSummary } from "../statistics.js";
import { Sparkline } from "./sparkline.js";
import { ThroughputChart } from "./throughput-chart.js";

/** @param {HTMLElement} element */
export function Metrics(element) {
  const places = new Map();
  for (const metric of element.querySelectorAll("[data-metric]")) {
    places.set(metric.dataset.metric, {
      metric,
      value: metric.querySelector(".metric__value"),
      unit: metric.querySelector(".metric__unit"),
      note: metric.querySelector(".metric__note"),
      spark: Sparkline(metric.querySelector(".spark")),
    });
  }
  const chart = ThroughputChart(element.querySelector("#throughput"));
  let drawn = { answer: undefined, lines: {} };

  function update({ state, now }) {
    element.hidden = state.route.page !== "tasks";
    const summary = state.summary ?? {};
    const day = lively(state);
    const { previous = null } = day ?? {};
    show("queued", { value: formatCount(summary.queued), unit: "" }, queuedNote(summary, day));
    show("active", { value: formatCount(summary.active), unit: "" }, activeNote(summary));
    show("failure", formatPercent(summary.failure_percent_24h), failureNote(summary, previous));
    show("runtime", durationParts(summary.mean_runtime_24h), runtimeNote(summary, previous));
    const failing = places.get("failure").metric;
    failing.classList.toggle("metric--failing", summary.failure_percent_24h > 0);
    failing.classList.toggle("metric--worse", change(summary.failure_percent_24h, previous?.failure_percent) > 0);
    for (const [name, series] of Object.entries(drawn.lines)) places.get(name).spark.update(series);
    chart.update({ state, now });
  }

  /** The last 24 hours with the summary's numbers; the very same object while neither has changed. */
  function lively({ statistics, summary }) {
    const answer = statistics.answers[DEFAULT_RANGE] ?? null;
    if (drawn.answer !== answer || drawn.summary !== summary) {
      const day = withSummary(answer, summary);
      drawn = { answer, summary, day, lines: linesOf(day) };
    }
    return drawn.day;
  }

  function show(name, { value, unit }, { text = "", title = "" } = {}) {
    const place = places.get(name);
    place.value.textContent = value;
    place.unit.textContent = unit;
    place.note.textContent = value === UNKNOWN ? "" : text;
    place.note.title = place.note.textContent === "" ? "" : title;
  }

  return { update };
}

/** What is drawn under each number. */
function linesOf(day) {
  const [queued, active, failure, runtime] = sinceKnown([
    day?.queued ?? null, day?.active ?? null, day === null ? null : failureSeries(day), day?.mean_runtime ?? null,
  ]);
  return { queued, active, failure, runtime };
}

function queuedNote(summary, day) {
  const before = day === null ? null : anHourAgo(day.queued, day.seconds);
  const difference = change(summary.queued, before);
  if (difference === null) return {};
  return { text: formatChange(difference), title: t("metric.queued.change", { before: formatCount(before) }) };
}

function activeNote({ slots, workers }) {
  const told = typeof workers === "number" ? t("metric.active.note", { count: workers, formatted: formatCount(workers) }) : "";
  if (!slots) return { text: told };
  return { text: t("metric.active.slots", { count: slots, formatted: formatCount(slots) }), title: told };
}

function failureNote({ failure_percent_24h: percent, failed_24h: failed, finished_24h: finished }, previous) {
  if (typeof failed !== "number" || typeof finished !== "number") return {};
  const counts = t("metric.failure.note", { failed: formatCount(failed), finished: formatCount(finished) });
  const difference = change(percent, previous?.failure_percent);
  if (difference === null) return { text: counts };
  const { value, unit } = formatPercent(previous.failure_percent);
  return { text: formatChange(difference, 2), title: `${counts}; ${t("metric.change", { before: `${value}\u00a0${unit}` })}` };
}

function runtimeNote({ mean_runtime_24h: mean }, previous) {
  const difference = change(mean, previous?.mean_runtime);
  if (difference === null) return {};
  const size = durationParts(Math.abs(difference));
  const sign = difference < 0 ? "−" : "+";
  return { text: `${sign}${size.value}\u00a0${size.unit}`, title: t("metric.change", { before: formatDuration(previous.mean_runtime) }) };
}
