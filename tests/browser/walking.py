"""A shop with everything real behind its page, and the hands of the person who walks over it.

The stage has RabbitMQ, PostgreSQL, a prefork worker, a sidecar and one page in one language. Its steps share it and
send their own tasks, each for a user of its own, so that any of them may be walked alone.
"""

from __future__ import annotations

import json
import re
import urllib.parse
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.acceptance.station import Station
from tests.browser.complaints import note_complaints
from tests.browser.filtering import query_field
from tests.browser.logins import log_in
from tests.browser.words import Words
from tests.local_processes import LocalSidecar
from tests.polling import eventually
from tests.tokens import TOKEN_SETTINGS, token

__all__ = ["EMAILS", "ENVIRONMENT", "NOBODYS", "SIGNALS", "TRACE_ID", "WORKER_MS", "Stage", "lines_of"]

#: Queues of the worker, and one that no worker consumes.
SIGNALS, EMAILS, NOBODYS = "signals", "emails", "nobodys"
ENVIRONMENT = "walk"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
#: Until a worker has done what it was asked, and its facts are on the page.
WORKER_MS = 60_000
SCHEDULE = {
    "often": {"task": "signals.succeed", "schedule": 1.0, "args": ["on time"], "options": {"queue": SIGNALS}},
    "rarely": {"task": "signals.succeed", "schedule": 86_400.0},
}
SETTINGS = {
    "oracle_cancel_grace": 30.0,  # tasks of the walk tidy up, however busy the machine is
    "oracle_worker_timeout": 10.0,  # and a worker that had to wait for a processor is not lost
    "oracle_environment": ENVIRONMENT,
    "oracle_environment_color": "blue",
    "oracle_trace_url": "https://traces.example/{trace_id}",
    "beat_schedule": SCHEDULE,
    **TOKEN_SETTINGS,
}


