/**
 * Status tabs and the fields id, name, user, queue, worker. Asks with `filterTasks` {changes to the query}.
 *
 * A field is never written to while a person types in it: what they see is theirs, the state follows.
 */

import { FIELDS, isFiltered } from "../query.js";
import { t } from "../locale.js";

const TYPING_PAUSE = 250; // ms without a key after which the list is asked

/** @param {HTMLFormElement} element */
export function Filters(element) {
  const tabs = [...element.querySelectorAll("[data-status].status-tab")];
  const inputs = FIELDS.map((field) => element.elements[field]);
  const problem = element.querySelector(".filters__error");
  const clear = element.querySelector(".filters__clear");
  let typing = null;

  for (const tab of tabs) {
    tab.addEventListener("click", () => ask({ status: tab.dataset.status ? [tab.dataset.status] : [] }));
  }
  element.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(askTyped, TYPING_PAUSE);
  });
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    askTyped();
  });
  clear.addEventListener("click", () => {
    for (const input of inputs) input.value = "";
    inputs[0].focus();
    ask({ status: [], ...Object.fromEntries(FIELDS.map((field) => [field, ""])) });
  });

  function askTyped() {
    clearTimeout(typing);
    typing = null;
    ask(Object.fromEntries(inputs.map((input) => [input.name, input.value.trim()])));
  }

  function ask(changes) {
    element.dispatchEvent(new CustomEvent("filterTasks", { bubbles: true, detail: changes }));
  }

  function update({ state }) {
    const { query, list } = state;
    for (const tab of tabs) {
      const { status } = tab.dataset;
      const isPressed = status === "" ? query.status.length === 0 : query.status.includes(status);
      tab.setAttribute("aria-pressed", String(isPressed));
    }
    const refused = list.phase === "failed" ? list.error : null;
    for (const input of inputs) {
      const isTheirs = input === document.activeElement || typing !== null;
      if (!isTheirs && input.value !== query[input.name]) input.value = query[input.name];
      input.setAttribute("aria-invalid", String(refused?.parameter === input.name));
    }
    clear.hidden = !isFiltered(query);
    problem.hidden = refused === null;
    const message = refused?.code === "unreachable" ? t("server.unreachable") : refused?.message;
    const text = refused === null ? "" : t("list.failed", { message });
    if (problem.textContent !== text) Object.assign(problem, { textContent: text, title: text });
  }

  return { update, focus: () => inputs[0].focus() };
}
