"""The list is live: nothing is reloaded, nothing is lost, nothing comes twice, nothing moves under a reader."""

# ruff: noqa: RUF001  # Russian letters and en dashes are what is tested

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar


def test_a_task_appears_and_changes_status_without_a_reload(page: Page, narrator: Narrator) -> None:
    """From publish to outcome the page is the same document."""
    expect(page.locator(".task-list__empty-title")).to_have_text("No tasks yet")
    page.evaluate("window.isSameDocument = true")
    narrator.sent("life-1")
    row = _row(page, "life-1")
    expect(row.locator(".status-word")).to_have_text("Pending")
    narrator.started("life-1")
    expect(row.locator(".status-word")).to_have_text("In progress")
    narrator.completed("life-1")
    expect(row.locator(".status-word")).to_have_text("Completed")
    expect(row.locator(".column-runtime")).to_have_text("250\u00a0ms")
    assert page.evaluate("window.isSameDocument") is True


def test_the_metrics_follow(page: Page, narrator: Narrator) -> None:
    """The header's numbers change with the tasks, and what cannot be known yet is a dash, not 0."""
    expect(_metric(page, "queued")).to_have_text("0")
    expect(_metric(page, "failure")).to_have_text("–")
    expect(_metric(page, "runtime")).to_have_text("–")
    narrator.sent("m-1")
    expect(_metric(page, "queued")).to_have_text("1")
    narrator.started("m-1")
    expect(_metric(page, "active")).to_have_text("1")


def test_everything_missed_while_the_sidecar_was_dead_is_shown_once(
    page: Page, narrator: Narrator, sidecar: LocalSidecar
) -> None:
    """kill -9, then a new sidecar on the same port: badge and rows are right again without a reload."""
    narrator.sent("before")
    narrator.started("before")
    expect(_row(page, "before").locator(".status-word")).to_have_text("In progress")
    page.evaluate("window.isSameDocument = true")
    sidecar.kill()
    expect(page.locator(".connection__word")).to_have_text("Reconnecting")
    narrator.completed("before")
    missed = [f"missed-{number}" for number in range(20)]
    narrator.tell(*(narrator.sending(task_id) for task_id in missed))
    for task_id in missed[:5]:
        narrator.started(task_id)
        narrator.failed(task_id)
    sidecar.start()
    expect(page.locator(".connection__word")).to_have_text("Live", timeout=30_000)
    expect(page.locator(".task-row")).to_have_count(21)
    expect(_row(page, "before").locator(".status-word")).to_have_text("Completed")
    for number, task_id in enumerate(missed):
        expect(_row(page, task_id)).to_have_count(1)
        expect(_row(page, task_id).locator(".status-word")).to_have_text("Failed" if number < 5 else "Pending")
    assert page.evaluate("window.isSameDocument") is True


def test_new_rows_wait_while_the_pointer_rests_on_the_list(page: Page, narrator: Narrator) -> None:
    """Under the pointer a row changes in place and never moves; what is new waits behind the chip."""
    narrator.sent("read-me")
    row = _row(page, "read-me")
    row.hover()
    narrator.sent("new-1")
    narrator.sent("new-2")
    expect(page.locator(".new-chip")).to_have_text("2 new")
    narrator.started("read-me")
    expect(row.locator(".status-word")).to_have_text("In progress")
    assert _ids(page) == ["read-me"]
    page.locator(".new-chip").click()
    expect(page.locator(".new-chip")).to_be_hidden()
    assert _ids(page) == ["new-2", "new-1", "read-me"]


def test_new_rows_come_by_themselves_when_the_pointer_leaves(page: Page, narrator: Narrator) -> None:
    """Looking away is asking for news."""
    narrator.sent("read-me")
    _row(page, "read-me").hover()
    narrator.sent("new-1")
    expect(page.locator(".new-chip")).to_be_visible()
    page.mouse.move(5, 5)
    expect(page.locator(".new-chip")).to_be_hidden()
    assert _ids(page) == ["new-1", "read-me"]


def test_a_filtered_list_takes_what_comes_to_match_and_lets_go_what_does_not(page: Page, narrator: Narrator) -> None:
    """A status filter is live in both directions."""
    narrator.sent("moving")
    expect(_row(page, "moving")).to_be_visible()
    page.get_by_role("button", name="In progress").click()
    expect(_row(page, "moving")).to_have_count(0)
    page.mouse.move(5, 5)
    narrator.started("moving")
    expect(_row(page, "moving")).to_be_visible()
    narrator.completed("moving")
    expect(_row(page, "moving")).to_have_count(0)


def test_older_tasks_load_while_scrolling(page: Page, narrator: Narrator) -> None:
    """Every task can be reached by scrolling, each once, newest first."""
    wanted = [f"page-{number:03}" for number in range(250)]
    narrator.tell(*(narrator.sending(task_id, ago=(250 - number)) for number, task_id in enumerate(wanted)))
    page.reload()
    expect(page.locator(".task-row")).to_have_count(100)
    for _ in range(3):
        page.locator(".task-row").last.scroll_into_view_if_needed()
        page.wait_for_function("!document.querySelector('.task-list__older').disabled")
    expect(page.locator(".task-row")).to_have_count(250)
    assert _ids(page) == wanted[::-1]
    expect(page.locator(".task-list__older")).to_be_hidden()


def _row(page: Page, task_id: str) -> Locator:
    return page.locator(f'.task-row[data-task-id="{task_id}"]')


def _ids(page: Page) -> list[str]:
    ids: list[str] = page.locator(".task-row").evaluate_all("rows => rows.map((row) => row.dataset.taskId)")
    return ids


def _metric(page: Page, name: str) -> Locator:
    return page.locator(f'[data-metric="{name}"] .metric__value')
