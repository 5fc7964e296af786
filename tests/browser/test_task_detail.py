"""The task view: everything about one task, exactly, and live."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import psycopg
from playwright.sync_api import Page, expect

from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar
from tests.polling import eventually


def test_the_state_history_tells_every_step_and_how_long_it_took(page: Page, narrator: Narrator) -> None:
    """One line a state: the next one, the time between, who worked; and a bar that fills its place, however short the
    task was."""
    narrator.sent("h-1", ago=10, reason="sent")
    narrator.started("h-1", ago=8.8)
    narrator.completed("h-1", ago=5.4, runtime=3.4)
    page.locator('[data-task-id="h-1"] td.column-user').click()
    lines = page.locator(".state-line")
    expect(lines).to_have_count(3)
    expect(lines.nth(0)).to_contain_text("Pending → In progress")
    expect(lines.nth(0).locator(".state-line__duration")).to_have_text("1.20\u00a0s")
    expect(lines.nth(0).locator(".state-line__note")).to_have_text("sent by 7@shop-web")
    expect(lines.nth(1)).to_contain_text("In progress → Completed")
    expect(lines.nth(1).locator(".state-line__duration")).to_have_text("3.40\u00a0s")
    expect(lines.nth(1)).to_contain_text("celery@shop-1")
    expect(lines.nth(2).locator(".state-line__word")).to_have_text("Completed")
    expect(page.locator(".task-detail h2")).to_have_text("shop.orders.charge_card")
    expect(page).to_have_url(re.compile("#/tasks/h-1$"))
    narrator.sent("h-2", ago=0.3)
    narrator.started("h-2", ago=0.2)
    narrator.completed("h-2", ago=0.1, runtime=0.1)
    open_task(page, "h-2")
    parts = page.locator(".state-history__part")
    expect(parts).to_have_count(2)
    # in one step: the parts are made anew whenever the task is told of
    shares = page.locator(".state-history__bar").evaluate("""bar =>
        [...bar.querySelectorAll(".state-history__part")].map((part) => part.offsetWidth / bar.offsetWidth)""")
    assert min(shares) > 0.4, shares


def test_what_a_reason_means_is_said(page: Page, narrator: Narrator) -> None:
    """Beside the status and in the history, with the word that can be looked for; an unknown word is shown as it is."""
    narrator.sent("m-1", ago=10, reason="sent")
    narrator.started("m-1", ago=8)
    narrator.failed("m-1", ago=5, reason="worker_lost", error_type=None, error_message=None, traceback=None)
    narrator.sent("m-2", ago=10, reason="of_another_version")
    open_task(page, "m-1")
    status = page.locator(".task-detail__status p")
    expect(status.locator("code")).to_have_text("worker_lost")
    expect(status.locator("span")).to_have_text("its worker died")
    expect(page.locator(".state-line__note").last).to_contain_text("worker_lost: its worker died")
    row = page.locator('[data-task-id="m-1"]')
    row.hover()
    expect(row.locator(".tag")).to_have_attribute("title", "its worker died")
    open_task(page, "m-2")
    expect(status.locator("code")).to_have_text("of_another_version")
    expect(status.locator("span")).to_have_text("")


def test_a_history_that_was_deleted_does_not_pretend_to_be_whole(page: Page, narrator: Narrator, database: str) -> None:
    """Where retention may have taken its beginning, or all of it, that is said."""
    narrator.sent("old")
    narrator.started("old")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE oracle.history_floor SET history_until = now() + interval '1 day'")
        connection.execute("DELETE FROM oracle.task_transition WHERE status = 0")
        open_task(page, "old")
        expect(page.locator(".state-history__deleted")).to_contain_text("has been deleted (retention)")
        expect(page.locator(".state-line")).to_have_count(1)
        connection.execute("DELETE FROM oracle.task_transition")
    page.reload()
    expect(page.locator(".state-history__deleted")).to_be_visible()
    expect(page.locator(".state-history__bar")).to_be_hidden()
    expect(page.locator(".state-line")).to_have_count(0)


def test_the_result_is_shown_without_losing_a_digit(page: Page, narrator: Narrator) -> None:
    """Integers beyond 2^53, long decimals, order of keys: as the worker wrote them."""
    result = '{"z": 9007199254740993, "10": 12345678901234567890, "pi": 3.14159265358979323846, "word": "<b>"}'
    narrator.sent("r-1", arguments=msgspec.Raw(b'{"args":[18446744073709551615],"kwargs":{}}'))
    narrator.started("r-1")
    narrator.completed("r-1", msgspec.Raw(result.encode()))
    page.goto(page.url.split("#")[0] + "#/tasks/r-1")
    shown = page.locator('[data-payload="result_payload"] .json-tree')
    for number in ("9007199254740993", "12345678901234567890", "3.14159265358979323846"):
        expect(shown).to_contain_text(number)
    arguments = page.locator('[data-payload="arguments"]')
    expect(arguments.locator(".json-tree")).to_contain_text("18446744073709551615")
    arguments.get_by_role("button", name="Raw").click()
    expect(arguments.locator("pre")).to_have_text('{\n  "args": [18446744073709551615],\n  "kwargs": {}\n}')


def test_a_failure_shows_its_error_and_traceback(page: Page, narrator: Narrator) -> None:
    """The error is told where the task is, in full."""
    narrator.sent("f-1")
    narrator.started("f-1")
    narrator.failed("f-1", "card 4990 was refused")
    page.locator('[data-task-id="f-1"] a').click()
    expect(page.locator(".task-detail__status strong")).to_have_text("Failed")
    expect(page.locator(".task-error__message code")).to_have_text("CardRefused")
    expect(page.locator(".task-error__message p")).to_have_text("card 4990 was refused")
    expect(page.locator(".task-error pre")).to_contain_text("Traceback")
    expect(page.locator('[data-payload="result_payload"]')).to_be_hidden()


def test_attempts_are_told_apart_and_sections_are_a_press_away(page: Page, narrator: Narrator) -> None:
    """The newest attempt is open; a press on a section's name leads there, with the focus, and marks it."""
    failing = {"error_type": "GatewayTimeout", "error_message": "no answer"}
    narrator.sent("t-1", ago=30, arguments=msgspec.Raw(b'{"args":[1],"kwargs":{}}'), parent_id="gone")
    narrator.started("t-1", ago=29, retries=0)
    narrator.returned("t-1", ago=25, **failing)
    narrator.started("t-1", ago=20, retries=1)
    narrator.failed("t-1", ago=18, retries=1)
    open_task(page, "t-1")
    expect(page.locator(".task-detail__jumps button").first).to_have_attribute("aria-current", "true")
    attempts = page.locator(".attempt")
    expect(attempts).to_have_count(2)
    expect(attempts.nth(0)).to_have_attribute("open", "")
    expect(attempts.nth(0)).to_contain_text("Attempt 2")
    expect(attempts.nth(0)).to_contain_text("CardRefused no money")
    expect(attempts.nth(1)).to_contain_text("GatewayTimeout")
    expect(attempts.nth(1).locator("dl")).to_be_hidden()
    attempts.nth(1).locator("summary").click()
    expect(attempts.nth(1).locator("dl")).to_contain_text("celery@shop-1")
    jumps = page.locator(".task-detail__jumps button")
    expect(jumps).to_have_text(["History", "Error", "Attempts", "Arguments", "Logs", "Lineage"])
    page.get_by_role("button", name="Attempts").press("Enter")
    expect(page.get_by_role("heading", name="Attempts")).to_be_focused()
    expect(jumps.nth(2)).to_have_attribute("aria-current", "true")
    expect(page.locator(".relative--gone")).to_contain_text("not there, or not yours to see")


