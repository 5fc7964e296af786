/**
 * The bar on top: environment, connection badge, language, theme, and who is logged in.
 * Asks with `chooseLanguage` {language}, `changeTheme`, `showKeys`, `showPalette`, `logOut`.
 */

import { LANGUAGES, currentLanguage, t } from "../locale.js";
import { hide } from "./drawing.js";

const SHAPES = { connecting: "reconnecting", live: "live", reconnecting: "reconnecting", deaf: "deaf" };

/** @param {HTMLElement} element */
export function Bar(element) {
  const badge = element.querySelector(".connection");
  const reason = badge.querySelector(".connection__reason");
  const glyph = badge.querySelector("use");
  const environment = element.querySelector(".bar__environment");
  const user = element.querySelector(".who__user");
  const role = element.querySelector(".who__role");
  const problem = element.querySelector(".who__problem");
  const leave = element.querySelector("#logout-button");
  const buttons = LANGUAGES.map((language) => element.querySelector(`[data-language="${language}"]`));

  for (const button of buttons) {
    button.addEventListener("click", () => ask("chooseLanguage", { language: button.dataset.language }));
  }
  element.querySelector("#theme-button").addEventListener("click", () => ask("changeTheme"));
  element.querySelector("#palette-button").addEventListener("click", () => ask("showPalette"));
  element.querySelector("#keys-button").addEventListener("click", () => ask("showKeys"));
  leave.addEventListener("click", () => ask("logOut"));

  function ask(type, detail) {
    element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  function update({ state }) {
    const word = t(`connection.${state.connection}`);
    const shown = badge.querySelector(".connection__word");
    if (shown.textContent !== word) shown.textContent = word; // a status region speaks at every change
    badge.dataset.connection = state.connection;
    const why = t(`connection.${state.cause}.reason`);
    if (reason.textContent !== why) reason.textContent = why;
    const shape = `#connection-${SHAPES[state.connection]}`;
    if (glyph.getAttribute("href") !== shape) glyph.setAttribute("href", shape);
    showEnvironment(state.session.viewer?.environment ?? null);
    showViewer(state.session);
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.dataset.language === currentLanguage()));
    }
  }

  function showEnvironment(told) {
    environment.textContent = told?.name ?? "";
    environment.dataset.color = told?.color ?? "";
    environment.title = told === null ? "" : t("environment", { name: told.name });
    hide(environment, told === null);
  }

  function showViewer({ viewer, isStuck }) {
    const told = isStuck ? t("logout.failed") : "";
    if (problem.textContent !== told) problem.textContent = told;
    user.textContent = viewer?.user_id ?? "";
    role.textContent = viewer === null ? "" : t(`role.${viewer.role}`, {}, viewer.role);
    role.title = viewer === null ? "" : t(`role.${viewer.role}.means`, {}, "");
    user.title = viewer?.user_id ?? "";
    leave.title = t("logout.of", { user: viewer?.user_id ?? "" });
    leave.setAttribute("aria-label", leave.title);
  }

  return { update };
}
