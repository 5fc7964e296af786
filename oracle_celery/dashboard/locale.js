/**
 * The page's words. Every string a person reads is in locales/<language>.json; the files have the same keys.
 *
 * `t(key, {name})` fills "{name}". A word that depends on a number is an object of plural categories in its file and
 * is chosen by `values.count`. `translate(root)` fills the static markup: data-text, data-label, data-placeholder.
 */

import { getLocale } from "./api.js";

export const LANGUAGES = Object.freeze(["en", "ru"]);

let language = "en";
let locale = preferredLocale(language);
let words = {};
let plurals = new Intl.PluralRules(language);

/** @param {string} wanted one of LANGUAGES */
export async function loadLanguage(wanted) {
  words = await getLocale(wanted);
  language = wanted;
  locale = preferredLocale(wanted);
  plurals = new Intl.PluralRules(wanted);
}

/** The language that the reader chose before, else the first of the browser's that we speak, else English. */
export function preferredLanguage(chosen, browserLanguages) {
  const wanted = [chosen ?? "", ...browserLanguages].map((tag) => tag.slice(0, 2).toLowerCase());
  return wanted.find((tag) => LANGUAGES.includes(tag)) ?? "en";
}

export function currentLanguage() {
  return language;
}

/** Whose numbers and dates the reader is used to: the browser's own kind of the page's language, such as "en-GB". */
export function currentLocale() {
  return locale;
}

function preferredLocale(wanted) {
  return navigator.languages.find((tag) => tag.split("-")[0].toLowerCase() === wanted && isLocale(tag)) ?? wanted;
}

/** Browsers have told tags that Intl does not take, such as "en-US@posix". */
function isLocale(tag) {
  try {
    return Intl.getCanonicalLocales(tag).length === 1;
  } catch {
    return false;
  }
}

/** @param {string} key @param {Record<string, string | number>} values @param {string} fallback where there is no such key */
export function t(key, values = {}, fallback = key) {
  const found = words[key];
  if (found === undefined) return fallback;
  const text = typeof found === "string" ? found : found[plurals.select(values.count)];
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** @param {Document | DocumentFragment | Element} root */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of root.querySelectorAll("[data-placeholder]")) element.placeholder = t(element.dataset.placeholder);
  for (const element of root.querySelectorAll("[data-label]")) {
    const label = t(element.dataset.label);
    element.setAttribute("aria-label", label);
    if (element.matches("button, a")) element.title = label;
  }
  for (const template of root.querySelectorAll("template")) translate(template.content);
}
