/**
 * Handles the keys of the whole page and lists them in a dialog, both by the table in keys.js. Off while somebody types
 * and with any modifier but the palette's: those keys belong to the field and to the browser.
 */

import { GO, KEYS, isPaletteKey, keyName, keyOf } from "../keys.js";
import { t } from "../locale.js";
import { KeyedList, copyOf } from "./keyed-list.js";

const SECOND_KEY_TIME = 1_500; // ms after "g" in which its letter counts

/**
 * @param {HTMLDialogElement} dialog
 * @param {{actions: Record<string, () => void>, go: (page: string) => void, pages: () => readonly string[],
 *   openPalette: () => void}} page `actions` by key, one for each of the table's; `pages` are those that may be gone to
 */
export function KeyHelp(dialog, { actions, go, pages, openPalette }) {
  const list = KeyedList(dialog.querySelector("dl"), KeyLine);
  let prefixedAt = -Infinity; // when "g" was pressed

  requireAll(actions);
  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const isBusy = document.querySelector("dialog[open]") !== null;
    if (isPaletteKey(event) && !isBusy) return take(event, openPalette);
    if (event.ctrlKey || event.metaKey || event.altKey || isBusy) return;
    if (isTyping(event.target) && event.key !== "Escape") return;
    const key = keyOf(event);
    const isSecond = performance.now() - prefixedAt < SECOND_KEY_TIME;
    if (key !== "Shift") prefixedAt = -Infinity;
    if (isSecond && pages().includes(GO[key])) return take(event, () => go(GO[key]));
    if (key === "g") return take(event, () => (prefixedAt = performance.now()));
    if (actions[key]) take(event, actions[key]);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });

  function open() {
    const lines = KEYS.map(({ keys, says, isChanging = false }) => [says, keys.map(keyName), t(says), isChanging]);
    const letters = Object.entries(GO).filter(([, page]) => pages().includes(page));
    const gone = letters.map(([letter, page]) => [page, ["g", letter], t("keys.go", { page: t(`page.${page}`) }), false]);
    list.update([["palette", [`${modifier()} k`], t("keys.palette"), false], ...lines, ...gone]);
    dialog.showModal();
  }

  return { open };
}

/** The key that goes with the palette's letter on this machine. */
export function modifier() {
  return /Mac|iP/.test(navigator.platform) ? "⌘" : "Ctrl";
}

function KeyLine() {
  const element = copyOf("key-line");
  const [keys, says] = element.children;

  function update(names, text, isChanging) {
    element.classList.toggle("changing", isChanging);
    keys.replaceChildren(...names.flatMap((name) => [Object.assign(document.createElement("kbd"), { textContent: name }), " "]));
    says.textContent = text;
  }

  return { element, update };
}

function take(event, act) {
  event.preventDefault();
  act();
}

/** A key that is listed does something, and one that does something is listed. */
function requireAll(actions) {
  const listed = KEYS.filter((entry) => !entry.isNative).flatMap((entry) => entry.keys);
  const lacking = listed.filter((key) => !actions[key]);
  const hidden = Object.keys(actions).filter((key) => !listed.includes(key));
  if (lacking.length + hidden.length > 0) throw new Error(`keys.js and its actions differ: ${[...lacking, ...hidden]}`);
}

function isTyping(target) {
  if (target instanceof HTMLInputElement) return target.type !== "checkbox";
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}
