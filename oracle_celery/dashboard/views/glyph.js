/** A status as the page shows it everywhere: shape, then word, then colour (by data-status). */

import { t } from "../locale.js";

/** @param {Element} place holds an svg.glyph @param {Element | null} word @param {string} status */
export function showStatus(place, word, status) {
  if (place.dataset.status !== status) {
    place.dataset.status = status;
    place.querySelector(".glyph use").setAttribute("href", `#status-${status}`);
  }
  const told = t(`status.${status}`);
  if (word && word.textContent !== told) word.textContent = told;
}
