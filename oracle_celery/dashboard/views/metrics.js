/** The four numbers on top. What is not known yet, or not known any more, is "–". */

import { UNKNOWN, durationParts, formatCount, formatPercent } from "../format.js";
import { t } from "../locale.js";

/** @param {HTMLElement} element */
export function Metrics(element) {
  const places = new Map();
  for (const metric of element.querySelectorAll("[data-metric]")) {
    places.set(metric.dataset.metric, {
      metric,
      value: metric.querySelector(".metric__value"),
      unit: metric.querySelector(".metric__unit"),
      note: metric.querySelector(".metric__note"),
    });
  }

  function update({ state }) {
    element.hidden = state.route.page !== "tasks";
    const summary = state.summary ?? {};
    show("queued", { value: formatCount(summary.queued), unit: "" });
    show("active", { value: formatCount(summary.active), unit: "" }, workers(summary.workers));
    show("failure", formatPercent(summary.failure_percent_24h), failures(summary));
    show("runtime", durationParts(summary.mean_runtime_24h));
    places.get("failure").metric.classList.toggle("metric--failing", summary.failure_percent_24h > 0);
  }

  function show(name, { value, unit }, note = "") {
    const place = places.get(name);
    place.value.textContent = value;
    place.unit.textContent = unit;
    place.note.textContent = value === UNKNOWN ? "" : note;
  }

  return { update };
}

function workers(count) {
  return typeof count === "number" ? t("metric.active.note", { count, formatted: formatCount(count) }) : "";
}

function failures({ failed_24h: failed, finished_24h: finished }) {
  if (typeof failed !== "number" || typeof finished !== "number") return "";
  return t("metric.failure.note", { failed: formatCount(failed), finished: formatCount(finished) });
}
