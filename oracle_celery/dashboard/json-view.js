/**
 * What a JSON tree shows of a value that `parseExact` has read: how much at first, in what portions, which of its texts
 * are addresses. Pure.
 */

/** Lines that a tree may open by itself. */
export const OPEN_LINES = 40;
/** Members of one container that are shown at once. */
export const PORTION = 100;
/** Characters of a text that are shown at once. */
export const TEXT_LIMIT = 400;
/** Members of an inner container that is opened by itself. */
const OPEN_MEMBERS = 20;

/** @returns {boolean} whether it has members that a line of its own would show */
export function isContainer(value) {
  return (value instanceof Map || Array.isArray(value)) && sizeOf(value) > 0;
}

/** @returns {number} members */
export function sizeOf(value) {
  return value instanceof Map ? value.size : value.length;
}

/** @returns {[string | number, any][]} some of the members, in their order */
export function members(value, from, count) {
  if (Array.isArray(value)) return value.slice(from, from + count).map((item, at) => [from + at, item]);
  const found = [];
  let at = 0;
  for (const entry of value) {
    if (at >= from + count) break;
    if (at >= from) found.push(entry);
    at += 1;
  }
  return found;
}

/**
 * Which containers are open at first: the outermost, and below it, level by level, those that fit.
 * @returns {Set<Map | Array>}
 */
export function openAtFirst(value) {
  const opened = new Set();
  let lines = 0;
  let level = isContainer(value) ? [value] : [];
  while (level.length > 0) {
    const fitting = level.filter((container) => {
      if (opened.size > 0 && (lines + sizeOf(container) > OPEN_LINES || sizeOf(container) > OPEN_MEMBERS)) return false;
      lines += sizeOf(container);
      opened.add(container);
      return true;
    });
    level = fitting.flatMap((container) => members(container, 0, OPEN_LINES).map(([, member]) => member)).filter(isContainer);
  }
  return opened;
}

const ADDRESS = /\bhttps?:\/\/[^\s"'<>\\^`{|}\u0000-\u001f\u007f\u200b-\u200f\u202a-\u202e\u2060-\u2069]+/gi;
const TRAILING = /[.,;:!?)\]]+$/;

/**
 * A text in parts; those with a `url` are addresses, and their text is all of the address.
 * @param {string} text @returns {{text: string, url?: string}[]}
 */
export function linkParts(text) {
  const parts = [];
  let from = 0;
  for (const { 0: found, index } of text.matchAll(ADDRESS)) {
    const url = withoutTrailing(found);
    if (!isWeb(url)) continue;
    if (index > from) parts.push({ text: text.slice(from, index) });
    parts.push({ text: url, url });
    from = index + url.length;
  }
  if (from < text.length || parts.length === 0) parts.push({ text: text.slice(from) });
  return parts;
}

/** What ends a sentence or a bracket around an address is not the address's. */
function withoutTrailing(url) {
  const bare = url.replace(TRAILING, "");
  return url.startsWith(`${bare})`) && bare.includes("(") ? `${bare})` : bare;
}

function isWeb(url) {
  try {
    return ["http:", "https:"].includes(new URL(url).protocol);
  } catch {
    return false;
  }
}
