/** The bar of a running task, with its words; without a known share only the words. Hidden where it has told nothing. */

import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { barOf } from "../progress.js";

/** @param {HTMLElement} element */
export function Progress(element) {
  const track = element.querySelector(".task-progress__track");
  const fill = track.firstElementChild;
  const share = element.querySelector(".task-progress__share");
  const words = element.querySelector(".task-progress__text");

  /** @param {object | null} word as `progressOf` finds it */
  function update(word) {
    element.hidden = word === null;
    if (word === null) return;
    const { fraction, text } = barOf(word);
    track.hidden = share.hidden = fraction === null;
    words.textContent = text;
    if (fraction === null) return;
    share.textContent = `${formatCount(Math.floor(fraction * 100))}\u00a0${t("unit.percent")}`;
    fill.style.inlineSize = `${fraction * 100}%`;
    track.setAttribute("aria-valuenow", String(Math.floor(fraction * 100)));
    track.setAttribute("aria-valuetext", `${share.textContent} ${text}`.trim());
  }

  return { update };
}
