"""The schedule page: words for when, a line around now, and what beat does, from a real sidecar."""

# ruff: noqa: RUF001  # Russian letters and en dashes are what is tested

from __future__ import annotations

import time
import uuid
from typing import Any

import msgspec
import psycopg
import pytest
from playwright.sync_api import Page, expect

from oracle_celery.database.store import BeatReport, Store
from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar

HOUR = 3600.0
LOOK_PATIENCE_MS = 60_000
WORDS = """
async ([language, schedule]) => {
  const { loadLanguage } = await import("/locale.js");
  const { scheduleWords } = await import("/schedule-words.js");
  await loadLanguage(language);
  const { text, isCode } = scheduleWords(schedule);
  return (isCode ? `code ${text}` : text).replaceAll("\\u00a0", " ");
}
"""


def crontab(minute: str = "*", hour: str = "*", day: str = "*", month: str = "*", weekday: str = "*") -> dict[str, str]:
    return {
        "kind": "crontab",
        "minute": minute,
        "hour": hour,
        "day_of_month": day,
        "month_of_year": month,
        "day_of_week": weekday,
    }


@pytest.mark.parametrize(
    ("schedule", "english", "russian"),
    [
        ({"kind": "interval", "seconds": 60}, "every minute", "каждую минуту"),
        ({"kind": "interval", "seconds": 30}, "every 30 s", "каждые 30 с"),
        ({"kind": "interval", "seconds": 14_400}, "every 4 h", "каждые 4 ч"),
        (crontab(), "every minute", "каждую минуту"),
        (crontab("*/5"), "every 5 min", "каждые 5 мин"),
        (crontab("20"), "hourly at :20", "каждый час в :20"),
        (crontab("0", "*/4"), "every 4 h", "каждые 4 ч"),
        (crontab("5", "*/4"), "every 4 h, at :05", "каждые 4 ч, в :05"),
        (crontab("0", "2"), "daily at 02:00", "каждый день в 02:00"),
        (crontab("30", "8,16", weekday="mon-fri"), "Mon to Fri at 08:30, 16:30", "по будням в 08:30, 16:30"),
        (crontab("0", "9", weekday="1,thu"), "Mon, Thu at 09:00", "пн, чт в 09:00"),
        (crontab("0", "9", day="1"), "monthly on day 1 at 09:00", "1-го числа каждого месяца в 09:00"),
        (crontab("0", "9", month="3"), "code 0 9 * 3 *", "code 0 9 * 3 *"),
        (crontab("1-5", "9"), "code 1-5 9 * * *", "code 1-5 9 * * *"),
        ({"kind": "solar", "event": "sunset", "lat": 1.0, "lon": 2.0}, "at sunset", "на закате солнца"),
        ({"kind": "other", "text": "when it likes"}, "code when it likes", "code when it likes"),
    ],
)
def test_when_is_told_in_words(modules: Page, schedule: dict[str, Any], english: str, russian: str) -> None:
    """Those that people use; anything else is told as it was written."""
    assert modules.evaluate(WORDS, ["en", schedule]) == english
    assert modules.evaluate(WORDS, ["ru", schedule]) == russian


def test_a_failure_and_a_miss_are_never_lost_in_a_band(modules: Page) -> None:
    """Times too close to be told apart are one band, up to the end where the server tells a part of them."""
    script = """
    async () => {
      const { timeline, missedNow, beatOf } = await import("/schedule.js");
      const now = Date.UTC(2026, 0, 1, 12);
      const at = (minutes) => new Date(now + minutes * 60_000).toISOString();
      const runs = Array.from({ length: 60 }, (_, minute) =>
        ({ at: at(minute - 60), task_id: `t${minute}`, status: minute === 30 ? "failed" : "completed" }));
      const { bands, ticks } = timeline({ runs, due: [at(60), at(720)], missed: [at(-200)] }, now);
      const beats = (...states) => beatOf({ beats: states.map((state) => ({ state })) }).kind;
      return [
        bands.map(({ from, to, isAhead }) => [from, Math.round(to * 100), isAhead]),
        ticks.map(({ kind, status, taskId }) => [kind, status, taskId]),
        missedNow({ missed: [at(-5)], last_run: { at: at(-1) } }),
        missedNow({ missed: [at(-5)], last_run: null }) === at(-5),
        [beats(), beats("alive"), beats("alive", "alive", "stopped"), beats("silent"), beats("stopped")],
      ];
    }
    """
    assert modules.evaluate(script) == [
        [[0, 50, False]],
        [["missed", None, None], ["run", "failed", "t30"], ["due", None, None], ["due", None, None]],
        None,
        True,
        ["none", "alive", "several", "silent", "stopped"],
    ]


