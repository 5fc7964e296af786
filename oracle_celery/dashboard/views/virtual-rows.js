/**
 * The part of a long list that is in the document: the rows near the viewport, each at the place it would have if all
 * were there, so that the scrollbar tells the truth.
 *
 * Every row has the height of the first. A row that stays in sight is never taken out and put back: focus, hover and a
 * tooltip survive every update. A row that leaves becomes, where it is, one that comes: what costs a browser time is not
 * a text but an element that is put in. One more row may be pinned: the current one, wherever it is, so that the focus is
 * not lost and Tab finds its way. Rows tell their number in the whole list, and are in the document in their order as
 * soon as the scrolling rests; until then each stands at its place, but the ear may hear them in another one.
 *
 * What will bite: asking where something is, after something was written, makes the browser lay the page out at once. So
 * edges are measured when somebody scrolls or something changes its size, and remembered.
 */

const OVERSCAN = 12; // rows beyond either edge of the viewport, at least
const USUAL_HEIGHT = 34; // CSS pixels, until a row has been measured
const REST = 120; // ms without a move: rows are put in their order
const FEW = 6; // rows that came: so few are put in their order at once
const DOCK = 60; // CSS pixels at the foot of a page that scrolls as a whole, under the dock
const ONE_COLUMN = matchMedia("(max-width: 720px)");

/**
 * @param {{body: HTMLElement, scroller: HTMLElement, head: HTMLElement, make: () => {element: HTMLElement, reset: () => void}}} parts
 *   `scroller` is what scrolls, but on a narrow screen, where the page does
 */
export function VirtualRows({ body, scroller, head, make }) {
  const bar = document.querySelector("#bar"); // it may stay on top where the page scrolls
  const rows = new Map(); // id → {part, place, isAstray}
  let height = USUAL_HEIGHT;
  let isMeasured = false;
  let shownHeight = null;
  let edges = null; // of what can be seen; null: to be measured
  let resting = null; // timer

  const sizes = new ResizeObserver(forget);
  for (const part of scroller.children) if (!part.contains(body)) sizes.observe(part);
  sizes.observe(head);
  sizes.observe(scroller);
  addEventListener("resize", () => {
    isMeasured = false;
    forget();
  });

  /** What stands around the rows has changed: they are measured before they are drawn the next time. */
  function forget() {
    edges = null;
  }

  /** Somebody has scrolled. */
  function measure() {
    edges = viewport();
    clearTimeout(resting);
    resting = setTimeout(putInOrder, REST);
  }

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
    const overscan = Math.max(OVERSCAN, Math.ceil((last - first) / 2));
    const from = Math.max(0, first - overscan);
    const to = Math.min(ids.length, last + overscan);
    const wanted = new Map();
    if (pinned >= 0 && pinned < from) wanted.set(ids[pinned], pinned);
    for (let place = from; place < to; place += 1) wanted.set(ids[place], place);
    if (pinned >= to) wanted.set(ids[pinned], pinned);
    const leaving = [...rows.keys()].filter((id) => !wanted.has(id));
    dropFocused(leaving);
    for (const [id, place] of wanted) {
      const row = rows.get(id) ?? take(id, leaving);
      show(row.part, id);
      if (row.place !== place) putAt(row, place);
    }
    for (const id of leaving) release(id);
    const whole = ids.length === 0 ? "" : `${ids.length * height}px`;
    if (whole !== shownHeight) body.style.blockSize = shownHeight = whole;
    if (resting === null && outOfOrder() <= FEW) putInOrder();
    else resting ??= setTimeout(putInOrder, REST);
  }

  /** The row with the focus does not become another one's: what is done by keys would be done to that one. */
  function dropFocused(leaving) {
    if (!body.contains(document.activeElement)) return;
    const at = leaving.findIndex((id) => rows.get(id).part.element.contains(document.activeElement));
    if (at >= 0) release(...leaving.splice(at, 1));
  }

  /** A row for an id: one of those that leave, which loses what it was, or a new one. */
  function take(id, leaving) {
    const left = leaving.pop();
    const row = left === undefined ? { part: make(), place: null, isAstray: true } : rows.get(left);
    if (left === undefined) body.append(row.part.element);
    else row.part.reset();
    row.isAstray = true;
    rows.delete(left);
    rows.set(id, row);
    return row;
  }

  function release(id) {
    rows.get(id).part.element.remove();
    rows.delete(id);
  }

  function inOrder() {
    return [...rows.values()].sort((one, other) => one.place - other.place);
  }

  /** How many rows are not followed by the one that comes after them. */
  function outOfOrder() {
    const elements = inOrder().map(({ part }) => part.element);
    return elements.filter((element, at) => at + 1 < elements.length && element.nextElementSibling !== elements[at + 1]).length;
  }

  /**
   * The row with the focus is not moved, which would lose it, else the first one that was not something else before: the
   * others are put around it.
   */
  function putInOrder() {
    resting = null;
    const ordered = inOrder();
    const elements = ordered.map(({ part }) => part.element);
    const focused = elements.findIndex((element) => element.contains(document.activeElement));
    const fixed = focused >= 0 ? focused : Math.max(0, ordered.findIndex(({ isAstray }) => !isAstray));
    for (let at = fixed - 1; at >= 0; at -= 1) if (elements[at].nextElementSibling !== elements[at + 1]) elements[at + 1].before(elements[at]);
    for (let at = fixed + 1; at < elements.length; at += 1) if (elements[at - 1].nextElementSibling !== elements[at]) elements[at - 1].after(elements[at]);
    for (const row of ordered) row.isAstray = false;
  }

  /** The head is the table's first row. */
  function putAt(row, place) {
    row.place = place;
    row.part.element.style.insetBlockStart = `${place * height}px`;
    row.part.element.setAttribute("aria-rowindex", String(place + 2));
  }

  function inSight(count) {
    if (ONE_COLUMN.matches) edges = null; // what is above the list may have changed
    edges ??= viewport();
    const { top, bottom } = edges;
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

  return { draw, measure, forget, reveal, pageLength, inSight, partOf: (id) => rows.get(id)?.part, isShown: (id) => rows.has(id) };
}
