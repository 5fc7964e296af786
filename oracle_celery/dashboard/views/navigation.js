/** The pages, in the bar and, where that has no room, in the dock at the thumb. */

import { formatCount } from "../format.js";
import { t } from "../locale.js";
import { hashOf, pagesFor } from "../route.js";
import { seesEverything } from "../session.js";
import { KeyedList, copyOf } from "./keyed-list.js";

/** @param {HTMLElement} element */
export function Navigation(element) {
  const links = KeyedList(element, Link);

  function update({ state }) {
    const pages = pagesFor(seesEverything(state));
    links.update(pages.map((page) => [page, page, page === state.route.page, page === "failures" ? state.failures.news : 0]));
  }

  return { update };
}

function Link() {
  const element = copyOf("navigation-link");

  function update(page, isCurrent, news) {
    element.href = hashOf(page);
    element.querySelector("use").setAttribute("href", `#icon-${page}`);
    element.querySelector("span").textContent = t(`page.${page}.short`, {}, t(`page.${page}`));
    const count = element.querySelector(".navigation__count");
    count.hidden = news === 0;
    count.firstChild.textContent = news === 0 ? "" : `${formatCount(news)} `;
    count.lastElementChild.textContent = news === 0 ? "" : t("navigation.news", { count: news });
    if (isCurrent) element.setAttribute("aria-current", "page");
    else element.removeAttribute("aria-current");
  }

  return { element, update };
}