def test_the_opened_task_follows_its_life(page: Page, narrator: Narrator) -> None:
    """Status, history and result come while the view is open."""
    narrator.sent("l-1")
    page.locator('[data-task-id="l-1"] a').click()
    expect(page.locator(".task-detail__status strong")).to_have_text("Pending")
    narrator.started("l-1")
    expect(page.locator(".task-detail__status strong")).to_have_text("In progress")
    expect(page.locator(".state-line")).to_have_count(2)
    narrator.completed("l-1", {"receipt": "R-1"})
    expect(page.locator(".state-line")).to_have_count(3)
    expect(page.locator('[data-payload="result_payload"] .json-tree')).to_contain_text('"R-1"')


def test_a_task_has_an_address_of_its_own(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """Ids of any characters survive the address; an unknown one is told in words."""
    strange = "order 7/ü?#%"
    narrator.sent(strange)
    page = open_page(sidecar.url)
    page.locator(".task-row a").click()
    expect(page.locator(".task-detail__id code")).to_have_text(strange)
    page.reload()
    expect(page.locator(".task-detail__id code")).to_have_text(strange)
    expect(page.locator(".task-detail__status strong")).to_have_text("Pending")
    page.goto(f"{sidecar.url}/#/tasks/unknown")
    expect(page.locator(".task-detail__problem")).to_have_text(
        "There is no task with this ID, or it is not yours to see."
    )


def test_a_value_in_the_task_view_is_a_filter(page: Page, narrator: Narrator) -> None:
    """One click on the user shows the tasks of that user; the view stays open."""
    narrator.sent("u-1", user_id="anna")
    narrator.sent("u-2", user_id="igor")
    page.locator('[data-task-id="u-1"] a').click()
    page.locator(".task-detail__facts").get_by_role("button", name="anna").click()
    expect(page.locator(".task-row")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"\?q=user%3Aanna#"))
    expect(page.locator(".task-detail__id code")).to_have_text("u-1")


def test_ids_and_names_are_copied_whole(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """The row shows the first block of a UUID and copies all of it; the task view has the name, too."""
    task_id = "7c1e4f92-0b1d-4c55-9a0e-3f6d2b71b0a4"
    narrator.sent(task_id)
    page = open_page(sidecar.url, permissions=["clipboard-read", "clipboard-write"])
    row = page.locator(".task-row")
    expect(row.locator(".column-id code")).to_have_text("7c1e4f92")
    row.hover()
    row.get_by_role("button", name="Copy the task ID").click()
    expect(page.locator("#announcer")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == task_id
    expect(page.locator(".task-detail")).to_be_hidden()
    open_task(page, task_id)
    page.get_by_role("button", name="Copy the task name").click()
    copied = "navigator.clipboard.readText()"
    eventually(lambda: page.evaluate(copied) == "shop.orders.charge_card", "the name is copied")


def open_task(page: Page, task_id: str) -> None:
    page.evaluate("hash => { location.hash = hash; }", f"#/tasks/{task_id}")
    expect(page.locator(".task-detail__id code")).to_have_text(task_id)
    expect(page.locator(".state-line").first).to_be_visible()
