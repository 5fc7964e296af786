"""Columns of the list as one likes them, and what can be done from a row."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar
from tests.polling import eventually


def test_columns_are_chosen_with_keys_sorted_and_remembered(page: Page, narrator: Narrator) -> None:
    """The menu is one to the ear and to the keyboard; what is chosen is there after a reload, and sorts."""
    narrator.sent("quick", ago=50)
    narrator.started("quick", ago=49)
    narrator.sent("slow", ago=60)
    narrator.started("slow", ago=40)
    narrator.sent("waiting", ago=30)
    expect(page.locator(".task-row")).to_have_count(3)
    expect(_head(page, "Wait")).to_be_hidden()
    button = page.get_by_role("button", name="Columns")
    button.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menu", name="Columns")).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    fixed = page.get_by_role("menuitemcheckbox", name="Task ID")
    expect(fixed).to_be_focused()
    expect(fixed).to_have_attribute("aria-disabled", "true")
    page.keyboard.press("w")
    expect(page.get_by_role("menuitemcheckbox", name="Worker")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitemcheckbox", name="Wait")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.get_by_role("menuitemcheckbox", name="Wait")).to_have_attribute("aria-checked", "true")
    page.keyboard.press("Escape")
    expect(page.get_by_role("menu", name="Columns")).to_be_hidden()
    expect(button).to_be_focused()
    expect(_head(page, "Worker")).to_be_hidden()
    expect(_row(page, "slow").locator(".column-wait")).to_have_text("20.0\u00a0s")
    _head(page, "Wait").get_by_role("button").click()
    page.mouse.move(5, 5)
    page.reload()
    expect(_head(page, "Wait")).to_have_attribute("aria-sort", "descending")
    eventually(lambda: _ids(page) == ["slow", "quick", "waiting"], "the longest wait is the first")
    expect(_head(page, "Worker")).to_be_hidden()
    page.set_viewport_size({"width": 760, "height": 800})
    expect(_head(page, "Wait")).to_be_hidden()
    expect(_head(page, "Created")).to_be_visible()


def test_a_row_offers_what_can_be_done_with_its_task(page: Page, narrator: Narrator) -> None:
    """In the place of its time, under the pointer or the focus; the keys of the row do the same, and nothing moves."""
    narrator.sent("lives", ago=30)
    narrator.sent("died", ago=20)
    narrator.started("died", ago=19)
    narrator.failed("died", ago=18)
    narrator.kept("died")
    row = _row(page, "lives")
    expect(row).to_be_visible()
    expect(_row(page, "died").locator(".status-word")).to_have_text("Failed")  # nothing more comes above it or changes
    before = row.bounding_box()
    row.hover()
    assert row.bounding_box() == before
    assert _offers(row) == ["Cancel this task", "Copy the task ID"]
    _row(page, "died").hover()
    assert _offers(_row(page, "died")) == ["Retry this task", "Copy the task ID"]
    _row(page, "died").get_by_role("button", name="Retry this task").click()
    expect(page.locator("#retry-dialog .dialog__subject")).to_contain_text("died")
    page.keyboard.press("Escape")
    expect(page.locator(".task-detail")).to_be_hidden()
    page.mouse.move(5, 5)
    row.locator("a").focus()
    page.keyboard.press("r")  # it cannot be retried
    page.keyboard.press("c")
    expect(page.locator("#cancel-dialog")).to_be_visible()
    page.get_by_role("button", name="Cancel the task").click()
    expect(row.locator(".status-word")).to_have_text("Cancelled")


def test_a_running_row_tells_how_far_it_is(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """Against what tasks of its type usually take; one that takes longer is told apart, and an end ends it."""
    page = open_page("about:blank")
    types = {"types": [{"name": "shop.orders.charge_card", "runtime": {"p50": 20.0, "p95": 3_600.0, "counted": 9}}]}
    page.route("**/api/task-types", lambda route: route.fulfill(json=types))
    for task_id, ago in (("quick", 60.0), ("late", 5_000.0)):
        narrator.sent(task_id, ago=ago + 1)
        narrator.started(task_id, ago=ago)
    page.goto(sidecar.url)
    expect(_row(page, "quick").locator(".column-runtime")).to_have_attribute("data-gauge", "usual")
    expect(_row(page, "quick").locator(".column-runtime")).to_have_attribute("title", "Usually within 1\u00a0h")
    expect(_row(page, "late").locator(".column-runtime")).to_have_attribute("data-gauge", "late")
    narrator.completed("late")
    expect(_row(page, "late").locator(".column-runtime")).not_to_have_attribute("data-gauge", "late")


def test_who_may_change_nothing_is_offered_nothing(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """A reader of everything copies ids; so does everybody where nothing can be done."""
    narrator.sent("lives")
    page = open_page(sidecar.url, user="rita", role="viewer")
    _row(page, "lives").hover()
    assert _offers(_row(page, "lives")) == ["Copy the task ID"]
    _row(page, "lives").locator("a").focus()
    page.keyboard.press("c")
    expect(page.locator("dialog[open]")).to_have_count(0)


def _head(page: Page, name: str) -> Locator:
    return page.locator("th", has=page.get_by_role("button", name=name, exact=True, include_hidden=True))


def _ids(page: Page) -> list[str]:
    ids: list[str] = page.locator(".task-row").evaluate_all("rows => rows.map((row) => row.dataset.taskId)")
    return ids


def _row(page: Page, task_id: str) -> Locator:
    return page.locator(f'.task-row[data-task-id="{task_id}"]')


def _offers(row: Locator) -> list[str]:
    names: list[str] = row.locator(".task-row__actions button:visible").evaluate_all(
        "buttons => buttons.map((button) => button.getAttribute('aria-label'))"
    )
    return names
