/**
 * What a task is, in pairs: a value that can be filtered by is a button, everything else text. See value-clicks.js.
 * A trace that was not sampled is said to be so: nobody has kept it.
 */

import { formatDuration, formatFullTime, formatTime, UNKNOWN } from "../format.js";
import { t } from "../locale.js";
import { formatRuntime } from "./task-row.js";

/** @param {HTMLElement} element */
export function TaskFacts(element) {
  function update({ task, entries, now }) {
    const wanted = [
      ["fact.user", task.user_id, { field: "user" }],
      ["fact.queue", task.queue, { field: "queue" }],
      ["fact.worker", task.worker, { field: "worker" }],
      ["fact.created", formatTime(task.created_at), { title: formatFullTime(task.created_at) }],
      ["fact.wait", formatDuration(waited(entries))],
      ["fact.runtime", formatRuntime(task, now)],
      ...optional("fact.eta", task.eta && formatTime(task.eta), { title: formatFullTime(task.eta) }),
      ...optional("fact.expires", task.expires && formatTime(task.expires), { title: formatFullTime(task.expires) }),
      ...optional("fact.trace", task.trace_id, { field: "trace", copy: "copy.trace", note: task.trace_sampled === false ? "trace.unsampled" : null }),
      ...optional("fact.parent_trace", task.parent_trace_id, { copy: "copy.trace" }),
      ...optional("fact.correlation", task.correlation_id, { field: "correlation", copy: "copy.correlation" }),
    ];
    while (element.childElementCount > wanted.length) element.lastElementChild.remove();
    while (element.childElementCount < wanted.length) {
      const pair = element.appendChild(document.createElement("div"));
      pair.append(document.createElement("dt"), document.createElement("dd"));
    }
    wanted.forEach(([key, text, how = {}], at) => showFact(element.children[at], key, text, how));
  }

  return { update };
}

function optional(key, text, how) {
  return text ? [[key, text, how]] : [];
}

/** Seconds that the task spent pending, in all its attempts; unknown until something came after a wait. */
function waited(entries) {
  const waits = entries.filter((entry) => entry.status === "pending" && entry.duration !== null);
  return waits.length === 0 ? null : waits.reduce((sum, entry) => sum + entry.duration, 0);
}

/** `copy`: an id, in a line of its own, to be taken along. `note`: what is to be known of it. */
function showFact(pair, key, text, { field, copy = null, note = null, title = "" }) {
  const [term, definition] = pair.children;
  term.textContent = t(key);
  pair.classList.toggle("is-wide", copy !== null);
  const kind = text && field ? "button" : copy ? "code" : "span";
  let value = definition.firstElementChild;
  if (value?.localName !== kind) {
    value = document.createElement(kind);
    if (kind === "button") Object.assign(value, { type: "button", className: "link" });
    definition.replaceChildren(value);
  }
  if (value.textContent !== (text ?? UNKNOWN)) value.textContent = text ?? UNKNOWN;
  value.title = title || (kind === "button" ? text : "");
  value.classList.toggle("is-code", copy !== null);
  if (kind === "button") value.dataset.termField = field;
  if (copy) showCopy(definition, text, copy);
  else definition.querySelector("[data-copy]")?.remove();
  showNote(definition, note);
}

function showNote(definition, key) {
  let note = definition.querySelector(".tag");
  if (key === null) {
    note?.remove();
    return;
  }
  note ??= Object.assign(document.createElement("span"), { className: "tag" });
  note.textContent = t(key);
  definition.append(note);
}

function showCopy(definition, text, label) {
  let button = definition.querySelector("[data-copy]");
  if (button === null) {
    button = document.querySelector(".task-detail__id [data-copy]").cloneNode(true);
    definition.append(" ", button);
  }
  button.dataset.label = label;
  button.dataset.copy = text;
  button.title = t(label);
  button.setAttribute("aria-label", t(label));
}
