/**
 * Asks before many tasks are cancelled or sent again: the server looks through all of them first and says how many it
 * will take and why not the others. What is meant for more than a thousand tasks has to be typed as a number. What has
 * come to match a filter since the preview was made is not meant: the command says until when it looked.
 * `preview(wanted)` asks, and asks again after a failure that passes; `confirm(wanted)` gives the command.
 */

import { isPassing } from "../api.js";
import { formatCount, shortId } from "../format.js";
import { t } from "../locale.js";
import { bulkTarget } from "../selection.js";
import { Confirmation } from "./confirmation.js";
import { readErrorText } from "./error-text.js";
import { KeyedList } from "./keyed-list.js";
import { DialogFact } from "./queue-dialog.js";

const TYPED_ABOVE = 1_000; // tasks
const RETRY = 3_000; // ms

/** @param {HTMLDialogElement} dialog */
export function BulkDialog(dialog, { preview, confirm, fallback }) {
  const confirmation = Confirmation(dialog, { confirm: send, fallback });
  const { form, tell } = confirmation;
  const facts = KeyedList(dialog.querySelector(".dialog__facts"), DialogFact);
  const submit = form.querySelector("[type=submit]");
  const typed = form.querySelector("[data-typed]");
  const options = [...form.querySelectorAll("[data-option]")];
  let action = "retry";
  let target = null;
  let found = null; // the preview; null while it is made, or could not be
  let failure = null; // of the preview
  let request = 0;
  let retrying = null; // timer

  for (const option of options) option.addEventListener("change", look);
  form.elements.typed.addEventListener("input", draw);

  /** Of what is ticked in the list, or of all that a filter matches. */
  function open({ action: asked, selection, query, filter = null }) {
    action = asked;
    target = filter === null ? bulkTarget(selection, query) : { filter };
    confirmation.open();
    for (const option of options) option.hidden = action !== "retry";
    submit.querySelector("use").setAttribute("href", action === "retry" ? "#icon-retry" : "#icon-close");
    submit.className = `button ${action === "retry" ? "button--main" : "button--danger-solid"}`;
    look();
  }

  function look() {
    request += 1;
    clearTimeout(retrying);
    found = failure = null;
    tell("");
    draw();
    ask();
  }

  /** What failed once more in the same way is told once: an alert that is set again is read out again. */
  async function ask() {
    const mine = request;
    const asked = preview({ ...wanted(), dry_run: true });
    const [answer, error] = await asked.then((told) => [told, null], (reason) => [null, reason]);
    if (mine !== request) return;
    if (error === null) tell("");
    else if (failure === null || error.code !== failure.code) tell(t("page.failed", { message: readErrorText(error) }));
    found = answer;
    failure = error;
    if (error !== null && isPassing(error)) retrying = setTimeout(() => isAsking(mine) && ask(), RETRY);
    draw();
  }

  /** Whoever has closed the dialog, or is somebody else by now, has no use for an answer. */
  function isAsking(mine) {
    return mine === request && dialog.open && dialog.isConnected;
  }

  function draw() {
    const count = found?.eligible ?? 0;
    const formatted = formatCount(found?.eligible);
    dialog.querySelector("h2").textContent = t(titleKey(), { count, formatted });
    const sample = (found?.sample ?? []).map(shortId).join(", ");
    dialog.querySelector(".dialog__subject").textContent = sample && t("bulk.sample", { sample });
    dialog.querySelector(".dialog__facts").hidden = found === null;
    facts.update(found ? lines(found) : []);
    submit.querySelector("span").textContent = t(`bulk.${action}.confirm`, { count, formatted });
    typed.hidden = count <= TYPED_ABOVE;
    typed.querySelector("span").textContent = t("bulk.typed", { formatted, number: String(count) });
    submit.disabled = count === 0 || (!typed.hidden && form.elements.typed.value.trim() !== String(count));
  }

  function titleKey() {
    if (found !== null) return `bulk.${action}.title`;
    if (failure === null) return "bulk.checking";
    return isPassing(failure) ? "bulk.unchecked.again" : "bulk.unchecked";
  }

  function lines({ eligible, ineligible }) {
    const will = { icon: "status-completed", count: eligible, text: t(`bulk.${action}.will`, { count: eligible }) };
    const others = ineligible.map((left, at) => [`${left.code} ${at}`, { icon: "icon-close", count: left.count, text: whyNot(left), kind: "not" }]);
    return [["will", will], ...others];
  }

  function wanted() {
    const { include_cancelled: cancelled, force, reason } = form.elements;
    const extra = action === "retry" ? { include_cancelled: cancelled.checked, force: force.checked } : {};
    return { action, ...target, ...extra, reason: reason.value.trim() };
  }

  function send() {
    return confirm("filter" in target ? { ...wanted(), created_until: found.created_until } : wanted());
  }

  return { open };
}

/** In the reader's language where the cause is known, and else in the server's words. */
function whyNot({ code, message, count, missing = null }) {
  const cause = missing === null ? message : t(`missing.${missing}`, {}, message);
  return t(`ineligible.${code}`, { count, message: cause }, message);
}
