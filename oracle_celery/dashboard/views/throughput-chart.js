/**
 * Finished tasks upward, failed ones downward on a scale of their own, over the range that is chosen; a table of the same
 * for who reads by ear. A part of the range is brushed with the pointer or with the two handles.
 * Asks with `chooseRange` {range}, and see brush.js.
 */

import { formatCount, formatMoment, formatPercent } from "../format.js";
import { t } from "../locale.js";
import { axisTimes, barPath, bucketTimes, failureSeries, withSummary } from "../statistics.js";
import { Brush } from "./brush.js";
import { setPath, shape } from "./svg.js";

const UP = 40; // units of height for what finished
const DOWN = 16; // and for what failed
const TABLE_ROWS = 24;

/** @param {HTMLElement} element */
export function ThroughputChart(element) {
  const picture = element.querySelector(".throughput__picture");
  const axis = element.querySelector(".throughput__axis");
  const per = element.querySelector(".throughput__per");
  const readout = element.querySelector(".throughput__readout");
  const table = element.querySelector("tbody");
  const plot = element.querySelector(".throughput__plot");
  const buttons = [...element.querySelectorAll("[data-range]")];
  const brush = Brush(plot);
  const finished = shape("path", { class: "throughput__finished" });
  const failed = shape("path", { class: "throughput__failed" });
  const floor = shape("path", { class: "throughput__floor" });
  picture.setAttribute("preserveAspectRatio", "none");
  picture.replaceChildren(floor, finished, failed);
  let drawn = {};
  let pointed = null;

  for (const button of buttons) {
    button.addEventListener("click", () => {
      element.dispatchEvent(new CustomEvent("chooseRange", { bubbles: true, detail: { range: button.dataset.range } }));
    });
  }
  plot.addEventListener("pointermove", (event) => point(brush.placeOf(event)));
  plot.addEventListener("pointerleave", () => point(null));

  function point(place) {
    pointed = place;
    tell();
  }

  function update({ state }) {
    const answer = state.statistics.answers[state.statistics.range] ?? null;
    const language = document.documentElement.lang;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.range === state.statistics.range));
    if (drawn.answer !== answer || drawn.language !== language) drawRange(answer, language);
    if (drawn.summary !== state.summary || drawn.live === undefined) drawBars(withSummary(answer, state.summary));
    drawn = { ...drawn, summary: state.summary };
    brush.update({ answer, query: state.query });
    tell();
  }

  /** What only another reading changes. */
  function drawRange(answer, language) {
    drawn = { answer, language };
    element.classList.toggle("is-unknown", answer === null);
    per.textContent = answer === null ? "" : t(`throughput.per.${answer.range}`);
    const times = answer === null ? [] : axisTimes(answer);
    axis.replaceChildren(...times.map(({ at, time }) => tick(at, formatMoment(time, answer.seconds))), ...(answer ? [tick(1, t("throughput.now"))] : []));
    table.replaceChildren(...(answer === null ? [] : rows(answer)));
  }

  function drawBars(answer) {
    drawn.live = answer;
    const count = answer?.completed.length ?? 1;
    const sums = answer === null ? [] : answer.completed.map((value, at) => value + answer.failed[at] + answer.cancelled[at]);
    picture.setAttribute("viewBox", `0 0 ${count} ${UP + DOWN}`);
    setPath(floor, `M0 ${UP}h${count}`);
    setPath(finished, barPath(sums, { base: UP, height: UP }));
    setPath(failed, barPath(answer?.failed ?? [], { base: UP + 1, height: -(DOWN - 1) }));
  }

  /** The bucket under the pointer, or the brushed part, in words. */
  function tell() {
    const text = pointed === null || !drawn.live ? brush.words() : bucketWords(drawn.live, Math.floor(pointed));
    if (readout.textContent !== text) readout.textContent = text;
  }

  return { update };
}

function tick(at, text) {
  const element = document.createElement("span");
  element.textContent = text;
  element.style.setProperty("--at", `${at * 100}%`);
  return element;
}

function bucketWords(answer, at) {
  const place = Math.min(answer.completed.length - 1, Math.max(0, at));
  const values = {
    at: formatMoment(bucketTimes(answer, place)[0], answer.seconds, { isLong: true }),
    finished: formatCount(answer.completed[place] + answer.failed[place] + answer.cancelled[place]),
    failed: formatCount(answer.failed[place]),
  };
  return t("throughput.bucket", values);
}

/** As many rows as a person listens to, the newest first. */
function rows(answer) {
  const size = Math.ceil(answer.completed.length / TABLE_ROWS);
  const made = [];
  for (let end = answer.completed.length; end > 0; end -= size) {
    const from = Math.max(0, end - size);
    const sum = (series) => series.slice(from, end).reduce((total, value) => total + value, 0);
    const [completed, failed, cancelled] = [sum(answer.completed), sum(answer.failed), sum(answer.cancelled)];
    const [percent] = failureSeries({ completed: [completed], failed: [failed] });
    const { value, unit } = formatPercent(percent);
    made.push([
      formatMoment(bucketTimes(answer, from)[0], answer.seconds, { isLong: true }),
      formatCount(completed + failed + cancelled),
      formatCount(failed),
      unit ? `${value}\u00a0${unit}` : value,
    ]);
  }
  return made.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text, at) => Object.assign(document.createElement(at === 0 ? "th" : "td"), { textContent: text })));
    row.firstElementChild.scope = "row";
    return row;
  });
}
