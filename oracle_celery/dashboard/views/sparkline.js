/** A small line without an axis that fills its place; what is not known is a gap. Decoration: its number stands beside it. */

import { sparkPaths } from "../statistics.js";
import { setPath, shape } from "./svg.js";

const WIDTH = 300; // units of its own: it is stretched to its place
const HEIGHT = 40;
const MARGIN = 2; // units above and below, for the line's own width

/** @param {SVGElement} element */
export function Sparkline(element) {
  const area = shape("path", { class: "spark__area" });
  const line = shape("path", { class: "spark__line" });
  element.setAttribute("viewBox", `0 ${-MARGIN} ${WIDTH} ${HEIGHT + 2 * MARGIN}`);
  element.setAttribute("preserveAspectRatio", "none");
  element.setAttribute("aria-hidden", "true");
  element.replaceChildren(area, line);
  let drawn = null;

  /** @param {(number | null)[] | null} series */
  function update(series) {
    if (series === drawn) return;
    drawn = series;
    const paths = series === null ? { area: "", line: "" } : sparkPaths(series, { width: WIDTH, height: HEIGHT });
    setPath(area, paths.area);
    setPath(line, paths.line);
  }

  return { update };
}
