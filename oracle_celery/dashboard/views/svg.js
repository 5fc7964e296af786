/** Shapes of a chart, made without markup. */

const SPACE = "http://www.w3.org/2000/svg";

/** @param {string} name of an SVG element @param {Record<string, string>} attributes */
export function shape(name, attributes = {}) {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** Sets a path unless it stands there already: most updates change nothing. */
export function setPath(path, d) {
  if (path.getAttribute("d") !== d) path.setAttribute("d", d);
}
