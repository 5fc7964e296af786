/** Asks before one task is cancelled. `confirm(task, {reason})` gives the command. */

import { t } from "../locale.js";
import { Confirmation } from "./confirmation.js";

/** @param {HTMLDialogElement} dialog */
export function CancelDialog(dialog, { confirm, fallback }) {
  const confirmation = Confirmation(dialog, {
    confirm: (form) => confirm(task, { reason: form.elements.reason.value.trim() }),
    fallback,
  });
  const warning = dialog.querySelector(".dialog__warning");
  let task = null;

  function open({ task: asked, control }) {
    task = asked;
    dialog.querySelector(".dialog__subject").textContent = `${task.name ?? ""} ${task.task_id}`.trim();
    dialog.querySelector(".dialog__explained").textContent = t(`cancel.explained.${task.status}`);
    warning.hidden = task.status !== "in_progress" || control?.cancel.interruptible !== false;
    warning.textContent = t("control.not_interruptible");
    confirmation.open();
  }

  return { open };
}
