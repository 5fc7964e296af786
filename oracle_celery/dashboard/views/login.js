/** What is shown to nobody in particular: why, a field for a token, and where to get one. Asks with `logIn` {token}. */

import { t } from "../locale.js";
import { tokenFromText } from "../session.js";
import { hide } from "./drawing.js";

/** @param {HTMLElement} element */
export function Login(element) {
  const form = element.querySelector("form");
  const cause = element.querySelector(".login__cause");
  const problem = element.querySelector(".login__problem");
  const submit = element.querySelector("[type=submit]");
  const { token } = form.elements;
  let isEmpty = false;

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = tokenFromText(token.value);
    isEmpty = given === "";
    if (isEmpty) {
      token.focus();
      say(t("login.empty"));
    } else {
      element.dispatchEvent(new CustomEvent("logIn", { bubbles: true, detail: { token: given } }));
    }
  });
  form.addEventListener("input", () => {
    isEmpty = false;
  });

  function update({ state: { session } }) {
    hide(element, session.phase !== "out");
    if (session.phase === "in") form.reset();
    if (element.hidden) return;
    element.setAttribute("aria-busy", String(session.isSending));
    submit.setAttribute("aria-disabled", String(session.isSending));
    cause.textContent = t(`login.cause.${session.cause}`);
    say(session.error !== null ? failureText(session.error) : isEmpty ? t("login.empty") : "");
  }

  /** Writes only what differs: an alert speaks at every change. */
  function say(text) {
    hide(problem, text === "");
    if (problem.textContent !== text) problem.textContent = text;
    token.setAttribute("aria-invalid", String(text !== ""));
  }

  return {
    update,
    focus() {
      token.focus();
      token.select();
    },
  };
}

/** What to do about it, in the reader's language; the server's own words where it knows more. */
function failureText({ code, message }) {
  return t(`login.failed.${code}`, { message }, t("login.failed", { message }));
}
