/**
 * One task beside the list: what it is, how it stands, how it came there, what it was given and what it gave.
 * Asks with `closeTask` and `filterTasks`. A task that changes while it is shown changes in place.
 */

import { formatCount, formatDuration, formatFullTime, formatTime, UNKNOWN } from "../format.js";
import { t } from "../locale.js";
import { isAdmin, mayControl, seesPayloads } from "../session.js";
import { showStatus } from "./glyph.js";
import { Payload } from "./payload.js";
import { StateHistory } from "./state-history.js";
import { TaskAudit } from "./task-audit.js";
import { TaskControl } from "./task-control.js";
import { showName } from "./task-name.js";
import { formatRuntime } from "./task-row.js";
import { WaitingReasons } from "./waiting-reasons.js";

/** @param {HTMLElement} element */
export function TaskDetail(element) {
  const title = element.querySelector("h2");
  const id = element.querySelector(".task-detail__id");
  const problem = element.querySelector(".task-detail__problem");
  const content = element.querySelector(".task-detail__content");
  const status = element.querySelector(".task-detail__status");
  const facts = element.querySelector(".task-detail__facts");
  const failure = element.querySelector(".task-error");
  const history = StateHistory(element.querySelector(".state-history"));
  const payloads = [...element.querySelectorAll("[data-payload]")].map((section) => Payload(section));
  const control = TaskControl(element);
  const withheld = element.querySelector(".task-detail__withheld");
  const waiting = WaitingReasons(element.querySelector(".waiting-reasons"));
  const audit = TaskAudit(element.querySelector(".task-audit"));
  let shownId = null;

  element.querySelector(".task-detail__close").addEventListener("click", () => ask("closeTask"));
  facts.addEventListener("click", (event) => {
    const value = event.target.closest("[data-field]");
    if (value) ask("filterTasks", { [value.dataset.field]: value.textContent });
  });

  function update({ state, now }) {
    const { opened, detail } = state;
    element.hidden = opened === null;
    if (opened === null) {
      shownId = null;
      return;
    }
    if (opened !== shownId) element.querySelector(".task-detail__body").scrollTop = 0;
    shownId = opened;
    element.dataset.connection = state.connection;
    element.setAttribute("aria-busy", String(detail.phase === "loading"));
    id.querySelector("code").textContent = opened;
    id.querySelector("[data-copy]").dataset.copy = opened;
    updateProblem(detail);
    title.hidden = detail.task === null && detail.phase === "loading";
    showName(title, detail.task?.name ?? null);
    content.hidden = detail.task === null;
    if (detail.task !== null) updateContent(state, now);
  }

  function updateProblem({ phase, error }) {
    problem.hidden = phase !== "failed";
    if (phase !== "failed") return;
    const message = error.code === "unreachable" ? t("server.unreachable") : error.message;
    problem.textContent = error.status === 404 ? t("task.missing") : t("task.failed", { message });
  }

  function updateContent(state, now) {
    const { detail, commands, opened } = state;
    const { task, history: entries, phase } = detail;
    showStatus(status, status.querySelector("strong"), task.status);
    const cause = task.status === "failed" || task.status === "cancelled" ? (task.error_type ?? task.reason) : task.reason;
    status.querySelector("code").textContent = cause ?? "";
    const retries = { count: task.retries, formatted: formatCount(task.retries) };
    status.querySelector("p span").textContent = task.retries > 0 ? t("task.retries", retries) : "";
    updateFacts(task, entries, now);
    history.update({ entries, now, isKnown: phase === "ready" || entries.length > 0 });
    updateFailure(task);
    for (const payload of payloads) payload.update(task);
    withheld.hidden = seesPayloads(state);
    control.update({ task, control: detail.control, command: commands.get(opened), mayControl: mayControl(state) });
    waiting.update({ task, waiting: detail.waiting, isAdmin: isAdmin(state) });
    audit.update(detail.audit);
  }

  function updateFacts(task, entries, now) {
    const wanted = [
      ["fact.user", task.user_id, { field: "user" }],
      ["fact.queue", task.queue, { field: "queue" }],
      ["fact.worker", task.worker, { field: "worker" }],
      ["fact.created", formatTime(task.created_at), { title: formatFullTime(task.created_at) }],
      ["fact.wait", formatDuration(waited(entries))],
      ["fact.runtime", formatRuntime(task, now)],
      ...optional("fact.eta", task.eta && formatTime(task.eta), { title: formatFullTime(task.eta) }),
      ...optional("fact.expires", task.expires && formatTime(task.expires), { title: formatFullTime(task.expires) }),
      ...optional("fact.parent", task.parent_id, { taskId: task.parent_id }),
      ...optional("fact.root", task.root_id !== task.task_id && task.root_id, { taskId: task.root_id }),
      ...optional("fact.group", task.group_id, { isId: true }),
      ...optional("fact.trace", task.trace_id, { isId: true, copy: "copy.trace" }),
    ];
    keepFacts(wanted.length);
    wanted.forEach(([key, text, how = {}], at) => showFact(facts.children[at], key, text, how));
  }

  function keepFacts(count) {
    while (facts.childElementCount > count) facts.lastElementChild.remove();
    while (facts.childElementCount < count) {
      const pair = facts.appendChild(document.createElement("div"));
      pair.append(document.createElement("dt"), document.createElement("dd"));
    }
  }

  function updateFailure(task) {
    failure.hidden = !task.error_type && !task.error_message && !task.traceback;
    failure.querySelector(".task-error__message code").textContent = task.error_type ?? "";
    failure.querySelector(".task-error__message p").textContent = task.error_message ?? "";
    failure.querySelector("details").hidden = !task.traceback;
    failure.querySelector("pre").textContent = task.traceback ?? "";
    failure.querySelector("[data-copy]").dataset.copy = task.traceback ?? "";
  }

  function ask(type, detail) {
    element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  /** As its button does, where that is shown. */
  function command(name) {
    if (!element.hidden && control.canCommand(name)) ask(name);
  }

  return { update, command, focus: () => title.focus({ preventScroll: true }) };
}

function optional(key, text, how) {
  return text ? [[key, text, how]] : [];
}

/** Seconds that the task spent pending, in all its attempts; unknown until something came after a wait. */
function waited(entries) {
  const waits = entries.filter((entry) => entry.status === "pending" && entry.duration !== null);
  return waits.length === 0 ? null : waits.reduce((sum, entry) => sum + entry.duration, 0);
}

/** A value that can be filtered by is a button, another task a link, everything else text. */
function showFact(pair, key, text, { field, taskId, isId = false, copy = null, title = "" }) {
  const [term, definition] = pair.children;
  term.textContent = t(key);
  pair.classList.toggle("is-wide", Boolean(isId || taskId));
  const kind = text && field ? "button" : taskId ? "a" : isId ? "code" : "span";
  let value = definition.firstElementChild;
  if (value?.localName !== kind) {
    value = document.createElement(kind);
    if (kind === "button") Object.assign(value, { type: "button", className: "link" });
    definition.replaceChildren(value);
  }
  if (value.textContent !== (text ?? UNKNOWN)) value.textContent = text ?? UNKNOWN;
  value.title = title;
  if (kind === "button") value.dataset.field = field;
  if (kind === "a") value.href = `#/tasks/${encodeURIComponent(taskId)}`;
  if (copy) showCopy(definition, text, copy);
  else definition.querySelector("[data-copy]")?.remove();
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
