/**
 * One element per key, in the order given: focus, hover and scroll survive every update, because an element that stays
 * is never taken out and put back. A part whose values are the very same objects is not drawn again, unless the language
 * or the day (times of today are told without it) has changed.
 */

import { currentLanguage } from "../locale.js";

/**
 * @param {Element} parent holds nothing else, but for what is there before the list, as a head
 * @param {() => {element: Element, update: Function}} make
 */
export function KeyedList(parent, make) {
  const before = parent.lastElementChild;
  const parts = new Map();

  /** @param {[string, ...any][]} entries key, then what the part's own `update` takes */
  function update(entries) {
    const wanted = new Set(entries.map(([key]) => key));
    for (const [key, part] of parts) {
      if (wanted.has(key)) continue;
      part.element.remove();
      parts.delete(key);
    }
    const today = new Date().toDateString();
    let next = before === null ? parent.firstElementChild : before.nextElementSibling;
    for (const [key, ...values] of entries) {
      if (!parts.has(key)) parts.set(key, make());
      const part = parts.get(key);
      const drawn = [...values, today, currentLanguage()];
      if (!isSame(part.drawn, drawn)) {
        part.update(...values);
        part.drawn = drawn;
      }
      if (part.element === next) next = next.nextElementSibling;
      else parent.insertBefore(part.element, next);
    }
  }

  return { update };
}

function isSame(values, others) {
  return values?.length === others.length && values.every((value, at) => value === others[at]);
}

/** @param {string} id of a template @returns {Element} a fresh copy of its one element */
export function copyOf(id) {
  return document.querySelector(`#${id}`).content.cloneNode(true).firstElementChild;
}
