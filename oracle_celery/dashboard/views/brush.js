/**
 * A part of the chart's range as the list's time range: drawn with the pointer, moved by two handles that are sliders for
 * the keyboard, and always what the query's `created:` term says.
 * Asks with `addTerm` {field: "created", value: "<from>..<to>", excludes: false, replaces: true}, and, to take the term
 * away (Delete on a handle, a click beside it), with `filterTasks` {q}.
 */

import { formatMoment } from "../format.js";
import { t } from "../locale.js";
import { bucketTimes, draggedSpan, movedSpan, spanOfQuery, spanValue, withoutSpan } from "../statistics.js";

const PAGE_STEPS = 12; // buckets of Page Up and Page Down
const PAUSE = 400; // ms after the last key until the list is asked

/** @param {HTMLElement} plot */
export function Brush(plot) {
  const region = plot.querySelector(".brush__region");
  const handles = { from: plot.querySelector('[data-end="from"]'), to: plot.querySelector('[data-end="to"]') };
  let answer = null;
  let query = {};
  let told = null; // what the query says
  let moving = null; // what a hand is making of it
  let drag = null;
  let pause = null;

  plot.addEventListener("pointerdown", (event) => {
    if (answer === null || event.button !== 0) return;
    const end = event.target.closest("[data-end]")?.dataset.end ?? null;
    drag = { begin: placeOf(event), end };
    plot.setPointerCapture(event.pointerId);
    if (end === null) event.preventDefault();
  });
  plot.addEventListener("pointermove", (event) => {
    if (drag === null) return;
    const count = answer.completed.length;
    moving = drag.end === null ? draggedSpan(drag.begin, placeOf(event), count) : movedSpan(shown(), drag.end, placeOf(event), count);
    draw();
  });
  plot.addEventListener("pointerup", () => {
    const made = moving;
    const isClick = drag !== null && drag.end === null && made === null;
    drag = null;
    if (made !== null) ask(made);
    else if (isClick && told !== null) clear();
  });
  plot.addEventListener("pointercancel", () => {
    drag = null;
    moving = null;
    draw();
  });
  for (const [end, handle] of Object.entries(handles)) {
    handle.addEventListener("keydown", (event) => {
      if (answer === null || event.altKey || event.ctrlKey || event.metaKey) return;
      const place = placeByKey(event.key, end);
      if (place === null) return;
      event.preventDefault();
      event.stopPropagation();
      if (place === "none") clear();
      else moveTo(end, place);
    });
  }

  function placeByKey(key, end) {
    const at = end === "from" ? Math.floor(shown().from) : Math.ceil(shown().to);
    const count = answer.completed.length;
    const places = {
      ArrowLeft: at - 1,
      ArrowDown: at - 1,
      ArrowRight: at + 1,
      ArrowUp: at + 1,
      PageDown: at - PAGE_STEPS,
      PageUp: at + PAGE_STEPS,
      Home: 0,
      End: count,
      Delete: "none",
      Backspace: "none",
    };
    return places[key] ?? null;
  }

  function moveTo(end, place) {
    moving = movedSpan(shown(), end, place, answer.completed.length);
    draw();
    clearTimeout(pause);
    pause = setTimeout(() => moving !== null && ask(moving), PAUSE);
  }

  function ask(span) {
    stopPause();
    const detail = { field: "created", value: spanValue(answer, span), excludes: false, replaces: true };
    plot.dispatchEvent(new CustomEvent("addTerm", { bubbles: true, detail }));
    moving = null;
    draw();
  }

  function stopPause() {
    clearTimeout(pause);
    pause = null;
  }

  function clear() {
    stopPause();
    moving = null;
    plot.dispatchEvent(new CustomEvent("filterTasks", { bubbles: true, detail: { q: withoutSpan(query) } }));
  }

  /** The buckets that are brushed; where none are, the whole range. */
  function shown() {
    return moving ?? told ?? { from: 0, to: answer.completed.length };
  }

  function update(given) {
    if (answer !== given.answer || query !== given.query) {
      const isOther = answer?.start !== given.answer?.start || answer?.range !== given.answer?.range;
      ({ answer, query } = given);
      told = answer === null ? null : spanOfQuery(query, answer);
      if (isOther && drag === null && pause === null) moving = null;
    }
    draw();
  }

  function draw() {
    const isBrushed = answer !== null && (moving !== null || told !== null);
    plot.classList.toggle("is-brushed", isBrushed);
    for (const handle of Object.values(handles)) handle.hidden = answer === null;
    if (answer === null) return;
    const span = shown();
    const count = answer.completed.length;
    region.style.setProperty("--from", `${(100 * span.from) / count}%`);
    region.style.setProperty("--to", `${(100 * span.to) / count}%`);
    for (const [end, handle] of Object.entries(handles)) {
      handle.style.setProperty("--at", `${(100 * span[end]) / count}%`);
      handle.setAttribute("aria-valuemin", "0");
      handle.setAttribute("aria-valuemax", String(count));
      handle.setAttribute("aria-valuenow", String(Math.round(span[end])));
      handle.setAttribute("aria-valuetext", momentOf(span, end));
    }
  }

  function momentOf(span, end) {
    const at = Math.round(span[end]);
    if (at >= answer.completed.length) return t("throughput.now");
    return formatMoment(bucketTimes(answer, at)[0], answer.seconds, { isLong: true });
  }

  /** The brushed part, "" where there is none. */
  function words() {
    if (answer === null || (moving === null && told === null)) return "";
    return t("throughput.span", { from: momentOf(shown(), "from"), to: momentOf(shown(), "to") });
  }

  /** Where on the range a pointer is, in buckets. */
  function placeOf({ clientX }) {
    const { left, width } = plot.getBoundingClientRect();
    return answer === null || width === 0 ? 0 : ((clientX - left) / width) * answer.completed.length;
  }

  return { update, words, placeOf };
}
