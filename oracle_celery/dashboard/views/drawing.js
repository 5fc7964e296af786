/**
 * What a view writes at every update, written only where it differs. A browser does not compare: an attribute set to what
 * it was is looked at again, and a new text node is laid out anew, hundreds of times a second in a list that scrolls.
 */

/** Into the text node that is there. @param {Element} place holds text alone @param {string} text */
export function say(place, text) {
  const node = place.firstChild;
  if (node === null || node !== place.lastChild || node.nodeType !== Node.TEXT_NODE) {
    if (place.textContent !== text) place.textContent = text;
  } else if (node.data !== text) {
    node.data = text;
  }
}

/** @param {HTMLElement} element @param {boolean} isHidden */
export function hide(element, isHidden) {
  if (element.hidden !== isHidden) element.hidden = isHidden;
}
