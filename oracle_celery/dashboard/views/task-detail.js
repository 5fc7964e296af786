/**
 * One task beside the list: what it is, how it stands, how it came there, what it was given and what it gave.
 * Asks with `closeTask`. A task that changes while it is shown changes in place. Each part has a view of its own.
 */

import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { progressOf } from "../progress.js";
import { meaningOf } from "../reasons.js";
import { isAdmin, mayControl, seesPayloads } from "../session.js";
import { hide } from "./drawing.js";
import { showStatus } from "./glyph.js";
import { Payload } from "./payload.js";
import { Progress } from "./progress.js";
import { SimilarFailures } from "./similar-failures.js";
import { StateHistory } from "./state-history.js";
import { TaskAttempts } from "./task-attempts.js";
import { TaskAudit } from "./task-audit.js";
import { TaskControl } from "./task-control.js";
import { TaskError } from "./task-error.js";
import { TaskFacts } from "./task-facts.js";
import { TaskJumps } from "./task-jumps.js";
import { TaskLineage } from "./task-lineage.js";
import { TaskLog } from "./task-log.js";
import { showName } from "./task-name.js";
import { WaitingReasons } from "./waiting-reasons.js";

/** @param {HTMLElement} element */
export function TaskDetail(element) {
  const title = element.querySelector("h2");
  const copyName = element.querySelector(".task-detail__name [data-copy]");
  const id = element.querySelector(".task-detail__id");
  const problem = element.querySelector(".task-detail__problem");
  const content = [...element.querySelectorAll(".task-detail__top, .task-detail__content")];
  const status = element.querySelector(".task-detail__status");
  const trace = element.querySelector(".task-detail__trace");
  const withheld = element.querySelector(".task-detail__withheld");
  const facts = TaskFacts(element.querySelector(".task-detail__facts"));
  const history = StateHistory(element.querySelector(".state-history"));
  const failure = TaskError(element.querySelector(".task-error"));
  const attempts = TaskAttempts(element.querySelector(".task-attempts"));
  const payloads = [...element.querySelectorAll("[data-payload]")].map((section) => Payload(section));
  const lineage = TaskLineage(element.querySelector(".lineage"));
  const control = TaskControl(element);
  const waiting = WaitingReasons(element.querySelector(".waiting-reasons"));
  const similar = SimilarFailures(element.querySelector(".similar-failures"));
  const progress = Progress(element.querySelector(".task-progress"));
  const log = TaskLog(element.querySelector(".task-log"));
  const audit = TaskAudit(element.querySelector(".task-audit"));
  const jumps = TaskJumps(element); // last: it lists what the others show
  let shownId = null;

  element.querySelector(".task-detail__close").addEventListener("click", () => ask("closeTask"));

  function update({ state, now }) {
    const { opened, detail } = state;
    hide(element, opened === null);
    if (opened === null) {
      shownId = null;
      return;
    }
    if (opened !== shownId) {
      for (const part of [element, element.querySelector(".task-detail__body")]) part.scrollTop = 0;
      jumps.reset();
    }
    shownId = opened;
    element.dataset.connection = state.connection;
    element.setAttribute("aria-busy", String(detail.phase === "loading"));
    id.querySelector("code").textContent = opened;
    id.querySelector("[data-copy]").dataset.copy = opened;
    updateProblem(detail);
    title.hidden = detail.task === null && detail.phase === "loading";
    const name = detail.task?.name ?? null;
    showName(title, name);
    copyName.hidden = name === null;
    copyName.dataset.copy = name ?? "";
    for (const part of content) part.hidden = detail.task === null;
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
    updateStatus(task, task.trace_sampled === false ? null : detail.traceUrl);
    progress.update(progressOf(state.progress, task));
    facts.update({ task, entries, now });
    history.update({ entries, now, isKnown: phase === "ready" || entries.length > 0, deletedUntil: detail.historyDeletedUntil });
    failure.update(task);
    attempts.update({ entries, now });
    for (const payload of payloads) payload.update(task);
    lineage.update({ task, lineage: detail.lineage });
    withheld.hidden = seesPayloads(state);
    control.update({ task, control: detail.control, command: commands.get(opened), mayControl: mayControl(state) });
    waiting.update({ task, waiting: detail.waiting, isAdmin: isAdmin(state) });
    similar.update(task.status === "failed" ? detail.similar : null);
    log.update({ task, log: state.log, isWithheld: !seesPayloads(state) });
    audit.update(detail.audit);
    jumps.update();
  }

  function updateStatus(task, traceUrl) {
    showStatus(status, status.querySelector("strong"), task.status);
    const cause = task.status === "failed" || task.status === "cancelled" ? (task.error_type ?? task.reason) : task.reason;
    status.querySelector("code").textContent = cause ?? "";
    const retries = { count: task.retries, formatted: formatCount(task.retries) };
    const words = [meaningOf(task.reason), task.retries > 0 ? t("task.retries", retries) : ""];
    status.querySelector("p span").textContent = words.filter(Boolean).join(" · ");
    trace.hidden = traceUrl === null;
    if (traceUrl) trace.href = traceUrl;
    else trace.removeAttribute("href");
  }

  function ask(type, detail) {
    element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
  }

  /** As its button does, where that is shown. */
  function command(name) {
    if (canCommand(name)) ask(name);
  }

  function canCommand(name) {
    return !element.hidden && control.canCommand(name);
  }

  return { update, command, canCommand, focusLog: () => element.hidden || log.focus(), focus: () => title.focus({ preventScroll: true }) };
}
