"""The pages of workers and queues: what each of them says, and where it leads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from oracle_celery.states import Status
from tests.browser.crew import MINUTE_NS, Crew
from tests.factories import Feeder, transition
from tests.local_processes import LocalSidecar


@pytest.fixture
def crew(database: str, sidecar: LocalSidecar) -> Iterator[Crew]:  # the sidecar has made the schema
    made = Crew(database)
    yield made
    made.close()


def test_workers(crew: Crew, sidecar: LocalSidecar, open_page: Callable[..., Page]) -> None:
    """Slots, the longest task, load and versions of each; a row opens on its tasks and leads to them; who is gone says
    what became of its tasks. An owner finds their own tasks, and nothing of anybody else's."""
    busy = crew.worker("celery@a", "mail")
    crew.runs("celery@a", busy, "anna", "boris")
    crew.worker("celery@b", "mail", celery="5.6.2", consuming="'{}'", active="0")
    crew.worker("celery@c", "mail", celery="5.7.0", active="0")
    crew.worker("celery@d", "mail", lost_at="now() - interval '1 minute'", lost_tasks="8")
    crew.worker("celery@e", "mail", stopped_at="now() - interval '1 hour'")
    page = open_page(f"{sidecar.url}/#/workers")
    expect(page.locator("#workers-page .page__summary").first).to_have_text("3 alive, 2 of 12 slots at work")
    expect(page.locator(".workers__versions")).to_have_text("Usual: Python 3.13.1, Celery 5.7.0, Oracle 0.1.0")
    rows = page.locator(".worker-row")
    expect(rows).to_have_count(4)
    first = rows.filter(has_text="celery@a")
    expect(first.get_by_label("2 of 4 at work")).to_be_visible()
    expect(first.locator("i.is-busy")).to_have_count(2)
    expect(first.locator(".worker-row__longest")).to_contain_text("reports.build 3 min")
    expect(first).to_contain_text("142 %")
    expect(first).to_contain_text("410 MB")
    expect(first.locator("i.is-overdue")).to_have_count(0)  # nobody knows yet how long such tasks take
    expect(rows.filter(has_text="celery@b").locator(".worker-row__odd")).to_have_text("Celery 5.6.2")
    expect(page.locator(".worker-row__odd:visible")).to_have_count(1)
    expect(rows.filter(has_text="celery@b").locator(".worker-row__queues")).to_have_text("mail (not now)")
    page.get_by_role("button", name="Show 1 that is gone for a while").click()
    expect(rows).to_have_count(5)

    toggle = first.get_by_role("button", name="celery@a")
    toggle.click()
    expect(toggle).to_have_attribute("aria-expanded", "true")
    expect(first.locator(".worker-detail li")).to_have_count(2)
    expect(first.locator(".worker-detail li").first).to_contain_text("anna")
    expect(first.locator('[data-fact="held"]')).to_have_text("6")
    first.get_by_role("button", name="Show its tasks in the list").click()
    expect(page.locator(".task-row")).to_have_count(2)
    page.evaluate("location.hash = '#/workers'")
    rows.filter(has_text="celery@d").get_by_role("button", name="8 tasks count as failed").click()
    expect(page.locator(".task-row")).to_have_count(0)
    assert parse_qs(urlsplit(page.url).query)["q"] == ["worker:celery@d status:failed reason:worker_lost"]

    owner = open_page(f"{sidecar.url}/#/workers", user="anna", role=None)
    expect(owner.locator("#workers-page .page__summary").first).to_have_text("3 alive")
    first = owner.locator(".worker-row").filter(has_text="celery@a")
    expect(first.get_by_label("1 of yours")).to_be_visible()
    first.get_by_role("button", name="celery@a").click()
    expect(first.locator(".worker-detail li")).to_have_count(1)
    assert "boris" not in owner.content()
    assert "worker_lost" not in owner.locator("#workers-page table").inner_text()


def test_queues(crew: Crew, database: str, page: Page) -> None:
    """How fast each is emptied and by whom; its name leads to what waits in it."""
    crew.worker("celery@a", "mail")
    now = time.monotonic_ns()
    with Feeder(database) as feeder:
        feeder.tell(*(transition(f"w-{number}", queue="mail", user_id="anna") for number in range(3)))
        feeder.tell(
            *(transition(f"d-{number}", Status.COMPLETED, at=now - 2 * MINUTE_NS, queue="mail") for number in range(10))
        )
    page.evaluate("location.hash = '#/queues'")
    card = page.locator(".queue-card").filter(has_text="mail")
    expect(card.locator('[data-figure="waiting"]')).to_have_text("3")
    expect(card.locator('[data-fact="flow"] dd')).to_have_text("2.0 out")
    expect(card.locator('[data-fact="consumers"] dd')).to_have_text("1 worker, 4 slots")
    card.get_by_role("button", name="mail", exact=True).click()
    expect(page.locator(".task-row")).to_have_count(3)


def test_queues_that_begin_alike_are_a_group(crew: Crew, database: str, page: Page) -> None:
    """With what they sum up to, and one word for all of them; the others stand alone, and have no head."""
    crew.worker("celery@a", "mail:fast", "mail:slow", "orders")
    with Feeder(database) as feeder:
        for number, queue in enumerate(["mail:fast", "mail:slow", "mail:slow", "orders"]):
            feeder.tell(transition(f"g-{number}", queue=queue))
    page.evaluate("location.hash = '#/queues'")
    head = page.locator(".queue-group > header:visible")
    expect(head).to_have_count(1)
    expect(head.locator("h3")).to_have_text("mail:*")
    expect(head.locator("p")).to_have_text("2 queues, 3 waiting")
    names = page.locator("#queues-page").get_by_role("heading", level=4)
    expect(names).to_have_text(["mail:fast", "mail:slow"])  # below the group's head, one level deeper
    expect(page.locator("#queues-page").get_by_role("heading", level=3)).to_have_text(["orders", "mail:*"])
    head.get_by_role("button", name="Pause group: mail:*").click()
    dialog = page.locator("dialog[open]")
    expect(dialog.get_by_role("heading")).to_have_text("Pause mail:*?")
    expect(dialog.get_by_role("listitem").first).to_contain_text("3")
    dialog.locator("[type=submit]").click()
    expect(page.locator('.queue-card[data-state="paused"]')).to_have_count(2)
    expect(head.get_by_role("button")).to_have_text("Resume group")
    expect(page.locator(".queue-card").filter(has_text="orders")).to_have_attribute("data-state", "flowing")
