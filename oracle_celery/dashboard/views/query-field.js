/**
 * The query as chips with a field behind them, and what may come next. Asks with `filterTasks` {q}.
 *
 * A chip is a word of the query: Enter or a click takes it back into the field, Backspace, Delete or its cross removes
 * it, a minus or an Alt-click turns it round. A word that is not understood stays as a chip that says why, while the
 * list goes on with the others. The field is never written to while a person types in it.
 */

import { completed, completionAt, proposals, wantedValues } from "../completion.js";
import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { isTerm, joined, parseWords, words } from "../query-language.js";
import { typedText } from "../query.js";
import { KeyedList, copyOf } from "./keyed-list.js";

const TYPING_PAUSE = 120; // ms without a key after which values are asked for
const PROPOSALS = 10;

/** @param {HTMLElement} element @param {(field: string, part: string) => Promise<{value: string, count: number | null}[]>} getValues */
export function QueryField(element, getValues) {
  const input = element.querySelector("input");
  const chips = element.querySelector(".chips");
  const list = element.querySelector("[role=listbox]");
  const chipList = KeyedList(chips, () => Chip(copyOf("query-chip")));
  let parts = []; // of the query, as chips
  let shownText = null;
  let offered = [];
  let active = -1;
  let question = 0;
  let typing = null;

  input.addEventListener("input", () => offerSoon());
  input.addEventListener("keydown", (event) => !event.isComposing && act(event, inputKey(event)));
  input.addEventListener("blur", () => {
    close();
    if (input.value.trim() !== "" && parseWords(input.value).every(isTerm)) take();
  });
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays in the field
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) choose(Number(option.dataset.number));
  });
  element.addEventListener("click", (event) => {
    const chip = event.target.closest(".chip");
    if (chip === null) return event.target.closest("button, input, [role=listbox]") ? undefined : input.focus();
    const place = [...chips.children].indexOf(chip);
    if (event.target.closest(".chip__remove")) remove(place, { isKey: false });
    else if (event.altKey) turn(place);
    else edit(place);
  });
  chips.addEventListener("keydown", (event) => {
    const place = [...chips.children].indexOf(event.target.closest(".chip"));
    if (place >= 0) act(event, chipKey(event, place));
  });

  /** @param {(() => void) | undefined} what */
  function act(event, what) {
    if (what === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation(); // Escape means one thing at a time
    what();
  }

  function inputKey({ key, altKey }) {
    const isAtStart = input.selectionStart === 0 && input.selectionEnd === 0;
    const isOffering = offered.length > 0;
    switch (key) {
      case "ArrowDown":
        return isOffering ? () => move(1) : () => offer();
      case "ArrowUp":
        return isOffering ? () => move(-1) : undefined;
      case "Tab":
        return isOffering && active >= 0 ? () => choose(active) : undefined;
      case "Enter":
        return isOffering && active >= 0 ? () => choose(active) : () => take();
      case "Escape":
        return isOffering ? () => close() : input.value === "" ? undefined : () => (input.value = "");
      case "/":
        return input.value === "" ? () => {} : undefined; // it leads here, and here we are
      case " ":
        return isTypedWhole() && !altKey ? () => take() : undefined;
      case "Backspace":
      case "ArrowLeft":
        return isAtStart && parts.length > 0 ? () => focusChip(parts.length - 1) : undefined;
      default:
        return undefined;
    }
  }

  function chipKey({ key }, place) {
    switch (key) {
      case "Backspace":
      case "Delete":
        return () => remove(place, { isKey: true });
      case "Enter":
        return () => edit(place);
      case "-":
        return () => turn(place);
      case "ArrowLeft":
        return () => focusChip(place - 1);
      case "ArrowRight":
        return () => focusChip(place + 1);
      case "Escape":
        return () => input.focus();
      default:
        return undefined;
    }
  }

  /** A space ends a word, unless it is inside quotes or before the value. */
  function isTypedWhole() {
    const typed = parseWords(input.value);
    const isAtEnd = input.selectionStart === input.value.length;
    return isAtEnd && typed.length > 0 && !typed.some((word) => ["quote", "empty"].includes(word.code));
  }

  /** What was typed becomes part of the query. */
  function take() {
    const typed = words(input.value);
    input.value = "";
    close();
    const known = parts.map(({ text }) => text);
    ask([...known, ...typed.filter((word, at) => !known.includes(word) && typed.indexOf(word) === at)]);
  }

  function remove(place, { isKey }) {
    ask(parts.filter((_part, at) => at !== place).map(({ text }) => text));
    if (isKey && parts.length > 0) focusChip(Math.min(place, parts.length - 1));
    else input.focus();
  }

  function turn(place) {
    const { text } = parts[place];
    ask(parts.map((part, at) => (at !== place ? part.text : text.startsWith("-") ? text.slice(1) : `-${text}`)));
    focusChip(place);
  }

  function edit(place) {
    const { text } = parts[place];
    const typed = input.value;
    ask(parts.filter((_part, at) => at !== place).map((part) => part.text));
    if (typed.trim() !== "") ask([...parts.map((part) => part.text), ...words(typed)]);
    input.value = text;
    input.focus();
    input.setSelectionRange(text.length, text.length);
    offerSoon();
  }

  function focusChip(place) {
    const chip = chips.children[Math.max(0, place)];
    if (chip) chip.querySelector(".chip__text").focus();
    else input.focus();
  }

  function ask(texts) {
    const q = joined(texts.map((text) => ({ text })));
    element.dispatchEvent(new CustomEvent("filterTasks", { bubbles: true, detail: { q } }));
  }

  // What may come next

  function offerSoon() {
    clearTimeout(typing);
    question += 1; // an answer that is under way is to an earlier word
    if (input.value.trim() === "") return close();
    show(proposals(completionAt(input.value, input.selectionStart), []));
    typing = setTimeout(offer, TYPING_PAUSE);
  }

  async function offer() {
    clearTimeout(typing);
    const mine = (question += 1);
    const completion = completionAt(input.value, input.selectionStart);
    const wanted = wantedValues(completion);
    let values = [];
    if (wanted !== null) {
      try {
        values = await getValues(wanted.field, wanted.part);
      } catch {
        // Without proposals one types the whole value.
      }
    }
    if (mine === question && document.activeElement === input) show(proposals(completion, values));
  }

  function show(found) {
    const chosen = offered[active]?.text;
    offered = found.slice(0, PROPOSALS);
    active = offered.findIndex(({ text }) => text === chosen);
    list.replaceChildren(...offered.map(option));
    list.hidden = offered.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    mark();
  }

  function close() {
    clearTimeout(typing);
    question += 1;
    active = -1;
    show([]);
  }

  function option(found, number) {
    const made = copyOf("query-option");
    made.id = `query-option-${number}`;
    made.dataset.number = String(number);
    const [text, hint, count] = made.children;
    text.textContent = found.text;
    hint.textContent = found.value === null ? t(`query.field.${found.field}`) : "";
    count.textContent = found.count === null ? "" : formatCount(found.count);
    return made;
  }

  function move(step) {
    active = active < 0 && step < 0 ? offered.length - 1 : (active + step + offered.length) % offered.length;
    mark();
  }

  function mark() {
    [...list.children].forEach((made, at) => made.setAttribute("aria-selected", String(at === active)));
    if (active < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", `query-option-${active}`);
    list.children[active].scrollIntoView({ block: "nearest" });
  }

  function choose(number) {
    const completion = completionAt(input.value, input.selectionStart);
    const { text, caret, isWhole } = completed(input.value, completion, offered[number]);
    input.value = text;
    if (isWhole) return take();
    input.setSelectionRange(caret, caret);
    active = -1;
    offer();
  }

  function update({ state }) {
    const text = typedText(state.query);
    if (text !== shownText) parts = [...state.query.terms, ...state.query.wrong];
    shownText = text;
    chipList.update(parts.map((part, at) => [String(at), part.text]));
    const hint = t(parts.length === 0 ? "filter.placeholder" : "filter.more");
    if (input.placeholder !== hint) input.placeholder = hint;
  }

  /** Nothing that the server has proposed stays. */
  function empty() {
    close();
  }

  return { update, focus: () => input.focus(), empty };
}

/** One word of the query. */
function Chip(element) {
  const [word, remove] = element.querySelectorAll("button");
  const [minus, field, value] = word.children;
  const why = element.querySelector(".chip__why");

  function update(text) {
    const [part] = parseWords(text);
    const [, sign, name, rest] = /^(-?)((?:[A-Za-z_]+:)?)(.*)$/s.exec(text);
    minus.textContent = sign && "−";
    field.textContent = name;
    value.textContent = rest;
    const isWrong = part !== undefined && !isTerm(part);
    element.classList.toggle("chip--wrong", isWrong);
    why.textContent = isWrong ? t(`query.wrong.${part.code}`) : "";
    word.title = isWrong ? why.textContent : text;
    word.setAttribute("aria-label", `${text}${isWrong ? `, ${why.textContent}` : ""}`);
    remove.setAttribute("aria-label", t("filter.remove", { term: text }));
    remove.title = t("filter.remove", { term: text });
  }

  return { element, update };
}
