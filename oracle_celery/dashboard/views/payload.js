/**
 * Arguments or result: as a tree, or raw as indented JSON, every number as it was written. The section's data-payload
 * names the field; its copy button copies the raw text.
 */

import { formatExact, tokens } from "../exact-json.js";
import { isContainer } from "../json-view.js";
import { currentLanguage, t } from "../locale.js";
import { JsonTree } from "./json-tree.js";

/** Characters of a raw value that are coloured: more would be ten thousands of elements. */
const COLOURED_LIMIT = 40_000;

/** @param {HTMLElement} element */
export function Payload(element) {
  const field = element.dataset.payload;
  const code = element.querySelector("pre");
  const copy = element.querySelector("[data-copy]");
  const list = document.createElement("ul");
  const tree = JsonTree(list);
  const toggle = document.createElement("button");
  let shown;
  let language = "";
  let isRaw = false;

  Object.assign(toggle, { type: "button", className: "link payload__raw" });
  toggle.addEventListener("click", () => {
    isRaw = !isRaw;
    draw();
  });
  copy.before(toggle);
  code.before(list);

  function update(task) {
    const value = task[field];
    const hasResult = field !== "result_payload" || task.status === "completed";
    element.hidden = value === undefined || (value === null && field === "arguments") || !hasResult;
    if (element.hidden || (value === shown && language === currentLanguage())) return;
    if (value !== shown) copy.dataset.copy = formatExact(value);
    shown = value;
    language = currentLanguage();
    draw();
  }

  function draw() {
    const hasTree = isContainer(shown) || typeof shown === "string";
    list.hidden = isRaw || !hasTree;
    code.hidden = !list.hidden;
    toggle.hidden = !hasTree;
    toggle.textContent = t("json.raw");
    toggle.setAttribute("aria-pressed", String(isRaw));
    list.setAttribute("aria-label", t(field === "arguments" ? "section.arguments" : "section.result"));
    if (list.hidden) {
      tree.clear();
      const text = copy.dataset.copy;
      if (text.length > COLOURED_LIMIT) code.textContent = text;
      else code.replaceChildren(...tokens(shown).map(coloured));
    } else {
      code.replaceChildren();
      tree.show(shown);
    }
  }

  return { update };
}

function coloured({ kind, text }) {
  const span = document.createElement("span");
  span.className = `json-${kind}`;
  span.textContent = text;
  return span;
}
