/**
 * Asks before one task is sent again: unchanged, or with other arguments or another queue. What the rules allow only on
 * purpose (a cancelled task, a chord's member) is a tick that has to be set. `confirm(task, Map)` gives the command.
 */

import { t } from "../locale.js";
import { editableArguments, readChanges } from "../retry-changes.js";
import { Confirmation } from "./confirmation.js";

const FIELDS = ["args", "kwargs", "queue"];

/** @param {HTMLDialogElement} dialog */
export function RetryDialog(dialog, { confirm, fallback }) {
  const confirmation = Confirmation(dialog, { confirm: send, fallback });
  const { form } = confirmation;
  const submit = form.querySelector("[type=submit]");
  const more = form.querySelector("details");
  const needs = [...form.querySelectorAll("[data-need]")];
  let task = null;
  let before = null;

  form.addEventListener("input", draw);

  function open({ task: asked, control }) {
    task = asked;
    const offered = editableArguments(task.arguments ?? undefined);
    before = { ...offered, queue: task.queue ?? "" };
    dialog.querySelector(".dialog__subject").textContent = `${task.name ?? ""} ${task.task_id}`.trim();
    for (const need of needs) need.hidden = control.retry.needs !== need.dataset.need;
    dialog.querySelector(".dialog__warning").hidden = offered.isWhole;
    confirmation.open();
    more.open = false;
    for (const field of FIELDS) form.elements[field].value = before[field];
    draw();
  }

  function draw() {
    const { changes, problems } = readChanges(typed(), before);
    for (const field of ["args", "kwargs"]) {
      const input = form.elements[field];
      input.setAttribute("aria-invalid", String(field in problems));
      dialog.querySelector(`#retry-${field}-problem`).textContent = problems[field] ? t(`retry.problem.${problems[field]}`) : "";
    }
    const isAgreed = needs.every((need) => need.hidden || form.elements[need.dataset.need].checked);
    submit.disabled = !isAgreed || Object.keys(problems).length > 0;
    const changed = FIELDS.filter((field) => changes.has(field)).map((field) => t(`retry.changed.${field}`));
    dialog.querySelector(".dialog__hint").textContent = changed.length > 0 ? t("retry.changed", { what: changed.join(", ") }) : "";
  }

  function send() {
    const { changes, problems } = readChanges(typed(), before);
    if (Object.keys(problems).length > 0) {
      more.open = true;
      form.elements[Object.keys(problems)[0]].focus();
      return null;
    }
    const reason = form.elements.reason.value.trim();
    const fields = new Map(reason === "" ? [] : [["reason", reason]]);
    for (const need of needs) if (!need.hidden) fields.set(need.dataset.need, true);
    return confirm(task, new Map([...fields, ...changes]));
  }

  function typed() {
    return Object.fromEntries(FIELDS.map((field) => [field, form.elements[field].value]));
  }

  return { open };
}
