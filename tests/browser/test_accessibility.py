"""axe finds nothing serious on any page or in any state of one: both themes, both languages, on a desk and on a phone.

The pages are those of route.js. A page that is new there has to say in `PAGES` what shows that its content has come.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from oracle_celery.states import Status
from tests.browser.crew import MINUTE_NS, Crew
from tests.browser.filtering import type_query
from tests.browser.folds import wait_for_failures
from tests.browser.narrator import Narrator
from tests.control_commands import Archive
from tests.factories import Feeder, transition
from tests.local_processes import LocalSidecar

#: Of every page: what is there once its content is.
PAGES = {
    "tasks": ".task-row >> nth=3",
    "failures": ".failure",
    "types": "#types-page tbody tr",
    "queues": ".queue-card >> nth=1",
    "workers": ".worker-row >> nth=3",
    "schedule": "#schedule-page tbody tr",
    "bulk": "#bulks-page tbody tr",
    "audit": "#audit-page tbody tr",
}
CONTENT_MS = 30_000  # the leader folds failures and types in its own time
BLOCKING = ("serious", "critical")
#: What stands in the way of somebody, as one line each.
RUN_AXE = """
async ([levels, within]) => {
  const { violations } = await axe.run(within, { resultTypes: ["violations"], elementRef: false });
  return violations.filter(({ impact }) => levels.includes(impact))
    .flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(" ")} ${node.any[0]?.message ?? ""}`));
}
"""
#: What fades in would be looked at half faded, whenever it begins: with this nothing moves, and all else is the same.
STILL = {"reduced_motion": "reduce"}
OPEN_DETAILS = "(all) => all.forEach((one) => (one.open ||= one.checkVisibility()))"
CRONTAB_FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
BULK_ID = str(uuid.UUID(int=7))


class Look(NamedTuple):
    word: str
    options: dict[str, Any]


LOOKS = (
    Look("light, English", {}),
    Look("dark, Russian", {"color_scheme": "dark", "locale": "ru-RU"}),
    Look("on a phone, Russian", {"locale": "ru-RU", "viewport": {"width": 380, "height": 800}, "has_touch": True}),
)


class Inspector:
    """Walks over a page and notes what axe says of each place."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.found: list[str] = []
        self.places: list[str] = []

    def check(self, place: str, within: str = "html") -> None:
        """`within`: what is new there."""
        assert place not in self.places
        self.places.append(place)
        if self.page.evaluate("typeof axe") == "undefined":
            self.page.evaluate(AXE_SCRIPT)
        self.found += [f"{place}: {line}" for line in self.page.evaluate(RUN_AXE, [BLOCKING, within])]

    def go(self, place: str) -> None:
        self.page.evaluate("place => (location.hash = `#/${place}`)", place)


