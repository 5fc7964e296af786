/**
 * Queries with a name: those everybody has, and one's own, which this browser keeps for each user apart. Pure but for
 * the two that read and write the browser's store; where that is off, own views last until the page is closed.
 */

import { formatTerm } from "./query-language.js";

/** @typedef {{name: string, q: string, sort: string}} View */

export const NAME_LIMIT = 60; // characters
const VIEWS_LIMIT = 50;
const PREFIX = "oracle.views.";
const forgetful = new Map(); // by key, where the browser keeps nothing

/**
 * The built-in ones, in their order: keys of `view.<key>`.
 * @param {{user_id: string, role: string} | null} viewer @param {number} now milliseconds
 * @returns {{key: string, q: string}[]}
 */
export function builtInViews(viewer, now) {
  const views = [
    { key: "stuck", q: "is:stuck" },
    { key: "slow", q: "is:slow since:24h" },
    { key: "failed_today", q: `status:failed since:${midnight(new Date(now))}` },
  ];
  const mine = viewer?.user_id && viewer.role ? formatTerm({ field: "user", values: [viewer.user_id] }) : null;
  return mine === null ? views : [...views, { key: "mine", q: mine }];
}

/** @param {View[]} views @param {View} view @returns {View[]} the view of the same name is replaced; the newest last */
export function withView(views, view) {
  const name = view.name.trim().slice(0, NAME_LIMIT);
  if (name === "") return views;
  return [...views.filter((one) => one.name !== name), { ...view, name }].slice(-VIEWS_LIMIT);
}

/** @param {View[]} views @param {string} name */
export function withoutView(views, name) {
  return views.filter((one) => one.name !== name);
}

/** @param {string} userId @returns {View[]} */
export function storedViews(userId) {
  try {
    return understood(JSON.parse(localStorage.getItem(PREFIX + userId) ?? "[]"));
  } catch {
    return forgetful.get(PREFIX + userId) ?? [];
  }
}

/** @param {string} userId @param {View[]} views */
export function storeViews(userId, views) {
  forgetful.set(PREFIX + userId, views);
  try {
    localStorage.setItem(PREFIX + userId, JSON.stringify(views));
  } catch {
    // It holds until the page is closed.
  }
}

/** What another version, or a hand, has left there may be anything. */
function understood(found) {
  if (!Array.isArray(found)) return [];
  const isText = (value) => typeof value === "string";
  return found.filter((view) => isText(view?.name) && isText(view.q) && isText(view.sort)).slice(0, VIEWS_LIMIT);
}

/** The start of the reader's own day, with their offset: the server has no other way to know it. */
function midnight(day) {
  const start = new Date(day.getFullYear(), day.getMonth(), day.getDate());
  const offset = -start.getTimezoneOffset(); // minutes
  const two = (number) => String(Math.floor(Math.abs(number))).padStart(2, "0");
  const date = `${start.getFullYear()}-${two(start.getMonth() + 1)}-${two(start.getDate())}`;
  return `${date}T${two(start.getHours())}:${two(start.getMinutes())}${offset < 0 ? "-" : "+"}${two(offset / 60)}:${two(offset % 60)}`;
}
