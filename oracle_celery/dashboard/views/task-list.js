/**
 * The live list. Asks with `sortTasks` {column}, `holdRows` {reading}, `showRows` {first, last}, `showNew`, `loadOlder`,
 * `filterTasks`, `tickRow` {taskId, isRange}, `tickRowsHere`, and, from a row, `retryTask` and `cancelTask` {taskId}.
 *
 * Somebody reads while the list is scrolled, the pointer rests on it (on its head too: the chip must not vanish on the
 * way there), or a row has the focus: then nothing may move. Rows are kept by task id, so focus, hover and selection
 * survive every update; one link of all rows is in the tab order. Only rows near the viewport are in the document; keys
 * walk all of them.
 */

import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { progressOf } from "../progress.js";
import { NEWEST_FIRST, sortColumn, sortsAll } from "../query.js";
import { placesOf } from "../rows.js";
import { isTicked, tickedRows } from "../selection.js";
import { mayControl } from "../session.js";
import { usualRuntimes } from "../types.js";
import { WAITING_LIMIT, emptiness, isFirstLoad } from "../state.js";
import { hide, say } from "./drawing.js";
import { LongPress } from "./long-press.js";
import { TaskRow } from "./task-row.js";
import { VirtualRows } from "./virtual-rows.js";

const SKELETON_ROWS = 16;
const ASKED_AHEAD = 60; // rows: so near the end, the next page is asked for
const ONE_COLUMN = matchMedia("(max-width: 720px)");
const TINTED_LIMIT = 8; // rows that come at once: more than that is a flood, which nobody needs to be shown
const HEAD_ROWS = 1; // of the table's rows that are counted to the ear