class Stage:
    """Everything runs once it is made."""

    def __init__(self, language: str, broker: str, database: str, folder: Path, context: BrowserContext) -> None:
        self.language = language
        self.word = Words(language)
        self.station = Station(broker, database, folder)
        self.station.environment["SIGNALS_SETTINGS"] = json.dumps(SETTINGS)
        self.sidecar: LocalSidecar = self.station.start_sidecar()
        self.worker = self.station.start_worker(queues=[SIGNALS, EMAILS])
        self.complaints: list[str] = []
        self.context = context
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=self.sidecar.url)
        log_in(context, self.sidecar, token("local", "admin"))
        self.page = self.new_page()

    def new_page(self) -> Page:
        """A further tab of the same browser, live."""
        page = self.context.new_page()
        note_complaints(page, self.complaints)
        page.goto(self.sidecar.url)
        self.wait_until_live(page)
        return page

    def wait_until_live(self, page: Page | None = None) -> None:
        badge = (page or self.page).locator(".connection__word")
        expect(badge).to_have_text(self.word("connection.live"), timeout=WORKER_MS)

    # -- what the shop does --------------------------------------------------------------------------------------

    def send(self, name: str, *args: Any, user: str, **options: Any) -> str:
        """Sends ``signals.<name>`` for a user and returns the task's id."""
        headers = {"user_id": user} | options.pop("headers", {})
        return self.station.send(name, *args, headers=headers, **options)

    def witness(self) -> Path:
        """A file that tasks write to, or wait for."""
        return self.station.folder / uuid.uuid4().hex

    def ask(self, path: str) -> Any:
        """What the API answers."""
        return self.page.request.get(f"{self.sidecar.url}{path}").json()

    def task(self, task_id: str) -> Any:
        """Its row, as the API has it."""
        return self.ask(f"/api/tasks/{task_id}")["task"]

    def wait_for(self, task_id: str, *statuses: str) -> Any:
        """The row once it has one of these statuses."""

        def look() -> Any:
            answer = self.ask(f"/api/tasks/{task_id}")
            return answer["task"] if answer.get("task", {}).get("status") in statuses else None

        return eventually(look, f"{task_id} is {' or '.join(statuses)}")

    def hold(self, action: str, queue: str) -> None:
        """Pauses or resumes without the page, and waits until the worker has done so."""
        answer = self.page.request.post(f"{self.sidecar.url}/api/admin/queue/{action}", data={"queue": queue})
        assert answer.ok, answer.text()
        wanted = action == "pause"

        def look() -> bool:
            [found] = [one for one in self.ask("/api/queues")["queues"] if one["name"] == queue]
            living = [one["is_consuming"] for one in found["workers"] if one["state"] == "alive"]
            return bool(found["paused"]) is wanted and living == [not wanted]

        eventually(look, f"the worker has confirmed {action}")

    def resume_all(self) -> None:
        """Whatever a step that failed has left paused."""
        told = self.ask("/api/queues")
        paused = [one["name"] for one in told["queues"] if one["paused"] and not one["paused"]["everything"]]
        for queue in paused:
            self.hold("resume", queue)
        if any(one["paused"] and one["paused"]["everything"] for one in told["queues"]):
            self.page.request.post(f"{self.sidecar.url}/api/admin/queue/resume", data={"queue": "*"})

    # -- what the person does ------------------------------------------------------------------------------------

    def home(self, q: str = "") -> None:
        """The list, newest first, filtered by a query; the pointer rests on nothing."""
        self.page.mouse.move(5, 5)
        query = f"?q={urllib.parse.quote(q)}" if q else ""
        self.page.goto(f"{self.sidecar.url}/{query}")
        self.wait_until_live()

    def visit(self, page: str) -> Locator:
        """A further page, by its link."""
        self.page.locator(f'#bar [data-navigation] [href="#/{page}"]').click()
        shown = self.page.locator(f"#{page}-page")
        expect(shown.locator("h2")).to_have_text(self.word(f"page.{page}"))
        self.page.mouse.move(5, 5)
        return shown

    def open(self, task_id: str) -> Locator:
        """The task's own address."""
        self.page.evaluate("hash => { location.hash = hash; }", f"#/tasks/{task_id}")
        detail = self.page.locator(".task-detail")
        expect(detail.locator(".task-detail__id code")).to_have_text(task_id)
        expect(detail.locator(".state-line").first).to_be_visible()
        return detail

    def ask_for(self, text: str) -> None:
        """Types a query in place of the one before."""
        field = query_field(self.page)
        clear = self.page.locator(".filters__clear")
        if clear.is_visible():
            clear.click()
        field.fill(text)
        field.press("Enter")
        self.page.mouse.move(5, 5)

    def row(self, task_id: str) -> Locator:
        return self.page.locator(f'.task-row[data-task-id="{task_id}"]')

    def rows(self) -> list[str]:
        """Task ids from top to bottom, by the numbers that the rows tell: in the document they may stand otherwise."""
        seen: list[list[str]] = self.page.locator(".task-row").evaluate_all(
            "rows => rows.map((row) => [row.getAttribute('aria-rowindex'), row.dataset.taskId])"
        )
        return [task_id for _, task_id in sorted(seen, key=lambda one: int(one[0] or 0))]

    def expect_rows(self, ids: set[str], what: str = "the list is right") -> None:
        """Exactly these, in any order."""
        seen: list[str] = []

        def look() -> bool:
            seen[:] = self.rows()
            return len(seen) == len(ids) and set(seen) == ids

        try:
            eventually(look, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: there are {seen} instead of {sorted(ids)}") from None

    def expect_status(self, task_id: str, status: str) -> None:
        """In the list: as a word and as a shape."""
        row = self.row(task_id)
        expect(row.locator(".status-word")).to_have_text(self.word(f"status.{status}"), timeout=WORKER_MS)
        expect(row.locator(f'[href="#status-{status}"]')).to_be_visible()

    def expect_state(self, status: str) -> None:
        """Of the opened task."""
        shown = self.page.locator(".task-detail__status strong")
        expect(shown).to_have_text(self.word(f"status.{status}"), timeout=WORKER_MS)

    def metric(self, name: str) -> Locator:
        return self.page.locator(f'[data-metric="{name}"] .metric__value')

    def figure(self, name: str) -> str:
        """What a metric says now."""
        return self.metric(name).inner_text()

    @property
    def query(self) -> str:
        """What the address asks for, by the page's own word: Playwright's may be of a moment before."""
        search: str = self.page.evaluate("location.search")
        return urllib.parse.parse_qs(search.removeprefix("?")).get("q", [""])[0]

    @property
    def duration(self) -> re.Pattern[str]:
        """A time below a minute, as it is written."""
        units = "|".join(self.word(f"unit.{unit}") for unit in ("ms", "s"))
        return re.compile(rf"^\d+([.,]\d+)?\u00a0({units})$")

    def button(self, place: Page | Locator, key: str) -> Locator:
        """By the word that it bears."""
        return place.get_by_role("button", name=self.word(key), exact=True)

    def confirm(self, dialog: str, reason: str) -> None:
        """Gives a reason and says yes."""
        shown = self.page.locator(dialog)
        shown.locator('[name="reason"]').fill(reason)
        shown.locator("[type=submit]").click()
        expect(shown).to_be_hidden(timeout=WORKER_MS)
        self.page.mouse.move(5, 5)

    def in_place(self, act: Callable[[], None]) -> None:
        """Whatever `act` waits for comes without loading the page again."""
        self.page.evaluate("window.isSameDocument = true")
        act()
        assert self.page.evaluate("window.isSameDocument") is True

    def stop(self) -> None:
        self.context.close()
        self.station.stop()


def lines_of(file: Path) -> list[str]:
    """What tasks have written to a witness, nothing where none has."""
    return file.read_text().splitlines() if file.exists() else []
