"""The header on the real page: its charts are of what happened, and a brushed part of them is the list's time range."""

# ruff: noqa: RUF001  # minus signs are what is tested

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs

import psycopg
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.folds import wait_for_types
from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar
from tests.polling import eventually

MINUTE = 60


@pytest.fixture
def shop(narrator: Narrator, database: str) -> None:
    """Tasks over the last hour, three long ago, failures of late; a worker, and what happened yesterday."""
    for number in range(3):
        _life(narrator, f"old-{number}", ago=45 * MINUTE)
    for number in range(2):
        _life(narrator, f"bad-{number}", ago=10 * MINUTE, fails=True)
    narrator.sent("waiting")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO oracle.worker"
            " (worker_id, node, origin, pool, concurrency, queues, versions, started_at, beat_at) VALUES"
            " (gen_random_uuid(), 'celery@one', '1@one', 'prefork', 8, '{}', '{}', now(), now() + interval '1 hour')"
        )
        connection.execute(  # yesterday every second task failed
            "INSERT INTO oracle.statistic_delta (minute, runtime, tasks, timed, status, user_id, name, queue)"
            " SELECT date_bin('1 minute', now(), 'epoch') - interval '30 hours', 10, 10, 10, status, 'anna', 'x', 'q'"
            " FROM (VALUES (2), (3)) AS s (status)"
        )


def _life(narrator: Narrator, task_id: str, *, ago: float, fails: bool = False, name: str = "shop.pay") -> None:
    narrator.sent(task_id, name, ago=ago + 2)
    narrator.started(task_id, ago=ago + 1)
    (narrator.failed if fails else narrator.completed)(task_id, ago=ago, runtime=1.0)


@pytest.mark.usefixtures("shop")
def test_the_charts_are_of_what_happened(page: Page, narrator: Narrator) -> None:
    """Numbers, notes, lines and bars against known rows; what finishes now is there without another reading."""
    failure = page.locator('[data-metric="failure"]')
    expect(failure.locator(".metric__value")).to_have_text("40.0")
    expect(failure.locator(".metric__note")).to_have_text("−10.00")
    expect(failure.locator(".metric__note")).to_have_attribute("title", re.compile(r"2 of 5; .*50.0"))
    expect(page.locator('[data-metric="active"] .metric__note')).to_have_text("of 8 slots")
    expect(page.locator('[data-metric="queued"] .spark__line')).to_have_attribute("d", re.compile("^M"))
    expect(page.locator('[data-metric="runtime"] .spark__line')).to_have_attribute("d", re.compile("M.*M"))
    _choose(page, "1 h")
    expect(page.locator(".throughput__finished")).to_have_attribute("d", re.compile(r"^M[^M]+M[^M]+$"))
    expect(page.locator(".throughput__failed")).to_have_attribute("d", re.compile(r"^M[^M]+$"))
    _expect_table(page, (5, 2))
    for wanted, text in (("7 d", "per hour"), ("30 d", "per 4 h"), ("24 h", "per 5 min")):
        _choose(page, wanted)
        expect(page.locator(".throughput__per")).to_have_text(text)
        _expect_table(page, (25, 12) if wanted in ("7 d", "30 d") else (5, 2))
    bars = page.locator(".throughput__finished")
    before = bars.get_attribute("d") or ""
    narrator.started("waiting")
    narrator.completed("waiting")
    expect(bars).not_to_have_attribute("d", before)
    expect(page.locator('[data-metric="queued"] .metric__value')).to_have_text("0")


@pytest.mark.usefixtures("shop")
def test_a_brushed_part_is_the_lists_time_range(page: Page) -> None:
    """By mouse and by keyboard; the address says it, and what changes the address moves the brush."""
    _choose(page, "1 h")
    _expect_ids(page, ["waiting", "bad-1", "bad-0", "old-2", "old-1", "old-0"])
    box = page.locator(".throughput__plot").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.05, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, middle, steps=4)
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=4)
    page.mouse.up()
    _expect_ids(page, ["old-2", "old-1", "old-0"])
    assert re.fullmatch(r"created:\S+T\S+Z\.\.\S+T\S+Z", _query(page))
    brushed = page.url
    start, end = _handle(page, "from"), _handle(page, "to")
    expect(start).to_have_attribute("aria-valuenow", re.compile("^[123]$"))  # a minute may pass
    expect(end).to_have_attribute("aria-valuenow", re.compile("^(30|29|28)$"))
    expect(end).to_have_attribute("aria-valuetext", re.compile(r"\d\d:\d\d"))
    end.focus()
    page.keyboard.press("End")
    expect(end).to_have_attribute("aria-valuetext", "now")
    _expect_ids(page, ["waiting", "bad-1", "bad-0", "old-2", "old-1", "old-0"])
    assert re.fullmatch(r"created:\S+Z\.\.", _query(page))
    start.focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    page.keyboard.press("ArrowRight")
    expect(start).to_have_attribute("aria-valuenow", re.compile("^(40|39|38|37)$"))
    _expect_ids(page, ["waiting", "bad-1", "bad-0"])
    page.keyboard.press("Delete")
    _expect_ids(page, ["waiting", "bad-1", "bad-0", "old-2", "old-1", "old-0"])
    assert _query(page) == ""
    expect(page.locator(".throughput__plot.is-brushed")).to_have_count(0)
    page.goto(brushed)
    _choose(page, "1 h")
    expect(end).not_to_have_attribute("aria-valuetext", "now")
    expect(page.locator(".throughput__plot.is-brushed")).to_have_count(1)
    page.go_back()
    expect(page.locator(".throughput__plot.is-brushed")).to_have_count(0)


