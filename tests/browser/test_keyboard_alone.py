"""A person without a pointer runs the shop: everything that changes something, by keys alone, with a real worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.acceptance.station import Station
from tests.browser.second_keys import hold_second_key_time
from tests.local_processes import LocalSidecar
from tests.tokens import TOKEN_SETTINGS

QUEUE = "signals"
LONG = 300.0  # seconds that a task would run
WORKER_MS = 60_000  # until a worker has done what it was asked
SETTINGS = {
    "oracle_cancel_grace": 1.0,
    "oracle_worker_timeout": 30.0,  # a worker that had to wait for a processor is not lost
    **TOKEN_SETTINGS,
}
STEPS = 60  # rows that are walked over at most

WORDS = {
    "English": ("Cancelled", "Sent again, as a new task:", "Pause {}", "Resume {}", "confirmed", "consuming"),
    "Русский": (
        "Отменена",
        "Отправлена снова, новая задача:",
        "Приостановить {}",
        "Возобновить {}",
        "подтвердил",
        "слушает",
    ),
}


@pytest.fixture
def station(rabbitmq_url: str, database: str, tmp_path: Path) -> Iterator[Station]:
    """With a prefork worker."""
    made = Station(rabbitmq_url, database, tmp_path)
    made.environment["SIGNALS_SETTINGS"] = json.dumps(SETTINGS)
    yield made
    made.stop()


@pytest.fixture
def sidecar(station: Station) -> LocalSidecar:
    """Of the station's app, for the page."""
    sidecar = station.start_sidecar()
    station.start_worker()
    return sidecar


def test_the_shop_is_run_by_keys_alone(station: Station, open_page: Callable[..., Page], sidecar: LocalSidecar) -> None:
    """A running task is cancelled, a failed one retried, a queue paused and resumed; in both languages."""
    page = open_page(sidecar.url)
    page.locator('.connection[data-connection="live"]').wait_for()
    hold_second_key_time(page)
    for language, words in WORDS.items():
        running, failed = station.send("sleep", LONG), station.send("fail")
        expect(_row(page, running).locator('[href="#status-in_progress"]')).to_be_visible(timeout=WORKER_MS)
        expect(_row(page, failed).locator('[href="#status-failed"]')).to_be_visible(timeout=WORKER_MS)
        _choose(page, language, language)
        cancelled, sent_again, pause, resume, confirmed, consuming = words

        _open(page, running)
        _command(page, "c", "#cancel-dialog", asks=language == "English")
        expect(page.locator(".task-detail__status strong")).to_have_text(cancelled, timeout=WORKER_MS)
        page.keyboard.press("Escape")
        expect(page.locator(".task-detail")).to_be_hidden()

        _open(page, failed)
        _command(page, "r", "#retry-dialog", asks=language == "English")
        expect(page.locator(".task-control__notice")).to_contain_text(sent_again, timeout=WORKER_MS)
        page.keyboard.press("Escape")
        expect(page.locator(".task-detail")).to_be_hidden()

        page.keyboard.press("g")
        page.keyboard.press("q")
        worker = page.locator(".queue-card").filter(has_text=QUEUE).locator(".queue-card__workers li")
        expect(worker).to_be_visible(timeout=WORKER_MS)  # what is not known when the palette opens is not offered there
        for wanted, state in ((pause, confirmed), (resume, consuming)):
            _choose(page, wanted.format(QUEUE), wanted.format(QUEUE))
            _confirm(page, "#queue-dialog")
            expect(worker).to_contain_text(state, timeout=WORKER_MS)
        page.keyboard.press("g")
        page.keyboard.press("t")
        expect(page.locator("#task-list")).to_be_visible()


def _row(page: Page, task_id: str) -> Locator:
    return page.locator(f'[data-task-id="{task_id}"]')


def _open(page: Page, task_id: str) -> None:
    """Walks up and then down the list, and opens the task."""
    for _ in range(STEPS):
        page.keyboard.press("k")
    for _ in range(STEPS):
        if page.evaluate("document.activeElement.closest('[data-task-id]')?.dataset.taskId") == task_id:
            break
        page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator(".task-detail__id code")).to_have_text(task_id)


def _command(page: Page, key: str, dialog: str, *, asks: bool) -> None:
    """At once, or with Shift by the dialog that takes a reason."""
    expect(page.locator("[data-command]:visible").first).to_be_visible()
    page.keyboard.press(key.upper() if asks else key)
    if asks:
        _confirm(page, dialog)


def _confirm(page: Page, dialog: str) -> None:
    """The harmless button has the focus; the one that does it comes after it."""
    expect(page.locator(f"{dialog} [data-dismiss]")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator(f"{dialog} [type=submit]")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(dialog)).to_be_hidden(timeout=WORKER_MS)


def _choose(page: Page, text: str, expected: str) -> None:
    page.keyboard.press("Control+k")
    page.keyboard.type(text)
    expect(page.locator('#palette [aria-selected="true"] .palette__text')).to_have_text(expected)
    page.keyboard.press("Enter")
    expect(page.locator("#palette")).to_be_hidden()
