/** Arguments or result as indented JSON, every number as it was written. The section's data-payload names the field. */

import { formatExact, tokens } from "../exact-json.js";

/** @param {HTMLElement} element */
export function Payload(element) {
  const field = element.dataset.payload;
  const code = element.querySelector("pre");
  const copy = element.querySelector("[data-copy]");
  let shown;

  function update(task) {
    const value = task[field];
    const hasResult = field !== "result_payload" || task.status === "completed";
    element.hidden = value === undefined || (value === null && field === "arguments") || !hasResult;
    if (element.hidden || value === shown) return;
    shown = value;
    copy.dataset.copy = formatExact(value);
    code.replaceChildren(...tokens(value).map(coloured));
  }

  return { update };
}

function coloured({ kind, text }) {
  const span = document.createElement("span");
  span.className = `json-${kind}`;
  span.textContent = text;
  return span;
}
