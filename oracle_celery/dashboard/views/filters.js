/** Status tabs with their counts, the query and the saved views. Asks with `filterTasks` {q}, `openView` {q, sort}. */

import { getValues } from "../api.js";
import { countOf } from "../counts.js";
import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { isTerm, joined, parseWords, withTerm } from "../query-language.js";
import { isFiltered, namedStatuses, typedText } from "../query.js";
import { hide } from "./drawing.js";
import { QueryField } from "./query-field.js";
import { SavedViews } from "./saved-views.js";

/** @param {HTMLFormElement} element */
export function Filters(element) {
  const tabs = [...element.querySelectorAll("[data-status].status-tab")];
  const field = QueryField(element.querySelector(".query"), getValues);
  const views = SavedViews(element.querySelector(".saved-views"));
  const problem = element.querySelector(".filters__error");
  const clear = element.querySelector(".filters__clear");
  let query = null;

  for (const tab of tabs) tab.addEventListener("click", () => ask(withStatus(typedText(query), tab.dataset.status)));
  element.addEventListener("submit", (event) => event.preventDefault());
  clear.addEventListener("click", () => {
    field.focus();
    ask("");
  });

  function ask(q) {
    element.dispatchEvent(new CustomEvent("filterTasks", { bubbles: true, detail: { q } }));
  }

  function update({ state, now }) {
    const { list, session } = state;
    query = state.query;
    const statuses = namedStatuses(query);
    for (const tab of tabs) {
      const { status } = tab.dataset;
      tab.setAttribute("aria-pressed", String(status === "" ? statuses.length === 0 : statuses.includes(status)));
      tab.querySelector(".status-tab__count").textContent = countText(countOf(state, status));
    }
    field.update({ state });
    if (session.phase === "out") field.empty();
    views.update({ state, now });
    hide(clear, !isFiltered(query) && query.wrong.length === 0);
    const refused = list.phase === "failed" ? list.error : null;
    hide(problem, refused === null);
    const message = refused?.code === "unreachable" ? t("server.unreachable") : refused?.message;
    const text = refused === null ? "" : t("list.failed", { message });
    if (problem.textContent !== text) Object.assign(problem, { textContent: text, title: text });
  }

  return { update, focus: field.focus };
}

/** @param {import("../counts.js").Count} count */
function countText(count) {
  if (count === null) return "";
  return count.is_more ? t("filter.count.more", { formatted: formatCount(count.count) }) : formatCount(count.count);
}

/** @param {string} status "" is all */
function withStatus(text, status) {
  if (status !== "") return withTerm(text, { field: "status", value: status, replaces: true });
  return joined(parseWords(text).filter((word) => !isTerm(word) || word.field !== "status"));
}
