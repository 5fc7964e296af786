/** Every attempt at the opened task, newest first: who worked, when, how long, and what came of it. Older ones are folded. */

import { attemptsOf, isRepeated } from "../attempts.js";
import { formatCount, formatDuration, formatElapsed, formatExactTime, formatFullTime } from "../format.js";
import { t } from "../locale.js";
import { showStatus } from "./glyph.js";
import { KeyedList, copyOf } from "./keyed-list.js";

/** The shape of what is no status. */
const SHAPES = Object.freeze({ retried: "failed", given_back: "pending", held: "pending" });

/** @param {HTMLElement} element */
export function TaskAttempts(element) {
  const list = KeyedList(element.querySelector("ol"), Attempt);

  function update({ entries, now }) {
    const attempts = attemptsOf(entries);
    element.hidden = !isRepeated(attempts);
    list.update(element.hidden ? [] : attempts.map((attempt, at) => [attempt.key, attempt, at === 0, now]));
  }

  return { update };
}

function Attempt() {
  const element = copyOf("attempt");
  const details = element.querySelector("details");
  const [, number, again, outcome, duration, at] = details.firstElementChild.children;
  const [worker, origin, received, started, ended] = element.querySelectorAll("dd");
  const error = element.querySelector(".attempt__error");
  let isTouched = false;

  // A press is the reader's; what we open and close ourselves makes no click.
  details.firstElementChild.addEventListener("click", () => (isTouched = true));

  function update(attempt, isNewest, now) {
    if (!isTouched) details.open = isNewest;
    showStatus(details, null, SHAPES[attempt.outcome] ?? attempt.outcome);
    number.textContent = t("attempt.number", { formatted: formatCount(attempt.number) });
    again.hidden = !attempt.isAgain;
    again.textContent = attempt.isAgain ? t(attempt.isDouble ? "attempt.double" : "attempt.again") : "";
    outcome.textContent = attempt.errorType ?? t(`attempt.${attempt.outcome}`, {}, t(`status.${attempt.outcome}`));
    const isOpen = attempt.outcome === "in_progress";
    const elapsed = isOpen ? formatElapsed((now - Date.parse(attempt.startedAt)) / 1000) : formatDuration(attempt.seconds);
    duration.textContent = isOpen || attempt.seconds !== null ? elapsed : "";
    showTime(at, attempt.startedAt ?? attempt.receivedAt);
    worker.textContent = attempt.worker ?? t("attempt.nobody");
    origin.textContent = attempt.origin ?? "";
    for (const [place, time] of [[received, attempt.receivedAt], [started, attempt.startedAt], [ended, attempt.endedAt]]) {
      place.parentElement.hidden = time === null;
      showTime(place.firstElementChild, time);
    }
    error.hidden = !attempt.errorMessage && !attempt.errorType;
    error.querySelector("code").textContent = attempt.errorType ?? "";
    error.querySelector("span").textContent = attempt.errorMessage ?? "";
  }

  return { element, update };
}

function showTime(place, iso) {
  place.textContent = iso === null ? "" : formatExactTime(iso);
  place.dateTime = iso ?? "";
  place.title = formatFullTime(iso);
}
