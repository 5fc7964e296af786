/**
 * Every [data-copy] button copies its value. Over plain HTTP the clipboard API is missing: then a hidden field and the
 * old command do it. The button says "Copied" for a moment, to the ear too.
 */

import { t } from "../locale.js";

const SAID_FOR = 1600; // ms

/** @param {HTMLElement} announcer a live region */
export function CopyButtons(announcer) {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    event.preventDefault(); // a copy button inside a summary does not fold it
    copy(button.dataset.copy, button);
  });

  async function copy(text, button = null) {
    const done = (await copyByApi(text)) || copyByCommand(text);
    announcer.textContent = t(done ? "copy.done" : "copy.failed");
    if (!button) return;
    button.dataset.said = announcer.textContent;
    setTimeout(() => delete button.dataset.said, SAID_FOR);
  }

  return { copy };
}

async function copyByApi(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function copyByCommand(text) {
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return done;
}
