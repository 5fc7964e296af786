/**
 * What may come next while a query is typed: fields, words of a field, real values. Pure.
 *
 * `completionAt` says what the word under the caret is about to be, `proposals` what to offer (the server's `values` for
 * the fields that have them), `completed` what the text becomes when one is taken.
 */

import { BARE, FIELDS } from "./query-fields.js";
import { formatTerm, words } from "./query-language.js";

/** Fields whose real values the server proposes. */
export const VALUE_FIELDS = Object.freeze(["name", "queue", "user", "worker"]);

/** Of the others: what is usually asked. */
const EXAMPLES = Object.freeze({
  runtime: [">1s", ">30s", ">1m", ">10m"],
  wait: [">1s", ">30s", ">1m", ">10m"],
  retries: [">0", ">2", "0"],
  since: ["15m", "1h", "24h", "7d"],
  until: ["15m", "1h", "24h", "7d"],
});

/** Letters after which a bare word is looked for among the names. */
const NAME_LETTERS = 2;

/**
 * @typedef {{start: number, end: number, excludes: boolean, field: string | null, before: string, part: string}} Completion
 * `field` is null before the colon; `before` are the alternatives in front of the one that is typed.
 * @param {string} text @param {number} caret @returns {Completion}
 */
export function completionAt(text, caret = text.length) {
  const head = text.slice(0, caret);
  const isBetween = head === "" || (/\s$/.test(head) && !isOpen(head));
  const word = isBetween ? "" : (words(head).at(-1) ?? "");
  const start = caret - word.length;
  const rest = text.slice(caret);
  const end = caret + (/^\S*/.exec(rest)?.[0].length ?? 0);
  const excludes = word.startsWith("-");
  const said = word.slice(excludes ? 1 : 0);
  const [, name, value] = /^([A-Za-z_]+):(.*)$/s.exec(said) ?? [];
  const field = name !== undefined && Object.hasOwn(FIELDS, name.toLowerCase()) ? name.toLowerCase() : null;
  if (field === null) return { start, end, excludes, field, before: "", part: said.replace(/^"/, "") };
  const comma = lastComma(value);
  return { start, end, excludes, field, before: value.slice(0, comma + 1), part: value.slice(comma + 1).replace(/^"|"$/g, "") };
}

/** Which values the server should propose, or null. @param {Completion} completion @returns {{field: string, part: string} | null} */
export function wantedValues({ field, part }) {
  if (VALUE_FIELDS.includes(field)) return { field, part: part.replaceAll("*", "") };
  return field === null && part.length >= NAME_LETTERS && !part.includes(":") ? { field: "name", part } : null;
}

/**
 * @param {Completion} completion @param {{value: string, count: number | null}[]} values as the server proposes them
 * @returns {{text: string, field: string, value: string | null, count: number | null}[]} without a value it is a field
 */
export function proposals(completion, values) {
  const { field, part } = completion;
  if (field === null) {
    const names = Object.keys(FIELDS).filter((name) => name !== BARE && name.startsWith(part.toLowerCase()));
    const fields = names.map((name) => ({ text: `${name}:`, field: name, value: null, count: null }));
    return [...fields, ...valueProposals("name", values)];
  }
  const known = FIELDS[field].words ?? EXAMPLES[field] ?? null;
  if (known === null) return valueProposals(field, values);
  const fitting = known.filter((word) => word.startsWith(part.toLowerCase()));
  return valueProposals(field, fitting.map((value) => ({ value, count: null })));
}

/** @returns {{text: string, caret: number, isWhole: boolean}} `isWhole`: the word needs nothing more */
export function completed(text, { start, end, excludes, before }, { field, value }) {
  const isWhole = value !== null;
  const written = isWhole ? formatTerm({ field, values: [value] }).slice(field.length + 1) : "";
  const word = `${excludes ? "-" : ""}${field}:${isWhole ? before : ""}${written}`;
  return { text: text.slice(0, start) + word + text.slice(end), caret: start + word.length, isWhole };
}

function valueProposals(field, values) {
  return values.map(({ value, count }) => ({ text: formatTerm({ field, values: [value] }), field, value, count }));
}

function isOpen(text) {
  return (text.match(/"/g) ?? []).length % 2 === 1;
}

function lastComma(value) {
  for (let at = value.length - 1; at >= 0; at -= 1) if (value[at] === "," && !isOpen(value.slice(0, at))) return at;
  return -1;
}
