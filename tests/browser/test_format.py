"""Numbers, durations and times as a reader sees them."""

# ruff: noqa: RUF001  # Russian letters and en dashes are what is tested

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

CALL = """
async ([language, name, argument]) => {
  const { loadLanguage } = await import("/locale.js");
  const format = await import("/format.js");
  await loadLanguage(language);
  const shown = format[name](argument ?? undefined);
  return (typeof shown === "string" ? shown : `${shown.value}|${shown.unit}`).replaceAll("\\u00a0", " ");
}
"""


@pytest.mark.parametrize(
    ("seconds", "english", "russian"),
    [
        (None, "–", "–"),
        (0, "0.0 ms", "0,0 мс"),
        (0.0042, "4.2 ms", "4,2 мс"),
        (0.812, "812 ms", "812 мс"),
        (0.9996, "1.00 s", "1,00 с"),
        (3.42, "3.42 s", "3,42 с"),
        (9.996, "10.0 s", "10,0 с"),
        (22.5, "22.5 s", "22,5 с"),
        (59.96, "1 min", "1 мин"),
        (171, "2 min 51 s", "2 мин 51 с"),
        (3600, "1 h", "1 ч"),
        (11_040, "3 h 4 min", "3 ч 4 мин"),
        (93_600, "1 d 2 h", "1 д 2 ч"),
    ],
)
def test_a_duration_keeps_the_figures_that_matter(
    modules: Page, seconds: float | None, english: str, russian: str
) -> None:
    """Three figures up to a minute, two units beyond, a dash for what is not known."""
    assert _show(modules, "en", "formatDuration", seconds) == english
    assert _show(modules, "ru", "formatDuration", seconds) == russian


def test_an_unknown_number_is_a_dash_and_zero_is_zero(modules: Page) -> None:
    """The page says what it knows."""
    assert _show(modules, "en", "formatCount", None) == "–"
    assert _show(modules, "en", "formatCount", 0) == "0"
    assert _show(modules, "en", "formatCount", 1_234_567) == "1,234,567"
    assert _show(modules, "ru", "formatCount", 1_234_567) == "1 234 567"
    assert _show(modules, "en", "formatPercent", None) == "–|"
    assert _show(modules, "en", "formatPercent", 0) == "0|%"
    assert _show(modules, "en", "formatPercent", 1.254) == "1.25|%"
    assert _show(modules, "ru", "formatPercent", 12.34) == "12,3|%"


def test_a_running_task_is_counted_in_whole_seconds(modules: Page) -> None:
    """What ticks shows no figure that would only flicker."""
    assert _show(modules, "en", "formatElapsed", 4.87) == "4 s"
    assert _show(modules, "en", "formatElapsed", -0.3) == "0 s"
    assert _show(modules, "en", "formatElapsed", 65.2) == "1 min 5 s"


def test_times_are_the_readers_own(modules: Page) -> None:
    """The reader's time zone, milliseconds where lines lie close; the day where it is not today, as they write it."""
    assert _show(modules, "en", "formatExactTime", "2026-03-01T23:04:12.031456Z") == "00:04:12.031"
    assert _show(modules, "en", "formatTime", "2001-03-01T23:04:12.031456Z") == "2 Mar 2001"
    assert _show(modules, "en", "formatTime", None) == "–"


@pytest.mark.parametrize(
    ("languages", "language", "shown"),
    [
        (["en-US", "en"], "en", "Mar 2, 2001"),
        (["de-DE", "en-GB", "en-US"], "en", "2 Mar 2001"),
        (["de-DE"], "en", "Mar 2, 2001"),
        (["en-US@posix", "en-AU"], "en", "2 Mar 2001"),
        (["en-GB"], "ru", "2 мар. 2001 г."),
    ],
)
def test_a_date_is_written_as_where_the_reader_lives(
    fresh_modules: Page, languages: list[str], language: str, shown: str
) -> None:
    """The first of the browser's own kinds of the page's language; without one, the language as it is."""
    script = "tags => Object.defineProperty(navigator, 'languages', { configurable: true, get: () => tags })"
    fresh_modules.evaluate(script, languages)
    assert _show(fresh_modules, language, "formatTime", "2001-03-01T23:04:12Z") == shown


def _show(page: Page, language: str, name: str, argument: Any) -> str:
    shown: str = page.evaluate(CALL, [language, name, argument])
    return shown


@pytest.mark.parametrize(
    ("name", "value", "english", "russian"),
    [
        ("formatBytes", None, "–", "–"),
        ("formatBytes", 0, "0 B", "0 Б"),
        ("formatBytes", 999, "999 B", "999 Б"),
        ("formatBytes", 1_540, "1.5 kB", "1,5 кБ"),
        ("formatBytes", 412_000_000, "412 MB", "412 МБ"),
        ("formatBytes", 2.6e9, "2.6 GB", "2,6 ГБ"),
        ("formatBytes", 3e15, "3,000 TB", "3 000 ТБ"),
        ("formatRate", 0, "0", "0"),
        ("formatRate", 0.2, "0.2", "0,2"),
        ("formatRate", 12.4, "12", "12"),
    ],
)
def test_amounts(modules: Page, name: str, value: float | None, english: str, russian: str) -> None:
    """Bytes in the largest unit that fits, rates with one digit where they are small."""
    assert modules.evaluate(CALL, ["en", name, value]) == english
    assert modules.evaluate(CALL, ["ru", name, value]) == russian
