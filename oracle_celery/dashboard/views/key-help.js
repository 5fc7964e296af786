/**
 * Keys of the whole page, and the dialog that lists them. Off while somebody types and with any modifier: those keys
 * belong to the field and to the browser.
 */

/** @param {HTMLDialogElement} dialog @param {Record<string, () => void>} actions by key */
export function KeyHelp(dialog, actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    if (isTyping(event.target) && event.key !== "Escape") return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });

  return { open: () => dialog.showModal() };
}

function isTyping(target) {
  if (target instanceof HTMLInputElement) return target.type !== "checkbox";
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}
