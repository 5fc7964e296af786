/**
 * Numbers, durations and times as a reader of the chosen language writes them where they live. Pure but for the locale.
 *
 * What is not known is "–", never 0. Durations keep three significant figures up to a minute: the eye compares them.
 */

import { currentLocale, t } from "./locale.js";

export const UNKNOWN = "–";

const MINUTE = 60; // seconds
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const BYTE_UNITS = ["unit.byte", "unit.kb", "unit.mb", "unit.gb", "unit.tb"];

/** @param {number | null | undefined} value */
export function formatCount(value) {
  return isNumber(value) ? decimal(value, 0) : UNKNOWN;
}

/** Tasks a minute: two figures where there are few, "0" only for none. @param {number | null | undefined} rate */
export function formatRate(rate) {
  if (!isNumber(rate)) return UNKNOWN;
  return decimal(rate, rate >= 10 || rate === 0 ? 0 : 1);
}

/** A difference with its sign; none at all is told too. @param {number} difference */
export function formatChange(difference, digits = 0) {
  const size = decimal(Math.abs(difference), digits);
  if (size === decimal(0, digits)) return `±${decimal(0, 0)}`;
  return `${difference < 0 ? "−" : "+"}${size}`;
}

/** @param {number | null | undefined} percent @returns {{value: string, unit: string}} */
export function formatPercent(percent) {
  if (!isNumber(percent)) return { value: UNKNOWN, unit: "" };
  const digits = percent >= 10 || percent === 0 ? 1 : 2;
  return { value: decimal(percent, percent === 0 || percent === 100 ? 0 : digits), unit: t("unit.percent") };
}

/** @param {number | null | undefined} seconds @returns {{value: string, unit: string}} the number apart from its unit */
export function durationParts(seconds) {
  if (!isNumber(seconds) || seconds < 0) return { value: UNKNOWN, unit: "" };
  if (seconds < 0.9995) return { value: decimal(seconds * 1000, seconds < 0.00995 ? 1 : 0), unit: t("unit.ms") };
  if (seconds < 9.995) return { value: decimal(seconds, 2), unit: t("unit.s") };
  if (seconds < MINUTE - 0.05) return { value: decimal(seconds, 1), unit: t("unit.s") };
  const whole = Math.round(seconds);
  if (whole < HOUR) return pair(Math.floor(whole / MINUTE), "unit.min", whole % MINUTE, "unit.s");
  const minutes = Math.round(seconds / MINUTE);
  if (minutes < DAY / MINUTE) return pair(Math.floor(minutes / 60), "unit.h", minutes % 60, "unit.min");
  const hours = Math.round(seconds / HOUR);
  return pair(Math.floor(hours / 24), "unit.d", hours % 24, "unit.h");
}

/** @param {number | null | undefined} seconds */
export function formatDuration(seconds) {
  const { value, unit } = durationParts(seconds);
  return unit ? `${value}\u00a0${unit}` : value;
}

/** @param {number | null | undefined} bytes */
export function formatBytes(bytes) {
  if (!isNumber(bytes)) return UNKNOWN;
  const at = bytes < 1 ? 0 : Math.min(BYTE_UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** at;
  return `${decimal(value, at > 0 && value < 10 ? 1 : 0)}\u00a0${t(BYTE_UNITS[at])}`;
}

/** A round number of seconds on an axis. @param {number} seconds */
export function formatSeconds(seconds) {
  return `${formatter("number", { maximumFractionDigits: 3 }).format(seconds)}\u00a0${t("unit.s")}`;
}

/** What still runs, in whole seconds. @param {number} seconds */
export function formatElapsed(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return whole < MINUTE ? `${decimal(whole, 0)}\u00a0${t("unit.s")}` : formatDuration(whole);
}

/** A time in a row: the clock for today, the day too for any other. @param {string | null} iso @param {Date} now */
export function formatTime(iso, now = new Date()) {
  const time = parsed(iso);
  if (time === null) return UNKNOWN;
  const clock = part(time, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  if (time.toDateString() === now.toDateString()) return clock;
  const day = part(time, { day: "numeric", month: "short" });
  return time.getFullYear() === now.getFullYear()
    ? `${day}, ${clock.slice(0, 5)}`
    : part(time, { dateStyle: "medium" });
}

/** The clock alone, to the minute. */
export function formatClock(iso) {
  const time = parsed(iso);
  return time === null ? UNKNOWN : part(time, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

/** The beginning of a part of a chart, as exact as its length asks for. @param {number} time ms @param {number} seconds */
export function formatMoment(time, seconds, { isLong = false, now = new Date() } = {}) {
  const moment = new Date(time);
  const clock = part(moment, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  if (seconds < HOUR && (!isLong || moment.toDateString() === now.toDateString())) return clock;
  const day = part(moment, { day: "numeric", month: "short" });
  return isLong ? `${day}, ${clock}` : day;
}

/** The clock with milliseconds, for lines that lie close together. */
export function formatExactTime(iso) {
  const time = parsed(iso);
  if (time === null) return UNKNOWN;
  return part(time, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
}

/** Day, clock and time zone, where the pointer rests. */
export function formatFullTime(iso) {
  const time = parsed(iso);
  return time === null ? "" : part(time, { dateStyle: "long", timeStyle: "long" });
}

/** A task's name in two tones: where it lives, and what it does. */
export function splitName(name) {
  const dot = name.lastIndexOf(".");
  return { module: name.slice(0, dot + 1), function: name.slice(dot + 1) };
}

/** What a row has room for of an id: the first block of a UUID, anything else whole. */
export function shortId(taskId) {
  return /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(taskId) ? taskId.slice(0, 8) : taskId;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function decimal(value, digits) {
  return formatter("number", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

function pair(large, largeUnit, small, smallUnit) {
  const head = `${decimal(large, 0)}\u00a0${t(largeUnit)}`;
  return small === 0 ? { value: decimal(large, 0), unit: t(largeUnit) } : { value: `${head} ${small}`, unit: t(smallUnit) };
}

function parsed(iso) {
  const time = iso ? new Date(iso) : null;
  return time === null || Number.isNaN(time.getTime()) ? null : time;
}

function part(time, options) {
  return formatter("time", options).format(time);
}

/** Intl's formatters are costly to make and are asked for in every row. */
const formatters = new Map();

function formatter(kind, options) {
  const key = `${kind} ${currentLocale()} ${JSON.stringify(options)}`;
  if (!formatters.has(key)) {
    const make = kind === "number" ? Intl.NumberFormat : Intl.DateTimeFormat;
    formatters.set(key, new make(currentLocale(), options));
  }
  return formatters.get(key);
}
