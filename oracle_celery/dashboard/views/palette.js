/**
 * The command palette: a field and the list of what it finds, in a dialog. Asks with the event that the chosen entry
 * names, once the dialog is closed and the focus is back where it was.
 *
 * The focus stays in the field; the arrows move the choice, which is told by aria-activedescendant.
 */

import { t } from "../locale.js";
import { found } from "../palette.js";
import { keyName } from "../keys.js";
import { KeyedList, copyOf } from "./keyed-list.js";

const SHOWN = 60; // entries

/** @param {HTMLDialogElement} dialog @param {{entries: () => import("../palette.js").Entry[]}} page */
export function Palette(dialog, { entries }) {
  const field = dialog.querySelector("input");
  const box = dialog.querySelector("[role=listbox]");
  const none = dialog.querySelector(".palette__none");
  const options = KeyedList(box, Option);
  let offered = [];
  let shown = [];
  let chosen = 0;

  field.addEventListener("input", () => find());
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 }[event.key];
    if (event.isComposing) return;
    if (step) {
      event.preventDefault();
      move(step);
    } else if (event.key === "Enter") {
      event.preventDefault();
      run(shown[chosen]);
    }
  });
  box.addEventListener("pointermove", (event) => choose(indexOf(event.target)));
  box.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
  box.addEventListener("click", (event) => run(shown[indexOf(event.target)]));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.open || clear()); // told later: it may be open again

  function open() {
    offered = entries();
    field.value = "";
    find();
    dialog.showModal();
    field.focus();
  }

  function clear() {
    offered = [];
    field.value = "";
    options.update([]);
  }

  function find() {
    shown = found(offered, field.value).slice(0, SHOWN);
    const isGrouped = field.value.trim() === "";
    options.update(shown.map((entry, at) => [
      entry.id, entry, at, isGrouped && at > 0 && shown[at - 1].group !== entry.group,
    ]));
    none.hidden = shown.length > 0;
    choose(0);
    box.scrollTop = 0;
  }

  function move(step) {
    if (shown.length === 0) return;
    const isAtEnd = Math.abs(step) === 1;
    const wanted = chosen + step;
    choose(isAtEnd ? (wanted + shown.length) % shown.length : Math.min(shown.length - 1, Math.max(0, wanted)));
    box.children[chosen].scrollIntoView({ block: "nearest" });
  }

  function choose(at) {
    if (at < 0) return;
    chosen = at;
    [...box.children].forEach((option, place) => option.setAttribute("aria-selected", String(place === at)));
    const option = box.children[at];
    if (option) field.setAttribute("aria-activedescendant", option.id);
    else field.removeAttribute("aria-activedescendant");
  }

  function indexOf(target) {
    return [...box.children].indexOf(target.closest("[role=option]"));
  }

  function run(entry) {
    if (!entry) return;
    const [type, detail] = entry.ask;
    dialog.close();
    document.dispatchEvent(new CustomEvent(type, { detail }));
  }

  return { open };
}

function Option() {
  const element = copyOf("palette-option");
  const [text, group, keys] = element.querySelectorAll("span");

  function update(entry, at, isFirstOfGroup) {
    element.id = `palette-option-${at}`;
    element.classList.toggle("is-first", isFirstOfGroup);
    element.querySelector("use").setAttribute("href", `#${entry.icon}`);
    text.textContent = entry.text;
    group.textContent = t(`palette.group.${entry.group}`);
    const drawn = (entry.keys ?? []).map((key) => Object.assign(document.createElement("kbd"), { textContent: keyName(key) }));
    keys.replaceChildren(...drawn);
  }

  return { element, update };
}