def test_the_schedule_is_a_page(page: Page, narrator: Narrator, sidecar: LocalSidecar, database: str) -> None:
    """A run leads to its task; what was missed is said, and so is a beat that has gone."""
    page.goto(f"{sidecar.url}/#/schedule")
    schedule = page.locator("#schedule-page")
    expect(schedule.locator(".page__empty")).to_contain_text("No celery beat")
    narrator.sent("s-1", "shop.sweep", ago=60)
    narrator.started("s-1", ago=59)
    narrator.failed("s-1", ago=58)
    store = Store(database)
    store.connect()
    beat_id = tell(
        store,
        entry("sweep", "shop.sweep", crontab("0", "*/4"), -60, -60 + 4 * HOUR, arguments={"args": [2**60 + 1]}),
        entry("close", "shop.close", crontab("0", "2"), -9 * HOUR, -2 * HOUR, 22 * HOUR),
        runs=[{"name": "sweep", "at": time.time() - 60, "task_id": "s-1"}],
    )
    with psycopg.connect(database, autocommit=True) as connection:  # for the whole test, however long that takes
        connection.execute("UPDATE oracle.beat SET beat_at = now() + interval '1 hour'")
    rows = schedule.locator("tbody tr")
    expect(rows).to_have_count(2, timeout=LOOK_PATIENCE_MS)  # it is read every few seconds
    expect(schedule.locator(".page__summary")).to_have_text("2 entries, 1 missed its time")
    expect(schedule.locator(".schedule__beat")).to_contain_text("Beat is alive")
    close, sweep = rows.nth(0), rows.nth(1)
    expect(close).to_contain_text("daily at 02:00")
    expect(close.locator(".schedule-row__last")).to_contain_text("missed at")
    expect(close.locator('[data-kind="missed"].schedule-line__tick')).to_have_count(1)
    expect(sweep).to_contain_text("every 4 h")
    expect(sweep).to_contain_text("1152921504606846977")
    expect(sweep.locator('[data-status="failed"].schedule-line__tick')).to_have_count(1)
    expect(sweep.locator(".schedule-row__next")).to_contain_text(":")
    store.retire_beat(beat_id)
    expect(schedule.locator(".schedule__beat")).to_contain_text("Beat was stopped at", timeout=LOOK_PATIENCE_MS)
    expect(sweep.locator(".schedule-row__next")).to_have_text("–")
    store.close()
    sweep.locator(".schedule-row__last a").click()
    expect(page.locator(".task-detail__id code")).to_have_text("s-1")


def entry(name: str, task: str, schedule: dict[str, str], last: float, *due: float, **fields: Any) -> dict[str, Any]:
    now = time.time()
    told = {"name": name, "task": task, "schedule": schedule, "zone": "UTC", "arguments": None, "queue": None}
    return told | {"last_run_at": now + last, "total_runs": 3, "due": [now + at for at in due]} | fields


def tell(store: Store, *entries: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """What a beat would; returns its id."""
    beat_id = str(uuid.uuid4())
    store.report_beat(
        BeatReport(
            beat_id=beat_id,
            origin="7@shop-beat",
            node=None,
            scheduler="PersistentScheduler",
            names=tuple(one["name"] for one in entries),
            entries=msgspec.json.encode(list(entries)),
            runs=msgspec.json.encode(runs),
        )
    )
    return beat_id
