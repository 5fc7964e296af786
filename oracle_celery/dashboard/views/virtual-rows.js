/**
 * The part of a long list that is in the document: the rows near the viewport, each at the place it would have if all
 * were there, so that the scrollbar tells the truth.
 *
 * Every row has the height of the first. A row that stays in sight is never taken out and put back: focus, hover and a
 * tooltip survive every update. A row that leaves is used again for another one. One more row may be pinned: the current
 * one, wherever it is, so that the focus is not lost and Tab finds its way. The rows are in the document in their order,
 * and tell their number in the whole list.
 */

const OVERSCAN = 12; // rows beyond either edge of the viewport, at least
const USUAL_HEIGHT = 34; // CSS pixels, until a row has been measured
const SPARE_LIMIT = 120; // rows kept to be used again
const DOCK = 60; // CSS pixels at the foot of a page that scrolls as a whole, under the dock
const ONE_COLUMN = matchMedia("(max-width: 720px)");

/**
 * @param {{body: HTMLElement, scroller: HTMLElement, head: HTMLElement, make: () => {element: HTMLElement, reset: () => void}}} parts
 *   `scroller` is what scrolls, but on a narrow screen, where the page does
 */
export function VirtualRows({ body, scroller, head, make }) {
  const bar = document.querySelector("#bar"); // it may stay on top where the page scrolls
  const rows = new Map(); // id → {part, place}
  const spare = [];
  let height = USUAL_HEIGHT;
  let isMeasured = false;
  let shownHeight = null;

  addEventListener("resize", () => (isMeasured = false));

  /**
   * Puts the rows near the viewport into the document.
   * @param {readonly string[]} ids @param {number} pinned its place, or -1 @param {(part: any, id: string) => void} show
   * @returns {{first: number, last: number}} the places in sight
   */
  function draw(ids, pinned, show) {
    const range = inSight(ids.length);
    drawRange(ids, range, pinned, show);
    if (isMeasured || rows.size === 0) return range;
    const measured = rows.values().next().value.part.element.getBoundingClientRect().height;
    isMeasured = measured > 0;
    if (!isMeasured || measured === height) return range;
    height = measured;
    for (const row of rows.values()) row.place = null;
    return draw(ids, pinned, show);
  }

  function drawRange(ids, { first, last }, pinned, show) {
    const overscan = Math.max(OVERSCAN, last - first);
    const from = Math.max(0, first - overscan);
    const to = Math.min(ids.length, last + overscan);
    const wanted = new Map();
    if (pinned >= 0 && pinned < from) wanted.set(ids[pinned], pinned);
    for (let place = from; place < to; place += 1) wanted.set(ids[place], place);
    if (pinned >= to) wanted.set(ids[pinned], pinned);
    for (const [id, row] of rows) if (!wanted.has(id)) release(id, row);
    let next = body.firstElementChild;
    for (const [id, place] of wanted) {
      const row = rows.get(id) ?? take(id);
      show(row.part, id);
      if (row.place !== place) putAt(row, place);
      if (row.part.element === next) next = next.nextElementSibling;
      else body.insertBefore(row.part.element, next);
    }
    const whole = ids.length === 0 ? "" : `${ids.length * height}px`;
    if (whole !== shownHeight) body.style.blockSize = shownHeight = whole;
  }

  function take(id) {
    const row = { part: spare.pop() ?? make(), place: null };
    rows.set(id, row);
    return row;
  }

  function release(id, { part }) {
    part.element.remove();
    rows.delete(id);
    part.reset();
    if (spare.length < SPARE_LIMIT) spare.push(part);
  }

  /** The head is the table's first row. */
  function putAt(row, place) {
    row.place = place;
    row.part.element.style.insetBlockStart = `${place * height}px`;
    row.part.element.setAttribute("aria-rowindex", String(place + 2));
  }

  function inSight(count) {
    const { top, bottom } = viewport();
    const first = Math.max(0, Math.min(count, Math.floor(top / height)));
    return { first, last: Math.max(first, Math.min(count, Math.ceil(bottom / height))) };
  }

  /** The edges of what can be seen, from the first row's upper edge. */
  function viewport() {
    const start = body.getBoundingClientRect().top;
    if (ONE_COLUMN.matches) return { top: Math.max(0, bar.getBoundingClientRect().bottom) - start, bottom: innerHeight - DOCK - start };
    const frame = scroller.getBoundingClientRect();
    return { top: frame.top + head.offsetHeight - start, bottom: frame.bottom - start };
  }

  /** Scrolls by as little as brings a row into sight. */
  function reveal(place) {
    const { top, bottom } = viewport();
    const upper = place * height;
    const by = upper < top ? upper - top : Math.max(0, upper + height - bottom);
    if (by !== 0) (ONE_COLUMN.matches ? window : scroller).scrollBy({ top: by, behavior: "instant" });
  }

  /** How many rows a screen holds, at least one. */
  function pageLength() {
    const { top, bottom } = viewport();
    return Math.max(1, Math.floor((bottom - top) / height) - 1);
  }

  return { draw, reveal, pageLength, inSight, partOf: (id) => rows.get(id)?.part, isShown: (id) => rows.has(id) };
}
