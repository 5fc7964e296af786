/**
 * What the command palette offers, and what of it a few typed letters mean. Pure.
 *
 * An entry asks for one thing, by the event that a button for it would send. Nothing is offered that would be refused:
 * the open task's commands are those that its panel shows.
 */

import { letterOf } from "./keys.js";
import { t } from "./locale.js";
import { hashOf } from "./route.js";
import { isAdmin } from "./session.js";

/** @typedef {{id: string, group: string, text: string, icon: string, keys?: string[], words?: string, ask: [string, object?]}} Entry */

const TASK_ID = /^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;
const WORD_START = /[\s._\-/:@]/;

/**
 * @param {object} state
 * @param {{pages: readonly string[], commands: string[], views: {name: string, q: string, sort: string}[],
 *   languages: {language: string, name: string}[]}} offers `commands`: events that the open task's panel would send
 * @returns {Entry[]} in the order in which they are shown where nothing is typed
 */
export function paletteEntries(state, { pages, commands, views = [], languages }) {
  return [
    ...taskEntries(state, commands),
    ...pages.map((page) => ({
      id: `page ${page}`,
      group: "pages",
      text: t(`page.${page}`),
      icon: `icon-${page}`,
      keys: letterOf(page) === null ? [] : ["g", letterOf(page)],
      words: page,
      ask: ["goTo", { hash: hashOf(page) }],
    })),
    ...views.map(({ name, q, sort }) => ({
      id: `view ${name} ${q}`,
      group: "views",
      text: name,
      icon: "icon-bookmark",
      words: q,
      ask: ["openView", { q, sort }],
    })),
    ...queueEntries(state),
    { id: "theme", group: "page", text: t("palette.theme"), icon: "icon-theme", keys: ["t"], words: "theme dark light", ask: ["changeTheme"] },
    ...languages.map(({ language, name }) => ({
      id: `language ${language}`,
      group: "page",
      text: name,
      icon: "icon-language",
      words: `language ${language} ${t("language")}`,
      ask: ["chooseLanguage", { language }],
    })),
    { id: "keys", group: "page", text: t("keys.title"), icon: "icon-keys", keys: ["?"], words: "keys help", ask: ["showKeys"] },
    { id: "logout", group: "page", text: t("logout"), icon: "icon-leave", words: "log out", ask: ["logOut"] },
  ];
}

/**
 * The entries that a text finds, the best first, and what the text itself may be: a task's id, a query of the list.
 * @param {Entry[]} entries @param {string} text @returns {Entry[]}
 */
export function found(entries, text) {
  const wanted = text.trim();
  if (wanted === "") return entries;
  const scored = entries.map((entry) => ({ entry, score: scoreOf(entry, wanted) })).filter(({ score }) => score > 0);
  const best = scored.sort((a, b) => b.score - a.score).map(({ entry }) => entry);
  const byId = { id: "by id", group: "task", text: t("palette.open", { id: wanted }), icon: "icon-tasks", ask: ["goTo", { hash: hashOf("tasks", wanted) }] };
  const byName = { id: "by name", group: "task", text: t("palette.find", { q: wanted }), icon: "icon-search", ask: ["filterTasks", { q: wanted }] };
  return TASK_ID.test(wanted) ? [byId, ...best] : [...best, byName, ...(/\s/.test(wanted) ? [] : [byId])];
}

/** How well a text fits: every word of it must be there, in any order; a word's start counts most, scattered letters least. */
export function fit(haystack, text) {
  const place = haystack.toLowerCase();
  let sum = 0;
  for (const word of text.toLowerCase().split(/\s+/)) {
    const score = fitOfWord(place, word);
    if (score === 0) return 0;
    sum += score;
  }
  return sum;
}

function fitOfWord(place, word) {
  if (word === "") return 1;
  const at = place.indexOf(word);
  if (at === 0) return 100;
  if (at > 0) return WORD_START.test(place[at - 1]) ? 80 : 50;
  let from = 0;
  for (const letter of word) {
    from = place.indexOf(letter, from) + 1;
    if (from === 0) return 0;
  }
  return 10;
}

/** What is read counts twice as much as the words behind it. */
function scoreOf({ text, words = "" }, wanted) {
  return Math.max(2 * fit(text, wanted), fit(words, wanted), fit(`${text} ${words}`, wanted) / 2);
}

function taskEntries({ opened, detail }, commands) {
  if (opened === null) return [];
  const name = detail.task?.name ?? opened;
  const offer = (id, text, icon, key, ask) => ({ id, group: "task", text: t(text, { name }), icon, keys: [key], words: id, ask: [ask] });
  return [
    ...(commands.includes("retryTask") ? [offer("retry", "palette.retry", "icon-retry", "r", "retryTask")] : []),
    ...(commands.includes("cancelTask") ? [offer("cancel", "palette.cancel", "icon-close", "c", "cancelTask")] : []),
    offer("copy id", "palette.copy", "icon-copy", "y", "copyTaskId"),
  ];
}

function queueEntries(state) {
  const { queues, everythingPaused } = state.fleet;
  if (!isAdmin(state) || queues === null) return [];
  const offer = (queue, isPaused) => ({
    id: `queue ${queue}`,
    group: "queues",
    text: t(isPaused ? "palette.resume" : "palette.pause", { queue: queue === "*" ? t("queue.all") : queue }),
    icon: isPaused ? "icon-play" : "icon-pause",
    words: isPaused ? "resume queue" : "pause queue",
    ask: [isPaused ? "resumeQueue" : "pauseQueue", { queue }],
  });
  const own = queues.filter((queue) => !queue.paused?.everything);
  return [...own.map((queue) => offer(queue.name, Boolean(queue.paused))), offer("*", everythingPaused !== null)];
}
