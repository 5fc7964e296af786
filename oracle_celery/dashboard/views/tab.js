/** The tab's title and icon: which environment this is, and whether tasks have failed since somebody looked. */

import { NOTHING_FAILED, afterGap, tabOf, whileLooking, withFailures } from "../attention.js";
import { formatCount } from "../format.js";

const NAME = "Oracle";
const CALM = "#7d991a"; // as --accent-fill and --failed: an icon knows no custom properties
const FAILING = "#b93109";

export function Tab() {
  const icon = document.querySelector('link[rel="icon"]');
  const address = icon.getAttribute("href");
  let attention = whileLooking(NOTHING_FAILED, !document.hidden);
  let environment = "";
  let isFailing = false;

  document.addEventListener("visibilitychange", () => {
    attention = whileLooking(attention, !document.hidden);
    show();
  });

  function takeFacts(facts) {
    attention = withFailures(attention, facts);
    show();
  }

  function takeGap() {
    attention = afterGap(attention);
  }

  /** What a former viewer's tab said is not for the next one. */
  function forget() {
    attention = whileLooking(attention, !document.hidden);
    show();
  }

  function update({ state }) {
    const name = state.session.viewer?.environment?.name ?? "";
    if (name === environment) return;
    environment = name;
    show();
  }

  function show() {
    const tab = tabOf(attention, environment === "" ? NAME : `${environment} – ${NAME}`, formatCount);
    if (document.title !== tab.title) document.title = tab.title;
    if (tab.isFailing === isFailing) return;
    isFailing = tab.isFailing;
    icon.href = isFailing ? address.replaceAll(encodeURIComponent(CALM), encodeURIComponent(FAILING)) : address;
  }

  return { update, takeFacts, takeGap, forget };
}
