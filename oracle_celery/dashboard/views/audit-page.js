/**
 * Who did what to which tasks and queues, why, from where, and what came of it. For admins.
 * Asks with `filterAudit` {actor, action, task_id} and `loadOlderAudit`.
 */

import { AUDIT_ACTIONS, AUDIT_FILTERS, auditFilter, auditTarget, newestOutcomes } from "../audit.js";
import { UNKNOWN, formatCount, formatExactTime, formatFullTime, formatTime, shortId } from "../format.js";
import { currentLanguage, t } from "../locale.js";
import { hashOf } from "../route.js";
import { seesEverything } from "../session.js";
import { actionWord, actorNote, outcomeWord } from "./audit-words.js";
import { KeyedList, copyOf } from "./keyed-list.js";
import { Page } from "./page.js";

const TYPING_PAUSE = 250; // ms without a key after which the server is asked
const TOLD_SUBJECTS = 3;

/** @param {HTMLElement} element */
export function AuditPage(element) {
  const page = Page(element);
  const form = element.querySelector("form");
  const rows = KeyedList(element.querySelector("tbody"), AuditRow);
  const more = element.querySelector(".page__more button");
  let typing = null;
  let language = null;

  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(askTyped, TYPING_PAUSE);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    askTyped();
  });
  more.addEventListener("click", () => element.dispatchEvent(new CustomEvent("loadOlderAudit", { bubbles: true })));

  function askTyped() {
    clearTimeout(typing);
    typing = null;
    const detail = Object.fromEntries(AUDIT_FILTERS.map((name) => [name, form.elements[name].value.trim()]));
    element.dispatchEvent(new CustomEvent("filterAudit", { bubbles: true, detail }));
  }

  function update({ state }) {
    const { entries, next, isReading, error } = state.audit;
    const isShown = state.route.page === "audit";
    if (!page.update({ isShown, error, isEmpty: entries?.length === 0, connection: state.connection })) return;
    form.hidden = !seesEverything(state);
    updateFilter(auditFilter(state.route.parameters));
    element.querySelector(".page__table").hidden = !entries?.length;
    rows.update((entries ?? []).map((entry) => [String(entry.audit_id), entry]));
    more.hidden = next === null;
    more.disabled = isReading;
  }

  function updateFilter(filter) {
    const { action } = form.elements;
    if (language !== currentLanguage()) {
      language = currentLanguage();
      action.replaceChildren(new Option(t("status.all"), ""), ...AUDIT_ACTIONS.map((word) => new Option(actionWord(word), word)));
      action.value = filter.action;
    }
    for (const name of AUDIT_FILTERS) {
      const input = form.elements[name];
      const isTheirs = input === document.activeElement || typing !== null;
      if (!isTheirs && input.value !== filter[name]) input.value = filter[name];
    }
  }

  return { update, focus: page.focus };
}

function AuditRow() {
  const element = copyOf("audit-row");
  const [at, actor, action, target, reason, outcome, address] = element.cells;
  const time = at.querySelector("time");

  function update(entry) {
    const isToday = new Date(entry.at).toDateString() === new Date().toDateString();
    time.textContent = isToday ? formatExactTime(entry.at).slice(0, 8) : formatTime(entry.at);
    time.dateTime = entry.at;
    time.title = formatFullTime(entry.at);
    actor.firstElementChild.textContent = entry.actor;
    actor.lastElementChild.textContent = actorNote(entry);
    action.textContent = actionWord(entry.action);
    showTarget(target, entry);
    reason.textContent = entry.reason ?? "";
    reason.title = entry.reason ?? "";
    outcome.textContent = outcomeText(entry);
    outcome.title = newestOutcomes(entry.outcomes).map(outcomeLine).join("\n");
    address.textContent = entry.address ?? UNKNOWN;
  }

  return { element, update };
}

function showTarget(cell, entry) {
  const target = auditTarget(entry);
  const isLink = target.kind === "task" || target.kind === "bulk";
  let part = cell.firstElementChild;
  if (part?.localName !== (isLink ? "a" : "span")) {
    part = document.createElement(isLink ? "a" : "span");
    part.className = isLink ? "link" : "";
    cell.replaceChildren(part, " ", document.createElement("small"));
  }
  if (isLink) part.href = hashOf(target.kind === "task" ? "tasks" : "bulk", target.id);
  part.textContent = isLink ? shortId(target.id) : target.kind === "queues" ? target.names.join(", ") : t("queue.all");
  part.title = target.id ?? "";
  cell.lastElementChild.textContent = changeText(entry);
}

/** What was changed or meant, in a few words: the filter of many, new arguments of one, the end of a pause. */
function changeText({ filter, after }) {
  if (filter) return Object.entries(filter).map(([name, value]) => `${name}:${[value].flat().join(",")}`).join(" ");
  if (after?.until) return t("queue.paused_until", { at: formatTime(after.until) });
  const changed = ["args", "kwargs", "queue"].filter((name) => after?.changes?.[name] ?? after?.[name]);
  return changed.length > 0 ? t("retry.changed", { what: changed.map((name) => t(`retry.changed.${name}`)).join(", ") }) : "";
}

/** One subject is told in full, several as counts of their outcomes. */
function outcomeText(entry) {
  const told = newestOutcomes(entry.outcomes);
  const isWhole = ({ subject, outcome }) => subject === "*" && outcome === "requested"; // workers say more
  const newest = told.length > 1 ? told.filter((one) => !isWhole(one)) : told;
  if (newest.length <= 1) return newest.length === 1 ? outcomeLine(newest[0], false) : UNKNOWN;
  if (newest.length <= TOLD_SUBJECTS && newest.some(({ detail }) => detail)) return newest.map((one) => outcomeLine(one)).join("; ");
  const counts = new Map();
  for (const { outcome } of newest) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  return [...counts].map(([outcome, count]) => `${formatCount(count)} ${outcomeWord(outcome)}`).join(", ");
}

function outcomeLine({ subject, outcome, detail }, isNamed = true) {
  const counted = detail?.replace(/\b([a-z_]+): (\d+)/g, (_whole, word, count) => `${count} ${outcomeWord(word)}`);
  const told = [outcomeWord(outcome), counted].filter(Boolean).join(": ");
  return isNamed && subject !== "*" ? `${shortId(subject)} ${told}` : told;
}
