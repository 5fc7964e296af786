/** What a task failed with: its type, its words and its traceback. */

/** @param {HTMLElement} element */
export function TaskError(element) {
  const message = element.querySelector(".task-error__message");
  const details = element.querySelector("details");

  function update(task) {
    element.hidden = !task.error_type && !task.error_message && !task.traceback;
    message.querySelector("code").textContent = task.error_type ?? "";
    message.querySelector("p").textContent = task.error_message ?? "";
    details.hidden = !task.traceback;
    details.querySelector("pre").textContent = task.traceback ?? "";
    details.querySelector("[data-copy]").dataset.copy = task.traceback ?? "";
  }

  return { update };
}
