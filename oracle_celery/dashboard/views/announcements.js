/**
 * What a screen reader is told without being asked, beside what the parts of the page say of themselves: that new tasks
 * wait, how a bulk action went, how a command on an opened task ended. Polite, and not more often than somebody can
 * listen to: of what comes in a burst only the newest is said.
 */

import { formatCount } from "../format.js";
import { t } from "../locale.js";

const PAUSE = 10_000; // ms between two sentences about new tasks

/** @param {HTMLElement} element a polite live region */
export function Announcements(element) {
  let told = 0; // new tasks that were spoken of
  let toldAt = -Infinity;
  let bulk = null;

  function update({ state }) {
    tellOfNew(state);
    tellOfBulk(state.bulk.opened);
  }

  function tellOfNew({ waiting, route }) {
    if (waiting.size < told) told = waiting.size;
    const isTime = performance.now() - toldAt >= PAUSE;
    if (route.page !== "tasks" || waiting.size === told || !isTime) return;
    told = waiting.size;
    toldAt = performance.now();
    say(t("announce.new", { count: told, formatted: formatCount(told) }));
  }

  function tellOfBulk(opened) {
    const isOver = opened?.state === "finished";
    const wasOpen = bulk !== null && opened?.bulk_id === bulk.bulk_id && bulk.state !== "finished";
    bulk = opened;
    if (isOver && wasOpen) say(t("announce.bulk", { done: formatCount(opened.done), total: formatCount(opened.total) }));
  }

  /** The same sentence again is a new one to a reader only if it differs. */
  function say(text) {
    element.textContent = element.textContent === text ? `${text}\u00a0` : text;
  }

  return { update, say };
}
