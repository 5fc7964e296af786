/**
 * Says on every page that what it shows is not whole: that workers had no room for facts, or that PostgreSQL refused
 * some. The summary tells those who see everything alone. Dismissed, it comes back when there is more of it.
 */

import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { hide } from "./drawing.js";

/** @param {HTMLElement} element */
export function GapNotice(element) {
  const said = element.querySelector("p");
  let total = 0;
  let dismissed = 0;

  element.querySelector("button").addEventListener("click", () => {
    dismissed = total;
    hide(element, true);
  });

  function update({ state }) {
    const { dropped = 0, quarantined = 0 } = state.summary ?? {};
    total = dropped + quarantined;
    dismissed = Math.min(dismissed, total);
    hide(element, total <= dismissed);
    if (element.hidden) return;
    const text = [counted("gap.dropped", dropped), counted("gap.quarantined", quarantined)].filter(Boolean).join(" ");
    if (said.textContent !== text) said.textContent = text;
  }

  return { update };
}

function counted(key, count) {
  return count > 0 ? t(key, { count, formatted: formatCount(count) }) : "";
}
