/**
 * A view that can be made anew, on its element as the document brought it: whatever the former one has drawn, hidden or
 * not, is gone with it, and nobody has to remember what that was.
 *
 * Only for views whose listeners are all inside their element.
 */

import { translate } from "./locale.js";

/** @template {Record<string, Function>} View @param {Element} element @param {(element: Element) => View} make @returns {View & {renew: () => void}} */
export function Renewable(element, make) {
  const pristine = element.cloneNode(true);
  let current = element;
  let view = make(element);

  function renew() {
    const fresh = pristine.cloneNode(true);
    translate(fresh);
    current.replaceWith(fresh);
    current = fresh;
    view = make(fresh);
  }

  const methods = Object.keys(view).map((name) => [name, (...values) => view[name](...values)]);
  return { ...Object.fromEntries(methods), renew };
}