@pytest.fixture
def shop(database: str, narrator: Narrator, sidecar: LocalSidecar) -> None:
    """Something of everything: tasks of every status, a paused queue, one that nobody consumes, workers of every kind,
    an action on many, and what was done."""
    narrator.sent("pending-1", ago=60, queue="emails", user_id=None)
    narrator.sent("lonely-1", ago=50, queue="lonely")
    for number, task_id in enumerate(("running-1", "completed-1", "failed-1", "failed-2", "cancelled-1")):
        narrator.sent(task_id, ago=40 - number)
        narrator.started(task_id, ago=30 - number)
    narrator.completed("completed-1", {"url": "https://example.org/a", "items": [1, None, True, "text"]}, ago=20)
    narrator.failed("failed-1", ago=19)
    narrator.failed("failed-2", ago=18)
    narrator.kept("failed-1")
    with Feeder(database) as feeder:
        at = time.monotonic_ns() - 2 * MINUTE_NS
        feeder.tell(transition("cancelled-2", Status.CANCELLED, reason="revoked", at=at, name="a.b", queue="emails"))
    crew = Crew(database)
    busy = crew.worker("celery@a", "default", "emails")
    crew.runs("celery@a", busy, "anna", "bob")
    crew.worker("celery@b", "emails", celery="5.6.2", consuming="'{}'")
    crew.worker("celery@c", "default", beat_at="now() - interval '40 seconds'")
    crew.worker("celery@d", "default", lost_at="now()", lost_tasks="2")
    crew.worker("celery@e", "default", stopped_at="now() - interval '1 hour'")
    crew.close()
    with Archive(database) as archive:
        archive.run(
            "WITH entry AS (INSERT INTO oracle.audit_entry (actor, is_admin, via, action, queues, reason)"
            " VALUES ('anna', true, 'http', 'pause', '{emails}', 'the provider is down') RETURNING entry_id)"
            " INSERT INTO oracle.queue_pause (queue, seq, is_paused, changed_at, changed_by, entry_id, reason)"
            " SELECT 'emails', nextval('oracle.control_seq'), true, now(), 'anna', entry_id, 'the provider is down'"
            " FROM entry"
        )
        archive.run(
            "WITH beat AS (INSERT INTO oracle.beat (beat_id, origin, node, scheduler, started_at, beat_at)"
            " VALUES (gen_random_uuid(), '1@host', NULL, 'x', now(), now()) RETURNING beat_id)"
            " INSERT INTO oracle.schedule_entry"
            " (name, beat_id, task, schedule, zone, arguments, queue, total_runs, due)"
            " SELECT 'sweep', beat_id, 'shop.sweep', %s, 'UTC', '{}', 'default', 3,"
            " ARRAY[now() - interval '1 hour', now() + interval '1 hour'] FROM beat",
            json.dumps({"kind": "crontab"} | dict.fromkeys(CRONTAB_FIELDS, "*")),
        )
        archive.run(
            "INSERT INTO oracle.schedule_run (name, ran_at, task_id) VALUES ('sweep', now() - interval '2 hours', %s)",
            "failed-1",
        )
        archive.run(
            "INSERT INTO oracle.bulk (bulk_id, action, entry_id, actor, is_admin, via, options, total, done, outcomes,"
            " created_at, finished_at) VALUES (%s, 'retry', 0, 'anna', true, 'http', %s, 2, 2, %s, now(), now())",
            BULK_ID,
            json.dumps({"include_cancelled": False, "force": False, "reason": "again"}),
            json.dumps({"sent": 1, "no_message": 1}),
        )
        archive.run(
            "INSERT INTO oracle.bulk_item (bulk_id, number, task_id, outcome, detail, new_id)"
            " VALUES (%s, 1, 'failed-1', 'sent', NULL, 'failed-1b'), (%s, 2, 'failed-2', 'no_message', 'none', NULL)",
            BULK_ID,
            BULK_ID,
        )
    wait_for_failures(sidecar, 1)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.word)
def test_nothing_stands_in_anybodys_way(look: Look, sidecar: LocalSidecar, open_page: Callable[..., Page]) -> None:
    """Nothing serious, nothing critical."""
    page = open_page(sidecar.url, **STILL, **look.options)
    page.locator('.connection[data-connection="live"]').wait_for()
    inspector = Inspector(page)
    _check_pages(inspector)
    _check_list(inspector)
    _check_tasks(inspector)
    _check_dialogs(inspector)
    page.locator("#logout-button").click()
    expect(page.locator("#login")).to_be_visible()
    inspector.check("login")
    page.get_by_role("textbox").fill("no token")
    page.keyboard.press("Enter")
    expect(page.locator(".login__problem")).to_be_visible()
    inspector.check("login refused")
    assert not inspector.found, "\n".join(inspector.found)


def test_an_empty_page_and_a_lost_connection(sidecar: LocalSidecar, open_page: Callable[..., Page]) -> None:
    """Where there is nothing yet, for somebody who sees their own tasks alone; and when nobody answers any more. The
    badge says why."""
    page = open_page(sidecar.url, user="anna", role=None, color_scheme="dark", **STILL)
    page.locator('.connection[data-connection="live"]').wait_for()
    inspector = Inspector(page)
    for place in page.evaluate(PAGES_OF, False):
        inspector.go(place)
        page.wait_for_timeout(100)
        inspector.check(f"empty {place}")
    badge = page.locator(".connection")
    badge.focus()
    expect(badge.locator(".connection__reason")).to_have_css("opacity", "1")
    expect(badge).to_contain_text("Every change appears here as it is committed.")
    inspector.check("connection")
    sidecar.stop()
    expect(page.locator('.connection[data-connection="reconnecting"]')).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="The server does not answer")).to_be_visible()
    inspector.check("disconnected")
    assert not inspector.found, "\n".join(inspector.found)


