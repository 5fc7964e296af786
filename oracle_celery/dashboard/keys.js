/**
 * The keys of the page, in one table: what handles them and what lists them read nothing else. Pure.
 *
 * A single letter is a key only while nobody types and without a modifier; the palette's is the one with a modifier.
 * Letters go by their place where the keyboard writes no Latin ones: "j" is "о" on a Russian keyboard.
 */

/** @typedef {{keys: string[], says: string, isChanging?: boolean, isNative?: boolean}} Entry */

/** In the order of the help. `isChanging`: not for who may change nothing. `isNative`: the browser handles it. */
export const KEYS = Object.freeze([
  { keys: ["j", "k"], says: "keys.move" },
  { keys: ["Enter"], says: "keys.open", isNative: true },
  { keys: ["x", "X"], says: "keys.select", isChanging: true },
  { keys: ["r", "R"], says: "keys.retry", isChanging: true },
  { keys: ["c", "C"], says: "keys.cancel", isChanging: true },
  { keys: ["/"], says: "keys.find" },
  { keys: ["n"], says: "keys.new" },
  { keys: ["y"], says: "keys.copy" },
  { keys: ["l"], says: "keys.log" },
  { keys: ["t"], says: "keys.theme" },
  { keys: ["Escape"], says: "keys.back" },
  { keys: ["?"], says: "keys.help" },
]);

/** After "g", the page of a letter. */
export const GO = Object.freeze({
  t: "tasks",
  f: "failures",
  y: "types",
  q: "queues",
  w: "workers",
  s: "schedule",
  b: "bulk",
  a: "audit",
});

/** The letter of a page, or null. @param {string} page */
export function letterOf(page) {
  return Object.keys(GO).find((letter) => GO[letter] === page) ?? null;
}

/** What somebody pressed, in the words of the table. @param {{key: string, code?: string, shiftKey?: boolean}} event */
export function keyOf({ key, code = "", shiftKey = false }) {
  if (key.length !== 1) return key;
  const letter = /^Key([A-Z])$/.exec(code)?.[1];
  if (letter && !/^[\x20-\x7e]$/.test(key)) return shiftKey ? letter : letter.toLowerCase();
  if (code === "Slash" && (key === "." || key === ",")) return shiftKey ? "?" : "/"; // as a Russian keyboard writes there
  return key;
}

/** Whether it asks for the palette: Ctrl K, or Cmd K. */
export function isPaletteKey(event) {
  return (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && keyOf(event).toLowerCase() === "k";
}

/** A key as it is drawn: "Shift x" for "X", "Esc" for "Escape". */
export function keyName(key) {
  if (key === "Escape") return "Esc";
  return /^[A-Z]$/.test(key) ? `Shift ${key.toLowerCase()}` : key;
}
