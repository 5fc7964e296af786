/** A traceback whose frames of libraries are folded to one line, which says whose they are and opens them. */

import { formatCount } from "../format.js";
import { currentLanguage, t } from "../locale.js";
import { tracebackParts } from "../traceback.js";

/** @param {HTMLElement} pre */
export function Traceback(pre) {
  let shown = null;
  let language = "";

  /** @param {string | null} text */
  function update(text) {
    if (text === shown && language === currentLanguage()) return;
    shown = text;
    language = currentLanguage();
    pre.replaceChildren(...tracebackParts(text ?? "").flatMap(nodes));
  }

  return { update };
}

function nodes(part) {
  const element = document.createElement("span");
  element.className = `traceback__${part.kind}`;
  element.textContent = part.text;
  if (part.kind !== "library") return [element];
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "traceback__fold" });
  button.textContent = `${t("traceback.folded", { count: part.count, formatted: formatCount(part.count), packages: part.packages.join(", ") })}\n`;
  button.setAttribute("aria-expanded", "false");
  element.hidden = true;
  button.addEventListener("click", () => {
    element.hidden = !element.hidden;
    button.setAttribute("aria-expanded", String(!element.hidden));
  });
  return [button, element];
}