PAGES_OF = """
async (seesAll) => {
  const main = document.querySelector('script[type="module"]').src;
  return (await import(main.replace("main.js", "route.js"))).pagesFor(seesAll);
}
"""


def _check_pages(inspector: Inspector) -> None:
    page = inspector.page
    listed = page.evaluate(PAGES_OF, True)
    assert set(listed) == set(PAGES), "say in PAGES what shows that the new page's content has come"
    for place in listed:
        inspector.go(place)
        expect(page.locator(PAGES[place]).first).to_be_visible(timeout=CONTENT_MS)
        inspector.check(place)
    inspector.go("workers")
    page.locator(".worker-row__toggle").first.click()
    page.locator(".workers__fold").click()
    inspector.check("workers, opened", "#workers-page")
    inspector.go("failures")
    page.locator(".failure__what").first.click()
    expect(page.locator(".failure-tasks li").first).to_be_visible()
    inspector.check("one failure", "#failures-page")
    inspector.go(f"bulk/{BULK_ID}")
    expect(page.locator("#bulk-page tbody tr")).to_have_count(2)
    inspector.check("one bulk action", "#bulk-page")


def _check_list(inspector: Inspector) -> None:
    page = inspector.page
    inspector.go("tasks")
    page.locator("#column-chooser button").first.evaluate("button => button.click()")
    inspector.check("columns", "#column-chooser")
    page.keyboard.press("Escape")
    page.locator(".saved-views button").first.click()
    expect(page.locator(".saved-views__panel")).to_be_visible()
    inspector.check("saved views", "#filters")
    page.keyboard.press("Escape")
    query = page.locator('#filters [name="q"]')
    query.fill("status:c")
    expect(page.locator(".query__options")).to_be_visible()
    inspector.check("completion", "#filters")
    type_query(page, "user:nobody colour:blue")
    expect(page.locator(".task-list__empty-title")).to_be_visible()
    inspector.check("nothing matches", "#task-list")
    page.locator(".filters__clear").click()
    expect(page.locator(".task-row").first).to_be_visible()


def _check_tasks(inspector: Inspector) -> None:
    page = inspector.page
    for task_id in ("pending-1", "running-1", "completed-1", "failed-1", "cancelled-2", "missing-1"):
        inspector.go(f"tasks/{task_id}")
        expect(page.locator(".task-detail__id code")).to_have_text(task_id)
        expect(page.locator('.task-detail[aria-busy="false"]')).to_be_visible()
        page.locator(".task-detail details").evaluate_all(OPEN_DETAILS)
        inspector.check(f"the task {task_id}", "#task-detail")


def _check_dialogs(inspector: Inspector) -> None:
    page = inspector.page

    def ask(event: str, selector: str, **detail: Any) -> None:
        page.evaluate("([type, detail]) => document.dispatchEvent(new CustomEvent(type, { detail }))", [event, detail])
        expect(page.locator(selector)).to_be_visible()
        page.locator(f"{selector} details").evaluate_all(OPEN_DETAILS)
        inspector.check(selector, selector)
        page.keyboard.press("Escape")
        expect(page.locator(selector)).to_be_hidden()

    inspector.go("tasks/failed-1")
    expect(page.locator('[data-command="retryTask"]')).to_be_visible()
    ask("askRetry", "#retry-dialog")
    inspector.go("tasks/pending-1")
    expect(page.locator('[data-command="cancelTask"]')).to_be_visible()
    ask("askCancel", "#cancel-dialog")
    ask("showPalette", "#palette")
    ask("showKeys", "#key-help")
    ask("pauseQueue", "#queue-dialog", queue="lonely")
    inspector.go("tasks")
    page.evaluate("document.querySelectorAll('.task-row .tick').forEach((tick) => tick.click())")
    expect(page.locator("#selection-bar > div")).to_be_visible()
    inspector.check("selection", "#task-list")
    ask("commandMany", "#bulk-dialog", action="cancel")
    page.keyboard.press("Escape")
