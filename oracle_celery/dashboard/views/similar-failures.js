/** Beside a task's error: how many like it there were within a day, with the way to their group. */

import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { hashOf } from "../route.js";

/** @param {HTMLElement} element holds a link */
export function SimilarFailures(element) {
  const link = element.querySelector("a");

  /** @param {{fingerprint: string, failures_24h: number} | null} similar null until it is known */
  function update(similar) {
    const count = similar?.failures_24h ?? 0;
    element.hidden = count === 0;
    if (element.hidden) link.removeAttribute("href");
    else link.href = hashOf("failures", similar.fingerprint);
    link.textContent = element.hidden ? "" : t("failure.alike", { count, formatted: formatCount(count) });
  }

  return { update };
}
