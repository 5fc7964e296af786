/**
 * What is ticked and what may be done with it, lying exactly over the table's head so that nothing moves.
 * Asks with `tickRowsHere`, `tickEverything`, `clearSelection`, `commandMany` {action}.
 */

import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { isSelecting, mayApply } from "../selection.js";
import { hide } from "./drawing.js";

/** @param {HTMLElement} element */
export function SelectionBar(element) {
  const [here, everything] = element.querySelectorAll("[data-extent]");
  const box = element.querySelector(".tick");
  const actions = [...element.querySelectorAll("[data-action]")];

  here.addEventListener("click", () => ask("tickRowsHere"));
  everything.addEventListener("click", () => ask("tickEverything"));
  box.addEventListener("click", () => ask("clearSelection"));
  element.querySelector("[data-clear]").addEventListener("click", () => ask("clearSelection"));
  for (const button of actions) {
    button.addEventListener("click", () => ask("commandMany", { action: button.dataset.action }));
  }

  function ask(type, detail) {
    element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  function update({ state }) {
    const { selection, rows, list } = state;
    hide(element, !isSelecting(selection));
    document.body.classList.toggle("is-selecting", !element.hidden);
    if (element.hidden) return;
    const isAllHere = !selection.isEverything && selection.ids.size === rows.length && rows.every((id) => selection.ids.has(id));
    const shown = selection.isEverything ? rows.length : selection.ids.size;
    const values = { count: shown, formatted: formatCount(shown) };
    here.textContent = t(isAllHere || selection.isEverything ? "selection.here" : "selection.ticked", values);
    here.setAttribute("aria-pressed", String(!selection.isEverything));
    everything.hidden = list.nextPage === null && !selection.isEverything;
    everything.setAttribute("aria-pressed", String(selection.isEverything));
    const total = { count: selection.total ?? 0, formatted: formatCount(selection.total) };
    everything.textContent = t(selection.total === null ? "selection.everything" : "selection.everything.counted", total);
    box.checked = true;
    box.indeterminate = !isAllHere && !selection.isEverything;
    for (const button of actions) {
      const may = mayApply(button.dataset.action, state);
      button.disabled = !may;
      button.title = may ? "" : t(`selection.not.${button.dataset.action}`);
    }
  }

  return { update };
}
