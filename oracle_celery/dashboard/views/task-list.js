/**
 * The live list. Asks with `sortTasks` {column}, `holdRows` {reading}, `showNew`, `loadOlder`, `filterTasks`, `tickRow`
 * {taskId, isRange}, `tickRowsHere`.
 *
 * Somebody reads while the list is scrolled, the pointer rests on it (on its head too: the chip must not vanish on the
 * way there), or a row has the focus: then nothing may move. Rows are kept by task id, so focus, hover and selection
 * survive every update; one link per row is in the tab order.
 */

import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { NEWEST_FIRST, sortColumn } from "../query.js";
import { isTicked, tickedRows } from "../selection.js";
import { WAITING_LIMIT, emptiness } from "../state.js";
import { LongPress } from "./long-press.js";
import { TaskRow } from "./task-row.js";

const SKELETON_ROWS = 16;
const ONE_COLUMN = matchMedia("(max-width: 720px)");

/** @param {HTMLElement} element */
export function TaskList(element) {
  const scroller = element.querySelector(".task-list__scroll");
  const body = element.querySelector("tbody");
  const chip = element.querySelector(".new-chip");
  const heads = [...element.querySelectorAll("th [data-column]")];
  const empty = element.querySelector(".task-list__empty");
  const count = element.querySelector(".task-list__count");
  const older = element.querySelector(".task-list__older");
  const sentinel = element.querySelector(".task-list__sentinel");
  const template = document.querySelector("#task-row");
  const allRows = element.querySelector("th .tick");
  const rows = new Map();
  let isHovered = false;
  let isReading = false;
  let current = null;
  let isChosen = false; // somebody has been on the current row: it stays current wherever it goes
  let mayLoadOlder = false;

  for (const head of heads) head.addEventListener("click", () => ask("sortTasks", { column: head.dataset.column }));
  chip.addEventListener("click", () => showNew());
  older.addEventListener("click", () => ask("loadOlder"));
  empty.querySelector("button").addEventListener("click", () => ask("filterTasks", { q: "" }));
  allRows.addEventListener("click", () => ask("tickRowsHere"));
  body.addEventListener("click", tickOrOpen);
  LongPress(body, (target) => askTick(target.closest("tr"), false));
  body.addEventListener("focusin", (event) => {
    isChosen = true;
    makeCurrent(event.target.closest("tr")?.dataset.taskId ?? null);
  });
  body.addEventListener("focusout", () => queueMicrotask(noticeReading));
  scroller.addEventListener("pointerover", (event) => noticeHover(event.pointerType === "mouse"));
  scroller.addEventListener("pointerleave", () => noticeHover(false));
  scroller.addEventListener("scroll", noticeReading, { passive: true });
  document.addEventListener("scroll", noticeReading, { passive: true });
  const observer = new IntersectionObserver((entries) => {
    if (mayLoadOlder && entries.at(-1).isIntersecting) ask("loadOlder");
  });

  function update({ state, now }) {
    element.hidden = state.route.page !== "tasks";
    updateRows(state, now);
    allRows.checked = tickedRows(state.selection, state.rows) === "all";
    updateHeads(state.query.sort);
    updateChip(state);
    updateEmpty(state);
    updateFoot(state);
    element.dataset.phase = state.list.phase;
    element.dataset.connection = state.connection;
    noticeReading();
  }

  function updateRows(state, now) {
    const wanted = new Set(state.rows);
    for (const [id, row] of rows) {
      if (wanted.has(id)) continue;
      row.element.remove();
      rows.delete(id);
    }
    const isFirstLoad = state.list.phase === "loading" && state.rows.length === 0;
    for (const skeleton of body.querySelectorAll(".skeleton-row")) if (!isFirstLoad) skeleton.remove();
    if (isFirstLoad && body.childElementCount === 0) body.append(...skeletons());
    let next = body.firstElementChild;
    for (const id of state.rows) {
      if (!rows.has(id)) rows.set(id, TaskRow(template));
      const row = rows.get(id);
      row.update(state.tasks.get(id), { now, isOpen: id === state.opened, isFresh: state.fresh.has(id), isTicked: isTicked(state.selection, id) });
      if (row.element === next) next = next.nextElementSibling;
      else body.insertBefore(row.element, next);
    }
    if (!rows.has(current)) isChosen = false;
    if (!isChosen && current !== state.rows[0]) makeCurrent(state.rows[0] ?? null);
  }

  function updateHeads(sort) {
    const direction = sort.startsWith("-") ? "descending" : "ascending";
    for (const head of heads) {
      const cell = head.closest("th");
      if (head.dataset.column === sortColumn(sort)) cell.setAttribute("aria-sort", direction);
      else cell.removeAttribute("aria-sort");
    }
  }

  function updateChip({ waiting }) {
    chip.hidden = waiting.size === 0;
    const values = { count: waiting.size, formatted: formatCount(waiting.size) };
    chip.querySelector("span").textContent = t(waiting.size < WAITING_LIMIT ? "list.new" : "list.new.more", values);
  }

  function updateEmpty(state) {
    const reason = emptiness(state);
    empty.hidden = reason === null;
    if (reason === null) return;
    empty.querySelector(".task-list__empty-title").textContent = t(`list.${reason}.title`);
    empty.querySelector(".task-list__empty-advice").textContent = t(`list.${reason}.advice`);
    empty.querySelector("button").hidden = reason !== "filtered";
  }

  function updateFoot(state) {
    const { list, query } = state;
    const values = { count: state.rows.length, formatted: formatCount(state.rows.length) };
    const loaded = t(query.sort === NEWEST_FIRST ? "list.loaded.newest" : "list.loaded.sorted", values);
    if (list.older === "failed") count.textContent = t("list.older.failed");
    else count.textContent = list.phase === "loading" && state.rows.length === 0 ? t("list.loading") : loaded;
    older.hidden = list.nextPage === null;
    older.disabled = list.older === "loading";
    const may = list.phase === "ready" && list.nextPage !== null && list.older === "idle";
    if (may && !mayLoadOlder) {
      observer.unobserve(sentinel); // observing anew tells at once where the sentinel is already in sight
      observer.observe(sentinel);
    }
    mayLoadOlder = may;
  }

  function noticeHover(hovered) {
    isHovered = hovered;
    noticeReading();
  }

  function noticeReading() {
    const isScrolled = scroller.scrollTop > 0 || body.getBoundingClientRect().top < 0;
    const reading = isScrolled || isHovered || body.contains(document.activeElement);
    if (reading === isReading) return;
    isReading = reading;
    ask("holdRows", { reading });
  }

  function makeCurrent(id) {
    rows.get(current)?.link.setAttribute("tabindex", "-1");
    current = id;
    rows.get(current)?.link.setAttribute("tabindex", "0");
    noticeReading();
  }

  /** The next or previous row, from the current one, gets the focus. */
  function move(step) {
    const ids = [...body.querySelectorAll(".task-row")].map((row) => row.dataset.taskId);
    if (ids.length === 0) return;
    const from = body.contains(document.activeElement) ? ids.indexOf(current) + step : ids.indexOf(current);
    focusRow(ids[Math.max(0, Math.min(ids.length - 1, from))]);
  }

  function focusRow(id) {
    const row = rows.get(id);
    row?.link.focus({ preventScroll: true });
    row?.element.scrollIntoView({ block: "nearest" });
  }

  function showNew() {
    ask("showNew");
    scroller.scrollTo({ top: 0 });
    if (body.getBoundingClientRect().top < 0) element.scrollIntoView({ block: "start" });
  }

  /** A click on a box ticks; on a phone, once something is ticked, so does a tap anywhere on a row. */
  function tickOrOpen(event) {
    const place = event.target.closest("tr");
    const isTapTick = document.body.classList.contains("is-selecting") && ONE_COLUMN.matches;
    if (event.target.closest(".column-select") || isTapTick) {
      if (event.target.closest("a")) event.preventDefault();
      if (event.shiftKey) document.getSelection().removeAllRanges();
      askTick(place, event.shiftKey);
      return;
    }
    if (event.target.closest("a, button") || String(document.getSelection())) return;
    const row = rows.get(place?.dataset.taskId);
    row?.link.focus({ preventScroll: true });
    row?.link.click();
  }

  function tick({ isRange }) {
    if (body.contains(document.activeElement)) askTick(rows.get(current)?.element, isRange);
  }

  function askTick(row, isRange) {
    if (row?.dataset.taskId) ask("tickRow", { taskId: row.dataset.taskId, isRange });
  }

  function ask(type, detail) {
    element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  return { update, move, tick, focusRow, showNew, currentId: () => current };
}

function skeletons() {
  const template = document.querySelector("#skeleton-row");
  return Array.from({ length: SKELETON_ROWS }, () => template.content.cloneNode(true));
}
