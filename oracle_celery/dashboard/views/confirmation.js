/**
 * A dialog that asks before something is done, and stays until the server has taken it: a refusal is told where the
 * question was asked, with everything that was typed still there.
 *
 * The harmless button has the first focus. Esc, the backdrop and that button leave everything as it is, unless the
 * command is already under way. The focus goes back to where it was, or to `fallback` where that is gone.
 */

import { errorText } from "./error-text.js";

/**
 * @param {HTMLDialogElement} dialog
 * @param {{confirm: (form: HTMLFormElement) => Promise<void> | null, fallback: () => void}} acts
 *   `confirm` returns null where the form itself has to be put right first
 */
export function Confirmation(dialog, { confirm, fallback }) {
  const form = dialog.querySelector("form");
  const problem = dialog.querySelector(".dialog__problem");
  const submit = dialog.querySelector("[type=submit]");
  let isSending = false;
  let isStarted = false; // by a press inside: a drag that ends on the backdrop closes nothing

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isSending || submit.disabled) return;
    const sending = confirm(form);
    if (sending === null) return;
    send(sending);
  });
  for (const button of dialog.querySelectorAll("[data-dismiss]")) button.addEventListener("click", dismiss);
  dialog.addEventListener("cancel", (event) => isSending && event.preventDefault());
  dialog.addEventListener("pointerdown", (event) => (isStarted = event.target === dialog));
  dialog.addEventListener("click", (event) => event.target === dialog && isStarted && dismiss());
  dialog.addEventListener("close", () => {
    const { activeElement } = document; // what the browser could not give the focus back to leaves it here
    if (activeElement === document.body || dialog.contains(activeElement)) fallback();
  });

  async function send(sending) {
    setSending(true);
    tell("");
    try {
      await sending;
    } catch (error) {
      setSending(false);
      tell(errorText(error));
      return;
    }
    setSending(false);
    dialog.close();
  }

  function open() {
    form.reset();
    tell("");
    dialog.showModal();
    dialog.querySelector("[autofocus]").focus({ preventScroll: true });
  }

  function dismiss() {
    if (!isSending) dialog.close();
  }

  function setSending(sending) {
    isSending = sending;
    dialog.setAttribute("aria-busy", String(sending));
    submit.setAttribute("aria-disabled", String(sending));
  }

  function tell(text) {
    problem.hidden = text === "";
    problem.textContent = text;
  }

  return { form, open, tell };
}
