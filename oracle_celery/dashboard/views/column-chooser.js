/**
 * The menu of the list's columns: a button, and choices that are ticked. Asks with `chooseColumns` {columns}.
 *
 * A menu as the ear and the keyboard know it: arrows and the letter of a choice walk, Enter or Space tick, Escape or Tab
 * leave. It stays open while one chooses. Where it cannot be used, on a phone, its button is not shown.
 */

import { COLUMNS, toggled } from "../columns.js";
import { t } from "../locale.js";
import { hide } from "./drawing.js";
import { copyOf } from "./keyed-list.js";

const GAP = 4; // CSS pixels between button and menu

/** @param {HTMLElement} element */
export function ColumnChooser(element) {
  const button = element.querySelector("button");
  const menu = element.querySelector("[role=menu]");
  const choices = COLUMNS.map((column) => ({ column, element: copyOf("menu-choice") }));
  let columns = [];

  menu.append(...choices.map((choice) => choice.element));
  button.addEventListener("click", () => menu.togglePopover());
  button.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    menu.showPopover();
    focus(event.key === "ArrowDown" ? 0 : -1);
  });
  menu.addEventListener("toggle", ({ newState }) => {
    button.setAttribute("aria-expanded", String(newState === "open"));
    if (newState === "open" && !menu.contains(document.activeElement)) focus(0);
  });
  menu.addEventListener("beforetoggle", ({ newState }) => {
    if (newState === "open") place();
    else if (menu.contains(document.activeElement)) button.focus();
  });
  menu.addEventListener("keydown", walk);
  for (const { column, element: choice } of choices) {
    choice.setAttribute("aria-disabled", String(column.isFixed));
    choice.addEventListener("click", () => {
      if (column.isFixed) return;
      element.dispatchEvent(new CustomEvent("chooseColumns", { bubbles: true, detail: { columns: toggled(columns, column.name) } }));
    });
  }

  function update({ state }) {
    columns = state.columns;
    hide(element, state.route.page !== "tasks");
    for (const { column, element: choice } of choices) {
      choice.setAttribute("aria-checked", String(column.isFixed || columns.includes(column.name)));
      const word = t(column.label);
      if (choice.querySelector("span").textContent !== word) choice.querySelector("span").textContent = word;
    }
  }

  /** Under the button, at its end. */
  function place() {
    const { bottom, right } = button.getBoundingClientRect();
    menu.style.insetBlockStart = `${bottom + GAP}px`;
    menu.style.insetInlineEnd = `${document.documentElement.clientWidth - right}px`;
  }

  function focus(number) {
    choices.at(number).element.focus();
  }

  function walk(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = choices.findIndex((choice) => choice.element === document.activeElement);
    const { length } = choices;
    const targets = { ArrowDown: (at + 1) % length, ArrowUp: (at - 1 + length) % length, Home: 0, End: length - 1 };
    event.stopPropagation(); // the keys of the page are not meant
    if (event.key === "Tab" || event.key === "Escape") {
      if (event.key === "Escape") event.preventDefault();
      menu.hidePopover();
    } else if (Object.hasOwn(targets, event.key)) {
      event.preventDefault();
      focus(targets[event.key]);
    } else if (event.key.length === 1 && event.key !== " ") {
      const named = beginningWith(event.key, at);
      if (named !== undefined) named.element.focus();
    }
  }

  /** The next choice whose word begins so. */
  function beginningWith(letter, at) {
    const turned = [...choices.slice(at + 1), ...choices.slice(0, at + 1)];
    return turned.find(({ element: choice }) => choice.textContent.trim().toLowerCase().startsWith(letter.toLowerCase()));
  }

  return { update };
}
