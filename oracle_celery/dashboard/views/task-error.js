/** What a task failed with: its type, its words and its traceback. */

import { Traceback } from "./traceback.js";

/** @param {HTMLElement} element */
export function TaskError(element) {
  const message = element.querySelector(".task-error__message");
  const details = element.querySelector("details");
  const traceback = Traceback(details.querySelector("pre"));

  function update(task) {
    element.hidden = !task.error_type && !task.error_message && !task.traceback;
    message.querySelector("code").textContent = task.error_type ?? "";
    message.querySelector("p").textContent = task.error_message ?? "";
    details.hidden = !task.traceback;
    traceback.update(task.traceback);
    details.querySelector("[data-copy]").dataset.copy = task.traceback ?? "";
  }

  return { update };
}