/** @param {HTMLElement} element */
export function TaskList(element) {
  const scroller = element.querySelector(".task-list__scroll");
  const table = element.querySelector("table");
  const body = element.querySelector("tbody");
  const chip = element.querySelector(".new-chip");
  const heads = [...element.querySelectorAll("th [data-column]")];
  const empty = element.querySelector(".task-list__empty");
  const count = element.querySelector(".task-list__count");
  const older = element.querySelector(".task-list__older");
  const template = document.querySelector("#task-row");
  const allRows = element.querySelector("th .tick");
  const rows = VirtualRows({ body, scroller, head: element.querySelector("thead"), make: () => TaskRow(template) });
  let drawn = null; // {state, now} of the last update
  let inSight = { first: 0, last: 0 };
  let isHovered = false;
  let isReading = false;
  let isScrolling = false; // a frame is asked for
  let isScrolled = false;
  let shownSkeletons = [];
  let current = null;
  let isChosen = false; // somebody has been on the current row: it stays current wherever it goes

  for (const head of heads) head.addEventListener("click", () => ask("sortTasks", { column: head.dataset.column }));
  chip.addEventListener("click", () => showNew());
  older.addEventListener("click", () => ask("loadOlder"));
  empty.querySelector("button").addEventListener("click", () => ask("filterTasks", { q: "" }));
  allRows.addEventListener("click", () => ask("tickRowsHere"));
  body.addEventListener("click", tickOrOpen);
  LongPress(body, {
    read: (target) => target.closest("tr")?.dataset.taskId,
    press: (taskId) => taskId && ask("tickRow", { taskId, isRange: false }),
  });
  body.addEventListener("focusin", (event) => {
    isChosen = true;
    makeCurrent(event.target.closest("tr")?.dataset.taskId ?? null);
  });
  body.addEventListener("focusout", () => queueMicrotask(noticeReading));
  body.addEventListener("keydown", walk);
  scroller.addEventListener("pointerover", (event) => noticeHover(event.pointerType === "mouse"));
  scroller.addEventListener("pointerleave", () => noticeHover(false));
  scroller.addEventListener("scroll", noticeScroll, { passive: true });
  document.addEventListener("scroll", noticeScroll, { passive: true });
  addEventListener("resize", noticeScroll);

  function update({ state, now }) {
    drawn = { state, now };
    if (element.hidden) rows.forget();
    hide(element, state.route.page !== "tasks");
    if (element.hidden && state.rows.length > 0) return;
    drawRows();
    allRows.checked = tickedRows(state.selection, state.rows) === "all";
    updateHeads(state.query.sort);
    updateChip(state);
    updateEmpty(state);
    updateFoot(state);
    element.dataset.columns = state.columns.join(" ");
    element.dataset.phase = state.list.phase;
    element.dataset.connection = state.connection;
    if (isReading) noticeReading(); // what was read may be gone, of which no event tells
  }

  function drawRows() {
    const { state, now } = drawn;
    const isFirst = isFirstLoad(state);
    if (isFirst && body.childElementCount === 0) body.append(...(shownSkeletons = skeletons()));
    if (!isFirst) for (const skeleton of shownSkeletons.splice(0)) skeleton.remove();
    const places = placesOf(state.rows);
    if (!places.has(current)) isChosen = false;
    if (!isChosen && !places.has(current)) current = state.rows[0] ?? null;
    const { selection, opened, fresh, tasks } = state;
    const mayCommand = mayControl(state);
    const usual = usualRuntimes(state.statistics.types);
    const isTinted = fresh.size <= TINTED_LIMIT;
    const range = rows.draw(state.rows, places.get(current) ?? -1, (row, id) => {
      row.update(id, tasks.get(id), {
        now, mayCommand, usual: usual.get(tasks.get(id)?.name) ?? null, isOpen: id === opened, isFresh: isTinted && fresh.has(id), isTicked: isTicked(selection, id), isCurrent: id === current,
        progress: tasks.has(id) ? progressOf(state.progress, tasks.get(id)) : null,
      });
    });
    table.setAttribute("aria-rowcount", String(state.list.nextPage === null ? state.rows.length + HEAD_ROWS : -1));
    if (!element.hidden) tellInSight(range);
  }

  /** What is in sight is kept and read; towards the end, the next page is. */
  function tellInSight(range) {
    const { state } = drawn;
    if (range.first !== inSight.first || range.last !== inSight.last) {
      inSight = range;
      ask("showRows", range);
    }
    const ahead = Math.max(ASKED_AHEAD, 2 * (range.last - range.first));
    const { phase, nextPage, older: asked } = state.list;
    if (phase === "ready" && nextPage !== null && asked === "idle" && range.last > range.first && range.last + ahead >= state.rows.length) {
      queueMicrotask(() => ask("loadOlder"));
    }
  }

  /** Measured at once, while the frame is fresh: once something is written, a "where is it" costs a layout. */
  function noticeScroll() {
    if (drawn === null || element.hidden) return;
    rows.measure();
    isScrolled = scroller.scrollTop > 0 || body.getBoundingClientRect().top < 0;
    if (isScrolling) return;
    isScrolling = true;
    requestAnimationFrame(() => {
      isScrolling = false;
      if (element.hidden) return;
      noticeReading();
      if (!isChosen && !body.contains(document.activeElement)) chooseFirstInSight();
      drawRows();
    });
  }

  /** Nobody has been on a row: Tab leads to the first one that can be seen. */
  function chooseFirstInSight() {
    const ids = drawn.state.rows;
    const { first } = rows.inSight(ids.length);
    if (ids[first] !== undefined) current = ids[first];
  }

  function updateHeads(sort) {
    const direction = sort.startsWith("-") ? "descending" : "ascending";
    for (const head of heads) {
      const cell = head.closest("th");
      if (head.dataset.column === sortColumn(sort)) cell.setAttribute("aria-sort", direction);
      else cell.removeAttribute("aria-sort");
    }
  }

  function updateChip({ waiting, list }) {
    hide(chip, waiting.size === 0);
    const values = { count: waiting.size, formatted: formatCount(waiting.size) };
    say(chip.querySelector("span"), t(waiting.size < WAITING_LIMIT && !list.isMoreNew ? "list.new" : "list.new.more", values));
  }

  function updateEmpty(state) {
    const reason = emptiness(state);
    hide(empty, reason === null);
    if (reason === null) return;
    empty.querySelector(".task-list__empty-title").textContent = t(`list.${reason}.title`);
    empty.querySelector(".task-list__empty-advice").textContent = t(`list.${reason}.advice`);
    empty.querySelector("button").hidden = reason !== "filtered";
  }

  function updateFoot(state) {
    const { list, query } = state;
    const values = { count: state.rows.length, formatted: formatCount(state.rows.length) };
    const loaded = t(loadedWord(list.nextPage === null, query.sort), values);
    if (list.older === "failed") say(count, t("list.older.failed"));
    else if (list.isAtReach) say(count, t("list.reach", values));
    else say(count, isFirstLoad(state) ? t("list.loading") : loaded);
    hide(older, list.nextPage === null);
    older.disabled = list.older === "loading";
  }

  function noticeHover(hovered) {
    isHovered = hovered;
    noticeReading();
  }

  function noticeReading() {
    const reading = isScrolled || isHovered || body.contains(document.activeElement);
    if (reading === isReading) return;
    isReading = reading;
    ask("holdRows", { reading });
  }

  function makeCurrent(id) {
    rows.partOf(current)?.link.setAttribute("tabindex", "-1");
    current = id;
    rows.partOf(current)?.link.setAttribute("tabindex", "0");
    noticeReading();
  }

  /** The next or previous row, from the current one, gets the focus. */
  function move(step) {
    const ids = drawn.state.rows;
    if (ids.length === 0) return;
    const isInside = body.contains(document.activeElement);
    if (!isInside && !isChosen) chooseFirstInSight();
    const place = placesOf(ids).get(current) ?? 0;
    focusPlace(place + (isInside ? step : 0));
  }

  function walk(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const last = drawn.state.rows.length - 1;
    const place = placesOf(drawn.state.rows).get(current) ?? 0;
    const targets = {
      ArrowDown: place + 1,
      ArrowUp: place - 1,
      PageDown: place + rows.pageLength(),
      PageUp: place - rows.pageLength(),
      Home: 0,
      End: last,
    };
    if (!Object.hasOwn(targets, event.key)) return;
    event.preventDefault();
    focusPlace(targets[event.key]);
  }

  function focusPlace(place) {
    const ids = drawn.state.rows;
    focusRow(ids[Math.max(0, Math.min(ids.length - 1, place))]);
  }

  function focusRow(id) {
    const place = placesOf(drawn.state.rows).get(id);
    if (place === undefined) return;
    isChosen = true;
    current = id;
    rows.reveal(place);
    drawRows();
    rows.partOf(id).link.focus({ preventScroll: true });
  }

  function showNew() {
    ask("showNew");
    scroller.scrollTo({ top: 0 });
    if (body.getBoundingClientRect().top < 0) element.scrollIntoView({ block: "start" });
  }

  /** A click on a box ticks; on a phone, once something is ticked, so does a tap anywhere on a row. */
  function tickOrOpen(event) {
    const place = event.target.closest("tr");
    const command = event.target.closest("[data-row-command]");
    if (command !== null) return ask(command.dataset.rowCommand, { taskId: place.dataset.taskId });
    const isTapTick = document.body.classList.contains("is-selecting") && ONE_COLUMN.matches;
    if (event.target.closest(".column-select") || isTapTick) {
      if (event.target.closest("a")) event.preventDefault();
      if (event.shiftKey) document.getSelection().removeAllRanges();
      askTick(place, event.shiftKey);
      return;
    }
    if (event.target.closest("a, button") || String(document.getSelection())) return;
    const row = rows.partOf(place?.dataset.taskId);
    row?.link.focus({ preventScroll: true });
    row?.link.click();
  }

  function tick({ isRange }) {
    if (body.contains(document.activeElement)) askTick(rows.partOf(current)?.element, isRange);
  }

  /** The row with the focus is told to do what its buttons do. */
  function command(name) {
    if (body.contains(document.activeElement) && rows.partOf(current)?.canCommand(name)) ask(name, { taskId: current });
  }

  function askTick(row, isRange) {
    if (row?.dataset.taskId) ask("tickRow", { taskId: row.dataset.taskId, isRange });
  }

  function ask(type, detail) {
    element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  return { update, move, tick, command, focusRow, showNew, currentId: () => current };
}

function loadedWord(isWhole, sort) {
  if (!sortsAll(sort)) return "list.loaded.sorted";
  if (sort === NEWEST_FIRST) return isWhole ? "list.loaded.newest" : "list.loaded.part";
  return isWhole ? "list.loaded.whole" : "list.loaded.begun";
}

function skeletons() {
  const template = document.querySelector("#skeleton-row");
  return Array.from({ length: SKELETON_ROWS }, () => template.content.cloneNode(true).firstElementChild);
}
