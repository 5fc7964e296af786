/** Where nothing matches: the same query with one condition dropped, for each of them. Asks with `filterTasks` {q}. */

import { t } from "../locale.js";
import { joined } from "../query-language.js";
import { emptiness } from "../state.js";
import { hide } from "./drawing.js";
import { KeyedList, copyOf } from "./keyed-list.js";

const OFFERS = 6;

/** @param {HTMLElement} element */
export function NothingMatches(element) {
  const list = KeyedList(element.querySelector("ul"), () => Offer(copyOf("dropped-term")));

  element.addEventListener("click", (event) => {
    const offer = event.target.closest("[data-q]");
    if (offer) element.dispatchEvent(new CustomEvent("filterTasks", { bubbles: true, detail: { q: offer.dataset.q } }));
  });

  function update({ state }) {
    const { terms } = state.query;
    hide(element, emptiness(state) !== "filtered" || terms.length < 2);
    const shown = element.hidden ? [] : terms.slice(0, OFFERS);
    list.update(shown.map(({ text }, at) => [String(at), text, joined(terms.filter((_term, place) => place !== at))]));
  }

  return { update };
}

function Offer(element) {
  const button = element.querySelector("button");

  function update(term, q) {
    button.dataset.q = q;
    button.textContent = t("filter.without", { term });
    button.title = q;
  }

  return { element, update };
}
