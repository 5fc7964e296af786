/**
 * The query language on the page: text to terms, terms to text, and whether a task matches. Pure.
 *
 * The twin of `database/query_language.py`, whose docstring is the language's description. The server is the judge: it
 * reads the text again. Here a wrong word does not spoil the others: it is told apart, for the chip that says why.
 */

import { BARE, FIELDS, Misread } from "./query-fields.js";

/**
 * @typedef {{field: string, values: object[], texts: string[], excludes: boolean, text: string}} Term
 * @typedef {{text: string, field: string | null, code: string}} WrongTerm
 */

export const QUERY_LIMIT = 2_048; // characters
const ALTERNATIVES_LIMIT = 50;
const SPACE = /[ \t\r\n\f\v]/;
const FIELD = /^([A-Za-z_]+):/;
const NEEDS_QUOTES = /[\s",]/;

/**
 * Every word of the text in its place: a term, or what is wrong with it (`code`).
 * @param {string} text @returns {(Term | WrongTerm)[]}
 */
export function parseWords(text) {
  return words(text).map((word, at) => {
    try {
      if (at >= ALTERNATIVES_LIMIT) throw new Misread("many");
      return readTerm(word);
    } catch (error) {
      if (!(error instanceof Misread)) throw error;
      return { text: word, field: error.field ?? null, code: error.code };
    }
  });
}

/** Whether a word of `parseWords` was understood. */
export function isTerm(word) {
  return word.code === undefined;
}

/** @param {Term[]} terms @param {object} task @param {number} now milliseconds, of the server's clock */
export function meetsTerms(terms, task, now) {
  const wanted = new Map();
  for (const { field, values, excludes } of terms) {
    const kind = FIELDS[field];
    const isMet = values.some((value) => kind.meets(value, task, now));
    if (excludes && isMet && !kind.isUndecided) return false;
    if (!excludes && kind.narrows && !isMet) return false;
    if (!excludes && !kind.narrows) wanted.set(field, wanted.get(field) || isMet);
  }
  return [...wanted.values()].every(Boolean);
}

/** Whether a row tells all that the terms ask; else only the server knows which tasks match. @param {Term[]} terms */
export function isDecided(terms) {
  return terms.every(({ field }) => !FIELDS[field].isUndecided);
}

/** Whether the same task may meet the terms at one time and not at another. @param {Term[]} terms */
export function isOfNow(terms) {
  return terms.some(({ field, values }) => values.some((value) => FIELDS[field].isOfNow?.(value) ?? false));
}

/** One word. @param {{field: string, values: string[], excludes?: boolean}} term */
export function formatTerm({ field, values, excludes = false }) {
  const texts = values.map((value) => quoted(value, field === BARE)).join(",");
  return `${excludes ? "-" : ""}${field === BARE ? "" : `${field}:`}${texts}`;
}

/**
 * The text with one term more. The same term is not said twice, and its opposite goes.
 * @param {string} text @param {{field: string, value: string, excludes?: boolean, replaces?: boolean}} term
 * `replaces`: instead of all other terms of the field
 */
export function withTerm(text, { field, value, excludes = false, replaces = false }) {
  const added = formatTerm({ field, values: [value], excludes });
  const opposite = formatTerm({ field, values: [value], excludes: !excludes });
  const kept = parseWords(text).filter(
    (word) => word.text !== opposite && !(replaces && isTerm(word) && word.field === field),
  );
  if (kept.some((word) => word.text === added)) return joined(kept);
  return joined([...kept, { text: added }]);
}

/** The text without the word in that place. */
export function withoutWord(text, place) {
  return joined(parseWords(text).filter((_word, at) => at !== place));
}

/** @param {{text: string}[]} parts */
export function joined(parts) {
  return parts.map(({ text }) => text).join(" ");
}

/** The words of a text, spaces in quotes being part of them. An open quote goes on to the end. */
export function words(text) {
  const found = [];
  let at = 0;
  while (at < text.length) {
    if (SPACE.test(text[at])) {
      at += 1;
      continue;
    }
    const start = at;
    let isQuoted = false;
    for (; at < text.length && (isQuoted || !SPACE.test(text[at])); at += 1) {
      if (text[at] === '"') isQuoted = !isQuoted;
      else if (isQuoted && text[at] === "\\") at += 1;
    }
    at = Math.min(at, text.length);
    found.push(text.slice(start, at));
  }
  return found;
}

function readTerm(text) {
  const excludes = text.startsWith("-");
  const said = text.slice(excludes ? 1 : 0);
  const named = FIELD.exec(said);
  const field = named === null ? BARE : named[1].toLowerCase();
  if (!Object.hasOwn(FIELDS, field)) throw Object.assign(new Misread("field"), { field });
  try {
    const texts = alternatives(said.slice(named?.[0].length ?? 0));
    if (texts.length === 0) throw new Misread("empty");
    if (texts.length > ALTERNATIVES_LIMIT) throw new Misread("many");
    return { field, values: texts.map((one) => FIELDS[field].read(one)), texts, excludes, text };
  } catch (error) {
    throw Object.assign(error, { field });
  }
}

/** The values between commas, without their quotes; empty ones are none. */
function alternatives(text) {
  const values = [];
  let value = "";
  let isQuoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === '"') isQuoted = !isQuoted;
    else if (isQuoted && character === "\\" && ['"', "\\"].includes(text[at + 1])) value += text[(at += 1)];
    else if (character === "," && !isQuoted) values.push(value), (value = "");
    else value += character;
  }
  if (isQuoted) throw new Misread("quote");
  return [...values, value].filter((one) => one !== "");
}

function quoted(value, isBare) {
  const isSpecial = NEEDS_QUOTES.test(value) || (isBare && (value.startsWith("-") || FIELD.test(value)));
  return isSpecial ? `"${value.replace(/["\\]/g, "\\$&")}"` : value;
}
