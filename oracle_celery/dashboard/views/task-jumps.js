/**
 * The sections of the task view by name: a press leads to each, and the one under the reader's eyes is marked.
 * A section is listed where it has `data-jump` (its word is "jump.…") and is not hidden.
 */

import { t } from "../locale.js";
import { KeyedList } from "./keyed-list.js";

const NEAR = 24; // px from the top at which a section counts as the one that is read

/** @param {HTMLElement} element the panel */
export function TaskJumps(element) {
  const place = element.querySelector(".task-detail__jumps");
  const sections = [...element.querySelectorAll("[data-jump]")];
  const jumps = KeyedList(place, Jump);
  let current = null; // none: the first that is shown

  element.addEventListener("scroll", mark, { capture: true, passive: true });
  place.addEventListener("click", (event) => {
    const { jump } = event.target.closest("button")?.dataset ?? {};
    const section = sections.find((one) => one.dataset.jump === jump);
    if (section === undefined) return;
    const heading = section.querySelector("h3");
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    section.scrollIntoView({ block: "start", behavior: "instant" });
    current = jump; // the last sections cannot come to the top
    update();
  });

  function update() {
    const shown = sections.filter((section) => !section.hidden).map((section) => section.dataset.jump);
    const marked = shown.includes(current) ? current : shown[0];
    place.hidden = shown.length < 2;
    jumps.update(shown.map((jump) => [jump, jump, jump === marked]));
  }

  function mark() {
    const top = place.getBoundingClientRect().bottom + NEAR;
    const shown = sections.filter((section) => !section.hidden);
    const read = shown.findLast((section) => section.getBoundingClientRect().top <= top) ?? shown[0];
    if (read === undefined || read.dataset.jump === current) return;
    const after = shown.find((section) => section.dataset.jump === current);
    if (after?.getBoundingClientRect().bottom <= innerHeight && isAtEnd(read)) return; // it was asked for, and is as high as it gets
    current = read.dataset.jump;
    update();
  }

  function isAtEnd(section) {
    const scroller = section.closest(".task-detail__body");
    const scrolled = scroller.scrollHeight > scroller.clientHeight ? scroller : element;
    return scrolled.scrollTop + scrolled.clientHeight >= scrolled.scrollHeight - 1;
  }

  /** Another task is shown, from its top. */
  function reset() {
    current = null;
  }

  return { update, reset };
}

function Jump() {
  const element = document.createElement("button");
  element.type = "button";

  function update(jump, isCurrent) {
    element.dataset.jump = jump;
    element.textContent = t(`jump.${jump}`);
    if (isCurrent) element.setAttribute("aria-current", "true");
    else element.removeAttribute("aria-current");
  }

  return { element, update };
}
