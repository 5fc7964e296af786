"""Filters and order live in the address and are the server's business."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.filtering import query_field, type_query
from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar


@pytest.fixture
def shop(narrator: Narrator) -> None:
    """Four tasks that differ in everything that can be filtered."""
    narrator.sent("a-1", "shop.billing.sync_invoice", ago=40, user_id="anna", queue="billing")
    narrator.sent("a-2", "shop.billing.charge", ago=30, user_id="igor", queue="billing")
    narrator.sent("b-1", "shop.images.resize", ago=20, user_id="anna", queue="images")
    narrator.sent("b-2", "shop.images.crop", ago=10, user_id="igor", queue="images")
    narrator.started("b-1", ago=15)
    narrator.completed("b-1", ago=14, runtime=1.0)
    narrator.started("b-2", ago=9)
    narrator.failed("b-2", ago=6, runtime=3.0)


@pytest.mark.usefixtures("shop")
def test_a_query_filters_and_is_in_the_address_after_a_reload(page: Page) -> None:
    """What a person typed is still there, and still filters, when the page is opened again."""
    type_query(page, "user:igor queue:images")
    _expect_ids(page, ["b-2"])
    assert _query(page) == {"q": ["user:igor queue:images"]}
    page.reload()
    _expect_ids(page, ["b-2"])
    page.get_by_role("button", name="Clear the filters").first.click()
    _expect_ids(page, ["b-2", "b-1", "a-2", "a-1"])
    assert _query(page) == {}


@pytest.mark.usefixtures("shop")
def test_the_name_is_found_by_a_part_of_it(page: Page) -> None:
    """A part is enough; a star stands for anything."""
    type_query(page, "images")
    _expect_ids(page, ["b-2", "b-1"])
    page.get_by_role("button", name="Clear the filters").first.click()
    type_query(page, "name:shop.*.charge")
    _expect_ids(page, ["a-2"])


@pytest.mark.usefixtures("shop")
def test_an_id_is_found_by_its_beginning(page: Page) -> None:
    """The slash key leads to the search, and Escape out of it."""
    page.keyboard.press("/")
    expect(query_field(page)).to_be_focused()
    page.keyboard.type("a-")
    page.keyboard.press("Enter")
    _expect_ids(page, ["a-2", "a-1"])
    page.keyboard.press("Escape")
    expect(query_field(page)).not_to_be_focused()


@pytest.mark.usefixtures("shop")
def test_status_tabs_and_the_back_button(page: Page) -> None:
    """Every choice is a step that the browser's back button undoes."""
    page.get_by_role("button", name="Failed").click()
    _expect_ids(page, ["b-2"])
    page.get_by_role("button", name="Completed").click()
    _expect_ids(page, ["b-1"])
    page.go_back()
    _expect_ids(page, ["b-2"])
    expect(page.get_by_role("button", name="Failed")).to_have_attribute("aria-pressed", "true")
    page.go_back()
    _expect_ids(page, ["b-2", "b-1", "a-2", "a-1"])


@pytest.mark.usefixtures("shop")
def test_every_column_sorts_both_ways(page: Page) -> None:
    """The server sorts, the head says how, the address keeps it."""
    head = page.get_by_role("columnheader", name="Task name")
    head.get_by_role("button").first.click()
    _expect_ids(page, ["a-2", "a-1", "b-2", "b-1"])
    expect(head).to_have_attribute("aria-sort", "ascending")
    head.get_by_role("button").first.click()
    _expect_ids(page, ["b-1", "b-2", "a-1", "a-2"])
    assert _query(page) == {"sort": ["-name"]}
    page.get_by_role("columnheader", name="Runtime").get_by_role("button").click()
    expect(page.locator(".task-row").first).to_have_attribute("data-task-id", "b-2")
    page.reload()
    expect(page.locator(".task-row").first).to_have_attribute("data-task-id", "b-2")


def test_nothing_matches_and_nothing_exists_are_told_apart(page: Page, narrator: Narrator) -> None:
    """An empty list says why it is empty and offers the way out."""
    expect(page.locator(".task-list__empty-title")).to_have_text("No tasks yet")
    narrator.sent("only")
    type_query(page, "user:nobody")
    expect(page.locator(".task-list__empty-title")).to_have_text("Nothing matches")
    page.locator(".task-list__empty button").click()
    _expect_ids(page, ["only"])


@pytest.mark.usefixtures("shop")
def test_an_address_with_nonsense_shows_the_list_all_the_same(
    sidecar: LocalSidecar, open_page: Callable[..., Page]
) -> None:
    """A mistyped link is no reason for an empty page."""
    page = open_page(f"{sidecar.url}/?sort=nonsense&status=finished,failed&colour=blue")
    _expect_ids(page, ["b-2"])
    assert _query(page) == {"q": ["status:failed"]}
    page.goto(f"{sidecar.url}/?q=user:igor+colour:blue")
    _expect_ids(page, ["b-2", "a-2"])


def _expect_ids(page: Page, ids: list[str]) -> None:
    expect(page.locator(".task-row")).to_have_count(len(ids))
    for place, task_id in enumerate(ids):
        expect(page.locator(".task-row").nth(place)).to_have_attribute("data-task-id", task_id)


def _query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)
