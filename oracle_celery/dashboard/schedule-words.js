/**
 * When an entry is due, in words: "every 5 min", "hourly at :20", "daily at 02:00", "Mon, Thu at 08:30". What has no
 * plain words is told as the crontab that it is. Pure but for the language.
 */

import { formatCount, formatDuration, formatFullTime } from "./format.js";
import { currentLocale, t } from "./locale.js";

const NUMBER = /^\d+$/;
const EVERY = /^\*\/(\d+)$/;
const NAMES = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const SUNDAY = Date.UTC(2023, 0, 1); // ms
const DAY = 86_400_000; // ms

/** @param {{kind: string}} schedule as the API tells it @returns {{text: string, isCode: boolean}} */
export function scheduleWords(schedule) {
  if (schedule.kind === "interval") return plain(intervalWords(schedule.seconds));
  if (schedule.kind === "crontab") return crontabWords(schedule);
  if (schedule.kind === "solar") return plain(t(`schedule.solar.${schedule.event}`, {}, schedule.event));
  if (schedule.kind === "once") {
    const at = schedule.at === null ? "" : formatFullTime(new Date(schedule.at * 1000).toISOString());
    return plain(t("schedule.once", { at }));
  }
  return { text: schedule.text ?? "", isCode: true };
}

function plain(text) {
  return { text, isCode: false };
}

function intervalWords(seconds) {
  if (seconds === 60) return t("schedule.minutely");
  if (seconds === 3600) return t("schedule.hourly");
  if (seconds === 86_400) return t("schedule.daily");
  return t("schedule.every", { duration: formatWhole(seconds) });
}

/** Whole seconds, as people set them, without decimals. */
function formatWhole(seconds) {
  return Number.isInteger(seconds) && seconds < 60 ? `${formatCount(seconds)}\u00a0${t("unit.s")}` : formatDuration(seconds);
}

function crontabWords(crontab) {
  const { minute, hour, day_of_month: day, month_of_year: month, day_of_week: weekday } = crontab;
  const code = { text: [minute, hour, day, month, weekday].join(" "), isCode: true };
  if (month !== "*") return code;
  const time = timeWords(minute, hour);
  if (time === null) return code;
  if (day === "*" && weekday === "*") return plain(time.alone);
  if (time.at === null) return code;
  if (day === "*") {
    const days = weekdays(weekday);
    return days === null ? code : plain(t("schedule.on", { days, at: time.at }));
  }
  if (weekday === "*" && NUMBER.test(day)) return plain(t("schedule.monthly", { day: formatCount(Number(day)), at: time.at }));
  return code;
}

/** `alone`: with no day given; `at`: the times of a day, where they are few. */
function timeWords(minute, hour) {
  const [everyMinutes, everyHours] = [EVERY.exec(minute)?.[1], EVERY.exec(hour)?.[1]];
  if (minute === "*" && hour === "*") return { alone: t("schedule.minutely"), at: null };
  if (everyMinutes && hour === "*") return { alone: t("schedule.every", { duration: minutes(everyMinutes) }), at: null };
  if (!NUMBER.test(minute)) return null;
  const past = minute.padStart(2, "0");
  if (hour === "*") return { alone: t("schedule.hourly.at", { minute: past }), at: null };
  if (everyHours) {
    const duration = `${formatCount(Number(everyHours))}\u00a0${t("unit.h")}`;
    return { alone: minute === "0" ? t("schedule.every", { duration }) : t("schedule.every.at", { duration, minute: past }), at: null };
  }
  if (!/^\d+(,\d+)*$/.test(hour)) return null;
  const at = hour.split(",").map((one) => `${one.padStart(2, "0")}:${past}`).join(", ");
  return { alone: t("schedule.daily.at", { at }), at };
}

function minutes(count) {
  return `${formatCount(Number(count))}\u00a0${t("unit.min")}`;
}

/** "mon-fri", "1,4", "sat": in the reader's words, or null. */
function weekdays(text) {
  const numbers = [];
  for (const part of text.toLowerCase().split(",")) {
    const [from, to = from] = part.split("-").map((one) => (NUMBER.test(one) ? Number(one) % 7 : NAMES.indexOf(one.slice(0, 3))));
    if (from === -1 || to === -1 || part.includes("/")) return null;
    for (let day = from; ; day = (day + 1) % 7) {
      numbers.push(day);
      if (day === to || numbers.length > 7) break;
    }
  }
  if (String(numbers.toSorted()) === "1,2,3,4,5") return t("schedule.workdays");
  const words = new Intl.DateTimeFormat(currentLocale(), { weekday: "short", timeZone: "UTC" });
  return numbers.map((day) => words.format(SUNDAY + day * DAY)).join(", ");
}
