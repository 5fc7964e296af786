/** What every page beside the task list has: a title that takes the focus, a summary, a problem, an empty state. */

import { t } from "../locale.js";
import { hide } from "./drawing.js";
import { readErrorText } from "./error-text.js";

/** @param {HTMLElement} element */
export function Page(element) {
  const title = element.querySelector(".page__head h2");
  const summary = element.querySelector(".page__summary");
  const problem = element.querySelector(".page__problem");
  const empty = element.querySelector(".page__empty");

  /** @param {{isShown: boolean, error?: Error | null, isEmpty?: boolean, connection: string}} how @returns {boolean} whether it is shown */
  function update({ isShown, error = null, isEmpty = false, connection }) {
    hide(element, !isShown);
    if (!isShown) return false;
    element.dataset.connection = connection;
    problem.hidden = error === null;
    const text = error === null ? "" : t("page.failed", { message: readErrorText(error) });
    if (problem.textContent !== text) problem.textContent = text;
    if (empty) empty.hidden = !isEmpty;
    return true;
  }

  return { update, title, summary, empty, focus: () => title.focus({ preventScroll: true }) };
}
