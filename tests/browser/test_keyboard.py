"""The whole page works without a pointer."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.filtering import query_field
from tests.browser.narrator import Narrator


@pytest.fixture
def three_tasks(page: Page, narrator: Narrator) -> None:
    for number, task_id in enumerate(("k-1", "k-2", "k-3")):
        narrator.sent(task_id, ago=30 - number)
    expect(page.locator(".task-row")).to_have_count(3)


@pytest.mark.usefixtures("three_tasks")
def test_rows_are_walked_opened_and_left(page: Page) -> None:
    """j and k walk, Enter opens, Escape closes, and the focus is back on the row."""
    page.keyboard.press("j")
    assert _focused(page) == "k-3"
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert _focused(page) == "k-1"
    page.keyboard.press("k")
    assert _focused(page) == "k-2"
    page.keyboard.press("Enter")
    expect(page.locator(".task-detail__id code")).to_have_text("k-2")
    assert _focused(page) == "k-2"
    page.locator(".task-detail__close").focus()
    page.keyboard.press("Escape")
    expect(page.locator(".task-detail")).to_be_hidden()
    assert _focused(page) == "k-2"


@pytest.mark.usefixtures("three_tasks")
def test_one_row_is_in_the_tab_order(page: Page) -> None:
    """Tab leads into the list and out of it, not through a thousand rows."""
    assert page.locator('.task-row a[tabindex="0"]').count() == 1
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.locator('.task-row a[tabindex="0"]').count() == 1
    assert page.locator('.task-row:has(a[tabindex="0"])').get_attribute("data-task-id") == "k-2"


@pytest.mark.usefixtures("three_tasks")
def test_new_rows_wait_for_n_while_a_row_has_the_focus(page: Page, narrator: Narrator) -> None:
    """A focused row is being read; n brings what is new."""
    page.keyboard.press("j")
    narrator.sent("k-4")
    expect(page.locator(".new-chip")).to_have_text("1 new")
    page.keyboard.press("n")
    expect(page.locator(".task-row").first).to_have_attribute("data-task-id", "k-4")
    assert _focused(page) == "k-3"


@pytest.mark.usefixtures("three_tasks")
def test_keys_are_off_while_typing_and_with_modifiers(page: Page) -> None:
    """A letter in a field is a letter; a browser's shortcut stays the browser's."""
    query_field(page).focus()
    page.keyboard.type("jkt?")
    expect(query_field(page)).to_have_value("jkt?")
    expect(page.locator("#key-help")).to_be_hidden()
    query_field(page).fill("")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+j")
    assert _focused(page) is None


def test_help_and_theme(page: Page) -> None:
    """? lists the keys and Escape closes the list; t turns the theme and it is remembered."""
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    before = _surface(page)
    page.keyboard.press("t")
    assert _surface(page) != before
    page.reload()
    assert _surface(page) != before
    page.keyboard.press("t")
    assert _surface(page) == before
    assert page.evaluate("localStorage.getItem('oracle.theme')") is None


def _focused(page: Page) -> str | None:
    task_id: str | None = page.evaluate("document.activeElement.closest('.task-row')?.dataset.taskId ?? null")
    return task_id


def _surface(page: Page) -> str:
    colour: str = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return colour
