/** Who did what with the opened task, newest first. */

import { auditTarget, newestOutcomes } from "../audit.js";
import { formatExactTime, formatFullTime } from "../format.js";
import { t } from "../locale.js";
import { actionWord, actorNote, outcomeWord } from "./audit-words.js";
import { KeyedList, copyOf } from "./keyed-list.js";

/** @param {HTMLElement} element */
export function TaskAudit(element) {
  const lines = KeyedList(element.querySelector("ol"), Line);

  function update(entries) {
    element.hidden = entries.length === 0;
    lines.update(entries.map((entry) => [String(entry.audit_id), entry]));
  }

  return { update };
}

function Line() {
  const element = copyOf("task-audit-line");
  const time = element.querySelector("time");
  const [actor, did, reason, note] = element.querySelector("p").children;

  function update(entry) {
    time.textContent = formatExactTime(entry.at).slice(0, 8);
    time.dateTime = entry.at;
    time.title = formatFullTime(entry.at);
    actor.textContent = entry.actor;
    actor.title = actorNote(entry);
    const { kind } = auditTarget(entry);
    const outcome = newestOutcomes(entry.outcomes).at(-1);
    const came = outcome ? outcomeWord(outcome.outcome) : "";
    did.textContent = [actionWord(entry.action), kind === "bulk" ? t("audit.in_bulk") : "", came && `→ ${came}`].filter(Boolean).join(" ");
    reason.hidden = !entry.reason;
    reason.textContent = entry.reason ?? "";
    note.textContent = outcome?.detail ?? "";
  }

  return { element, update };
}