def test_task_types_are_compared_and_lead_to_their_tasks(page: Page, sidecar: LocalSidecar, narrator: Narrator) -> None:
    """Counts, failures, percentiles from the histogram; sorted and filtered in the address; a name leads to all tasks
    that were counted, whatever the list was filtered by."""
    for number in range(4):
        _life(narrator, f"p-{number}", ago=5 * MINUTE, fails=number == 0, name="shop.orders.pay")
    _life(narrator, "m-0", ago=5 * MINUTE, name="shop.mail")
    wait_for_types(sidecar, 2)
    page.locator("#bar").get_by_role("link", name="Task types").click()
    rows = page.locator("#types-page tbody tr")
    expect(rows).to_have_count(2)
    expect(page.locator("#types-page .page__summary")).to_have_text("24 hours, 2 kinds of task")
    first = rows.nth(0)
    expect(first.locator("th")).to_have_text("shop.orders.pay")
    expect(first.locator("td").nth(1)).to_have_text("4")
    expect(first.locator(".type-row__failure span")).to_have_text("25.0\u00a0%")
    expect(first.locator("td").nth(0)).to_have_text("0.4")
    expect(first.locator(".spark__line")).to_have_attribute("d", re.compile("^M"))
    expect(first.locator("td").nth(6)).to_have_text(re.compile(r"^(9\d\d\u00a0ms|1\.0\d\u00a0s)$"))
    expect(first.locator("circle")).to_have_count(4)
    page.get_by_role("button", name="Task name").click()
    expect(rows.nth(0).locator("th")).to_have_text("shop.mail")
    expect(page).to_have_url(re.compile(r"#/types\?sort=name$"))
    page.locator("#types-page input").fill("ORDERS")
    expect(rows).to_have_count(1)
    page.evaluate("history.replaceState(null, '', '?q=status%3Afailed' + location.hash)")
    page.reload()
    expect(page.locator("#types-page input")).to_have_value("ORDERS")
    rows.locator("th button").click()
    _expect_ids(page, ["p-3", "p-2", "p-1", "p-0"], is_ordered=False)
    assert _query(page) == "name:shop.orders.pay"
    expect(page.locator("#types-page")).to_be_hidden()


def _choose(page: Page, words: str) -> None:
    page.get_by_role("button", name=words, exact=True).click()
    expect(page.get_by_role("button", name=words, exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".throughput tbody tr").first).to_be_attached()


def _expect_table(page: Page, sums: tuple[int, int]) -> None:
    """Finished and failed tasks of the table that is read by ear; a moment before it is that of another range."""

    def look() -> bool:
        cells = [text.split("\t") for text in page.locator(".throughput tbody tr").all_inner_texts()]
        return (sum(int(row[1]) for row in cells), sum(int(row[2]) for row in cells)) == sums

    eventually(look, f"the table has {sums}")


def _handle(page: Page, end: str) -> Locator:
    return page.locator(f'.brush__handle[data-end="{end}"]')


def _query(page: Page) -> str:
    """By the page's own word: Playwright's may be of a moment before."""
    search: str = page.evaluate("location.search")
    return parse_qs(search.removeprefix("?")).get("q", [""])[0]


def _expect_ids(page: Page, ids: list[str], *, is_ordered: bool = True) -> None:
    expect(page.locator(".task-row")).to_have_count(len(ids))
    for place, task_id in enumerate(ids):
        row = page.locator(".task-row").nth(place) if is_ordered else page.locator(f'[data-task-id="{task_id}"]')
        expect(row).to_have_attribute("data-task-id", task_id)


@pytest.mark.usefixtures("shop")
def test_gaps_are_told_until_they_are_dismissed(page: Page, narrator: Narrator, database: str) -> None:
    """What workers had no room for, and what PostgreSQL refused: on every page, and again when there is more."""
    notice = page.locator("#gap-notice")
    expect(page.locator('[data-metric="active"] .metric__note')).to_have_text("of 8 slots")
    expect(notice).to_be_hidden()
    _count(database, dropped=1_234)
    narrator.sent("news")
    expect(notice).to_have_text(re.compile("^1,234 records were dropped: .*oracle_journal_quota"))
    page.evaluate("location.hash = '#workers'")
    expect(notice).to_be_visible()
    notice.get_by_role("button", name="Dismiss").click()
    expect(notice).to_be_hidden()
    _count(database, dropped=1_234, quarantined=1)
    narrator.sent("more news")
    expect(notice).to_have_text(re.compile(r"1,234 records were dropped.* 1 record was refused .*quarantine\.jsonl"))


def _count(database: str, **counts: int) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE oracle.worker SET counts = %s", [json.dumps(counts)])
