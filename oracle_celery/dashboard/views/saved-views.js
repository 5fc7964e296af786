/**
 * Queries with a name: the built-in ones, and one's own, which this browser keeps. Asks with `openView` {q, sort}.
 *
 * A button and a panel below it, not a menu: it holds a field and buttons of two kinds. Escape and a click elsewhere
 * close it, and the focus is back on the button.
 */

import { t } from "../locale.js";
import { NEWEST_FIRST } from "../query.js";
import { builtInViews, storeViews, storedViews, withView, withoutView } from "../saved-views.js";
import { KeyedList, copyOf } from "./keyed-list.js";

/** @param {HTMLElement} element */
export function SavedViews(element) {
  const button = element.querySelector("button");
  const panel = element.querySelector(".saved-views__panel");
  const name = panel.querySelector("input");
  const save = panel.querySelector(".saved-views__save");
  const builtIn = KeyedList(panel.querySelector(".saved-views__built-in"), () => Entry(copyOf("saved-view"), {}));
  const own = KeyedList(panel.querySelector(".saved-views__own"), () => Entry(copyOf("saved-view"), { canBeDeleted: true }));
  const none = panel.querySelector(".saved-views__none");
  let shown = null;

  button.addEventListener("click", () => toggle(panel.hidden));
  panel.addEventListener("click", (event) => {
    const entry = event.target.closest("li");
    if (entry === null) return;
    if (event.target.closest(".saved-view__delete")) return change(withoutView(views(), entry.dataset.name));
    toggle(false);
    const { q, sort } = entry.dataset;
    element.dispatchEvent(new CustomEvent("openView", { bubbles: true, detail: { q, sort } }));
  });
  save.addEventListener("click", keep);
  name.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    keep();
  });
  name.addEventListener("input", () => draw());
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || panel.hidden) return;
    event.stopPropagation();
    toggle(false);
  });
  document.addEventListener("pointerdown", (event) => {
    if (!panel.hidden && !element.contains(event.target)) close();
  });
  element.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget !== null && !element.contains(relatedTarget)) close();
  });

  function toggle(isOpen) {
    if (!isOpen) {
      close();
      button.focus();
      return;
    }
    panel.hidden = false;
    button.setAttribute("aria-expanded", "true");
    draw();
    panel.querySelector("button")?.focus();
  }

  function close() {
    panel.hidden = true;
    name.value = "";
    button.setAttribute("aria-expanded", "false");
    builtIn.update([]);
    own.update([]);
  }

  function keep() {
    const { q, sort } = shown.state.query;
    if (name.value.trim() === "" || !isWorthKeeping(shown.state.query)) return;
    change(withView(views(), { name: name.value, q, sort }));
    name.value = "";
    draw();
  }

  function change(changed) {
    storeViews(userId(), changed);
    draw();
    if (!panel.contains(document.activeElement)) name.focus();
  }

  function views() {
    return storedViews(userId());
  }

  function userId() {
    return shown.state.session.viewer?.user_id ?? "";
  }

  function draw() {
    if (panel.hidden || shown === null) return;
    const { state, now } = shown;
    const kept = views();
    builtIn.update(
      builtInViews(state.session.viewer, now).map(({ key, q }) => [key, { name: t(`view.${key}`), q, sort: NEWEST_FIRST }]),
    );
    own.update(kept.map((view) => [view.name, view]));
    none.hidden = kept.length > 0;
    save.disabled = name.value.trim() === "" || !isWorthKeeping(state.query);
  }

  function update({ state, now }) {
    shown = { state, now };
    if (!panel.hidden && state.session.phase === "out") close();
  }

  return { update };
}

function isWorthKeeping({ q, sort }) {
  return q !== "" || sort !== NEWEST_FIRST;
}

function Entry(element, { canBeDeleted = false }) {
  const [choose, remove] = element.querySelectorAll("button");
  const [label, text] = choose.children;
  remove.hidden = !canBeDeleted;

  function update({ name, q, sort }) {
    Object.assign(element.dataset, { name, q, sort });
    label.textContent = name;
    text.textContent = q;
    remove.setAttribute("aria-label", t("view.delete", { name }));
    remove.title = t("view.delete", { name });
  }

  return { element, update };
}
