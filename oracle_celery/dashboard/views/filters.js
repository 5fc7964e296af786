/** Status tabs and the query. Asks with `filterTasks` {q}. */

import { isTerm, parseWords, withTerm } from "../query-language.js";
import { isFiltered, namedStatuses, typedText } from "../query.js";
import { t } from "../locale.js";

/** @param {HTMLFormElement} element */
export function Filters(element) {
  const tabs = [...element.querySelectorAll("[data-status].status-tab")];
  const input = element.elements.q;
  const problem = element.querySelector(".filters__error");
  const clear = element.querySelector(".filters__clear");
  let query = null;

  for (const tab of tabs) tab.addEventListener("click", () => ask(withStatus(typedText(query), tab.dataset.status)));
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(input.value);
  });
  clear.addEventListener("click", () => {
    input.value = "";
    input.focus();
    ask("");
  });

  function ask(q) {
    element.dispatchEvent(new CustomEvent("filterTasks", { bubbles: true, detail: { q } }));
  }

  function update({ state }) {
    const { list } = state;
    const statuses = namedStatuses(state.query);
    for (const tab of tabs) {
      const { status } = tab.dataset;
      tab.setAttribute("aria-pressed", String(status === "" ? statuses.length === 0 : statuses.includes(status)));
    }
    if (query !== state.query && (input !== document.activeElement || input.value === "")) input.value = typedText(state.query);
    query = state.query;
    clear.hidden = !isFiltered(query) && query.wrong.length === 0;
    const refused = list.phase === "failed" ? list.error : null;
    problem.hidden = refused === null;
    const message = refused?.code === "unreachable" ? t("server.unreachable") : refused?.message;
    const text = refused === null ? "" : t("list.failed", { message });
    if (problem.textContent !== text) Object.assign(problem, { textContent: text, title: text });
  }

  return { update, focus: () => input.focus() };
}

/** @param {string} status "" is all */
function withStatus(text, status) {
  if (status !== "") return withTerm(text, { field: "status", value: status, replaces: true });
  return parseWords(text)
    .filter((word) => !isTerm(word) || word.field !== "status")
    .map(({ text: word }) => word)
    .join(" ");
}
