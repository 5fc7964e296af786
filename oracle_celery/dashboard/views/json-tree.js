/**
 * A JSON value as a tree: containers open and close, addresses are links, every number is as it was written. What is
 * closed is not in the document, and of a long container or text only a portion, until somebody asks for more.
 *
 * Keys as in every tree: up and down, right opens and goes in, left closes and goes out, Home and End.
 */

import { ExactNumber } from "../exact-json.js";
import { formatCount } from "../format.js";
import { PORTION, TEXT_LIMIT, isContainer, linkParts, members, openAtFirst, sizeOf } from "../json-view.js";
import { t } from "../locale.js";

/** @param {HTMLElement} tree is emptied and filled */
export function JsonTree(tree) {
  tree.setAttribute("role", "tree");
  tree.classList.add("json-tree");
  tree.addEventListener("click", onClick);
  tree.addEventListener("keydown", onKey);

  /** @param {any} value as `parseExact` reads it */
  function show(value) {
    tree.replaceChildren(item(null, value, 1, openAtFirst(value)));
    tree.firstElementChild.tabIndex = 0;
  }

  function onClick(event) {
    const more = event.target.closest("button");
    if (more) return more.showMore();
    if (event.target.closest("a") || !getSelection().isCollapsed) return;
    const line = event.target.closest(".json-tree__line");
    if (line === null) return;
    focus(line.parentElement, { isMoving: false });
    toggle(line.parentElement);
  }

  function onKey(event) {
    const current = event.target.closest('[role="treeitem"]');
    if (current === null || event.target !== current || event.ctrlKey || event.metaKey || event.altKey) return;
    const shown = [...tree.querySelectorAll('[role="treeitem"]')];
    const at = shown.indexOf(current);
    const isOpen = current.getAttribute("aria-expanded") === "true";
    const act = {
      ArrowDown: () => focus(shown[at + 1]),
      ArrowUp: () => focus(shown[at - 1]),
      Home: () => focus(shown[0]),
      End: () => focus(shown.at(-1)),
      ArrowRight: () => (isOpen ? focus(current.querySelector('[role="treeitem"]')) : toggle(current)),
      ArrowLeft: () => (isOpen ? toggle(current) : focus(current.parentElement.closest('[role="treeitem"]'))),
      Enter: () => toggle(current),
      " ": () => toggle(current),
    }[event.key];
    if (act === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  function focus(target, { isMoving = true } = {}) {
    if (!target) return;
    for (const former of tree.querySelectorAll('[tabindex="0"]')) former.tabIndex = -1;
    target.tabIndex = 0;
    if (isMoving) target.focus();
  }

  return { show, clear: () => tree.replaceChildren() };
}

function item(key, value, level, opened) {
  const element = document.createElement("li");
  element.setAttribute("role", "treeitem");
  element.setAttribute("aria-level", String(level));
  element.tabIndex = -1;
  const line = element.appendChild(document.createElement("div"));
  line.className = "json-tree__line";
  if (typeof key === "string") line.append(token("key", JSON.stringify(key)), token("mark", ": "));
  else if (key !== null) line.append(token("mark", `${key}: `));
  if (isContainer(value)) {
    line.append(token("mark", value instanceof Map ? "{…}" : "[…]"), token("size", formatCount(sizeOf(value))));
    contents.set(element, { value, level, opened });
    element.setAttribute("aria-expanded", "false");
    if (opened.has(value)) toggle(element);
  } else if (typeof value === "string") {
    line.append(...textNodes(value));
  } else {
    line.append(token(kindOf(value), value instanceof Map ? "{}" : Array.isArray(value) ? "[]" : String(value)));
  }
  return element;
}

/** What is behind an item that can be opened, and what of it opens with it. */
const contents = new WeakMap();
const NONE = new Set();

function toggle(element) {
  const content = contents.get(element);
  if (content === undefined) return;
  const isOpen = element.getAttribute("aria-expanded") === "true";
  element.setAttribute("aria-expanded", String(!isOpen));
  if (isOpen) {
    element.querySelector(":scope > ul").remove();
    content.opened = NONE;
    return;
  }
  const group = element.appendChild(document.createElement("ul"));
  group.setAttribute("role", "group");
  addPortion(group, content, 0);
}

function addPortion(group, { value, level, opened }, from) {
  group.append(...members(value, from, PORTION).map(([key, member]) => item(key, member, level + 1, opened)));
  const left = sizeOf(value) - from - PORTION;
  if (left <= 0) return;
  const holder = group.appendChild(document.createElement("li"));
  holder.setAttribute("role", "none");
  const count = Math.min(left, PORTION);
  holder.append(
    moreButton(t("json.more", { count, formatted: formatCount(count), left: formatCount(left) }), () => {
      holder.remove();
      addPortion(group, { value, level, opened: NONE }, from + PORTION);
    }),
  );
}

function textNodes(text) {
  if (text.length <= TEXT_LIMIT) return written(text);
  const rest = moreButton(t("json.whole", { count: text.length, formatted: formatCount(text.length) }), () => {
    const line = rest.parentElement;
    const shown = [...line.querySelectorAll(".json-string, .json-link")];
    shown[0].before(...written(text));
    for (const part of [...shown, rest]) part.remove();
  });
  return [...written(text.slice(0, TEXT_LIMIT), "…"), rest];
}

/** The text in quotes, with its escapes; addresses in it are links. */
function written(text, end = '"') {
  const nodes = linkParts(text).map((part) => {
    if (part.url === undefined) return token("string", JSON.stringify(part.text).slice(1, -1));
    const link = document.createElement("a");
    link.className = "json-link";
    link.href = part.url;
    link.rel = "noopener noreferrer";
    link.target = "_blank";
    link.textContent = part.text;
    return link;
  });
  return [token("string", '"'), ...nodes, token("string", end)];
}

function moreButton(text, act) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "link json-tree__more", textContent: text, showMore: act });
  return button;
}

function kindOf(value) {
  return typeof value === "number" || value instanceof ExactNumber ? "number" : value === null || typeof value === "boolean" ? "word" : "mark";
}

function token(kind, text) {
  const span = document.createElement("span");
  span.className = `json-${kind}`;
  span.textContent = text;
  return span;
}
