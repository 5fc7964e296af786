/**
 * Asks before a queue, a group of them, or all are paused or resumed: what that does to what waits and what runs, why, and
 * for how long. `confirm(action, {queue, reason, until})` gives the command; "*" stands for all queues, "emails.*" for the
 * group of `grouped`, whose names the command then has.
 */

import { capacity, grouped, totalWaiting } from "../fleet.js";
import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { localTime, untilOf } from "../until.js";
import { Confirmation } from "./confirmation.js";
import { KeyedList, copyOf } from "./keyed-list.js";

/** @param {HTMLDialogElement} dialog */
export function QueueDialog(dialog, { confirm, fallback }) {
  const confirmation = Confirmation(dialog, { confirm: send, fallback });
  const { form, tell } = confirmation;
  const facts = KeyedList(dialog.querySelector(".dialog__facts"), DialogFact);
  const submit = form.querySelector("[type=submit]");
  const { queue: choice, time, until, reason } = form.elements;
  let action = "pause";
  let fleet = null;

  form.addEventListener("input", draw);

  function open({ action: asked, queue, fleet: known }) {
    action = asked;
    fleet = known;
    confirmation.open();
    choice.replaceChildren(...choices(queue).map(([value, text]) => new Option(text, value)));
    choice.value = queue ?? choice.options[0].value;
    time.min = localTime(Date.now());
    dialog.querySelector(".dialog__until").hidden = action === "resume";
    reason.closest("label").querySelector("span").textContent = t(action === "pause" ? "queue.reason" : "reason.field");
    submit.querySelector("use").setAttribute("href", action === "pause" ? "#icon-pause" : "#icon-play");
    draw();
  }

  function draw() {
    const isAll = choice.value === "*";
    const name = choice.value;
    dialog.querySelector("h2").textContent = t(isAll ? `queue.${action}.all.title` : `queue.${action}.title`, { name });
    dialog.querySelector("[data-dismiss]").textContent = t(`queue.${action}.keep`);
    submit.querySelector("span").textContent = t(isAll ? `queue.${action}_all` : `queue.${action}`);
    time.hidden = until.value !== "time";
    facts.update(consequences(isAll ? fleet.queues : (groups().get(name) ?? fleet.queues.filter((queue) => queue.name === name))));
    tell("");
  }

  /** Queues for which the action means something, the asked one in any case. */
  function choices(asked) {
    const isPaused = action === "resume";
    const meant = fleet.queues.filter((queue) => Boolean(queue.paused) === isPaused || queue.name === asked);
    const names = [...new Set([...(asked && asked !== "*" && !groups().has(asked) ? [asked] : []), ...meant.map((queue) => queue.name)])];
    const told = [...groups()].filter(([pattern, queues]) => pattern === asked || queues.some(({ name }) => names.includes(name)));
    return [...names, ...told.map(([pattern]) => pattern)].map((name) => [name, name]).concat([["*", t("queue.all")]]);
  }

  /** The queues of each group, by what stands for it. */
  function groups() {
    const told = grouped(fleet.queues).filter(({ prefix }) => prefix !== null);
    return new Map(told.map(({ prefix, queues }) => [`${prefix}*`, queues]));
  }

  function consequences(queues) {
    const waiting = totalWaiting(queues);
    const waits = ["waiting", action === "pause" ? "icon-pause" : "icon-play", waiting, `queue.${action}.waiting`];
    if (action === "resume") return [waits].map(toFact);
    const nodes = new Set(queues.flatMap((queue) => queue.workers).map((worker) => worker.node));
    const consumers = queues.reduce((most, queue) => Math.max(most, queue.consumers ?? 0), nodes.size);
    const isCounted = choice.value === "*" && fleet.workers !== null; // which queue a run came from no worker tells
    const running = isCounted ? capacity(fleet.workers).busy : null;
    return [
      waits,
      ["running", "status-in_progress", running, "queue.pause.running"],
      ["workers", "status-completed", consumers, "queue.pause.workers"],
    ].map(toFact);
  }

  function send() {
    const chosen = action === "pause" ? untilOf(until.value, time.value, Date.now()) : { until: null, problem: null };
    if (chosen.problem !== null) {
      tell(t(`until.problem.${chosen.problem}`));
      time.focus();
      return null;
    }
    const queue = groups().get(choice.value)?.map(({ name }) => name) ?? choice.value;
    return confirm(action, { queue, reason: reason.value.trim(), until: chosen.until });
  }

  return { open };
}

function toFact([key, icon, count, text]) {
  return [key, { icon, count, text: t(text, { count: count ?? 0 }) }];
}

/** One line of what an action means: a shape, a number, words. */
export function DialogFact() {
  const element = copyOf("dialog-fact");
  const [number, text] = element.querySelectorAll("strong, span");

  function update({ icon, count, text: words, kind = "" }) {
    element.dataset.icon = icon;
    element.dataset.kind = kind;
    element.querySelector("use").setAttribute("href", `#${icon}`);
    number.textContent = count === null ? "" : formatCount(count);
    text.textContent = words;
  }

  return { element, update };
}
