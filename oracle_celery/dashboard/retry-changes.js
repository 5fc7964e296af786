/**
 * What a retry is to have instead of what its task had: read from what a person typed, exactly. Pure.
 *
 * Only what differs from what the task had is sent: a retry without changes is the message itself, byte for byte. What
 * the page shows of arguments may be shortened or stand for an object it cannot show; such arguments are never offered
 * for editing, or their stand-ins would be sent as if they were meant.
 */

import { formatExact, parseExact } from "./exact-json.js";

const STAND_INS = ["$type", "$cut"];

/** What to offer for editing: `{args, kwargs, isWhole}` as texts; not whole means the person must write them anew. */
export function editableArguments(shown) {
  const args = shown?.get("args") ?? [];
  const kwargs = shown?.get("kwargs") ?? new Map();
  const isWhole = shown !== undefined && !hasStandIn(args) && !hasStandIn(kwargs);
  return isWhole ? { args: formatExact(args), kwargs: formatExact(kwargs), isWhole } : { args: "", kwargs: "", isWhole };
}

/**
 * @param {{args: string, kwargs: string, queue: string}} typed
 * @param {{args: string, kwargs: string, queue: string}} before what was offered
 * @returns {{changes: Map, problems: Record<string, "syntax" | "list" | "object" | "both">}} problems by field, none where it may be sent
 */
export function readChanges(typed, before) {
  const changes = new Map();
  const problems = {};
  read("args", Array.isArray, "list");
  read("kwargs", (value) => value instanceof Map, "object");
  if (typed.queue.trim() !== "" && typed.queue.trim() !== before.queue) changes.set("queue", typed.queue.trim());
  return { changes, problems };

  function read(field, isRight, shape) {
    if (typed[field].trim() === "" || typed[field] === before[field]) return;
    try {
      const value = parseExact(typed[field]);
      if (!isRight(value)) problems[field] = shape;
      else if (before[field] === "" || formatExact(value) !== before[field]) changes.set(field, value);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      problems[field] = "syntax";
    }
  }
}

function hasStandIn(value) {
  if (Array.isArray(value)) return value.some(hasStandIn);
  if (!(value instanceof Map)) return false;
  return STAND_INS.some((key) => value.has(key)) || [...value].some(([key, inner]) => key.startsWith("$type:") || hasStandIn(inner));
}
