"""Filters and order live in the address and are the server's business."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.filtering import query_field, type_query
from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar
from tests.polling import eventually


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
    _tab(page, "failed").click()
    _expect_ids(page, ["b-2"])
    _tab(page, "completed").click()
    _expect_ids(page, ["b-1"])
    page.go_back()
    _expect_ids(page, ["b-2"])
    expect(_tab(page, "failed")).to_have_attribute("aria-pressed", "true")
    page.go_back()
    _expect_ids(page, ["b-2", "b-1", "a-2", "a-1"])


@pytest.mark.usefixtures("shop")
def test_every_column_sorts_both_ways(page: Page) -> None:
    """The server sorts, the head says how, the address keeps it."""
    head = page.get_by_role("columnheader", name="Task name")
    head.get_by_role("button").first.click()
    _expect_ids(page, ["a-2", "a-1", "b-2", "b-1"])
    foot = page.locator(".task-list__count")
    expect(foot).to_have_text("4 tasks, sorted among the newest 10,000")
    expect(head).to_have_attribute("aria-sort", "ascending")
    head.get_by_role("button").first.click()
    _expect_ids(page, ["b-1", "b-2", "a-1", "a-2"])
    assert _query(page) == {"sort": ["-name"]}
    page.get_by_role("columnheader", name="Runtime").get_by_role("button").click()
    expect(page.locator(".task-row").first).to_have_attribute("data-task-id", "b-2")
    page.reload()
    expect(page.locator(".task-row").first).to_have_attribute("data-task-id", "b-2")
    page.get_by_role("columnheader", name="Task ID").get_by_role("button").first.click()
    _expect_ids(page, ["a-1", "a-2", "b-1", "b-2"])
    expect(foot).to_have_text("4 tasks")  # of all that there are


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


@pytest.mark.usefixtures("shop")
def test_chips_are_edited_turned_round_and_removed_by_keys(page: Page) -> None:
    """A space or Enter makes a chip; Backspace goes back to the last one, and everything is in the address."""
    page.keyboard.press("/")
    page.keyboard.type("queue:images -user:anna ")
    _expect_chips(page, ["queue:images", "\u2212user:anna"])
    _expect_ids(page, ["b-2"])
    page.keyboard.press("Backspace")
    expect(_chip(page, 1)).to_be_focused()
    page.keyboard.press("-")
    _expect_chips(page, ["queue:images", "user:anna"])
    _expect_ids(page, ["b-1"])
    page.keyboard.press("Enter")
    expect(query_field(page)).to_have_value("user:anna")
    _expect_ids(page, ["b-2", "b-1"])
    page.keyboard.press("Control+a")
    page.keyboard.type('user:"igor"')
    page.keyboard.press("Enter")
    _expect_ids(page, ["b-2"])
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(_chip(page, 0)).to_be_focused()
    page.keyboard.press("Delete")
    _expect_chips(page, ['user:"igor"'])
    _expect_ids(page, ["b-2", "a-2"])
    assert _query(page) == {"q": ['user:"igor"']}
    page.get_by_role("button", name='Remove user:"igor"').click()
    _expect_ids(page, ["b-2", "b-1", "a-2", "a-1"])
    page.go_back()
    _expect_chips(page, ['user:"igor"'])
    _expect_ids(page, ["b-2", "a-2"])


@pytest.mark.usefixtures("shop")
def test_a_wrong_word_says_why_and_the_list_keeps_the_last_good_result(page: Page) -> None:
    """The rest of the query holds; corrected, the word counts."""
    type_query(page, "status:failed")
    _expect_ids(page, ["b-2"])
    type_query(page, "runtime:fast")
    wrong = page.locator(".chip--wrong")
    expect(wrong).to_contain_text("say it like >30s")
    _expect_ids(page, ["b-2"])
    assert _query(page) == {"q": ["status:failed"]}
    page.locator(".task-row a").first.click()  # a step in the address, which holds no wrong words
    expect(page.locator("body.has-task")).to_be_visible()
    expect(wrong).to_contain_text("say it like >30s")
    wrong.locator(".chip__text").click()
    query_field(page).fill("runtime:>5s")
    page.keyboard.press("Enter")
    expect(page.locator(".task-list__empty-title")).to_have_text("Nothing matches")
    page.get_by_role("button", name="without runtime:>5s").click()
    _expect_ids(page, ["b-2"])


@pytest.mark.usefixtures("shop")
def test_what_may_come_next_is_proposed(page: Page, sidecar: LocalSidecar) -> None:
    """Fields, then real values with their counts; the arrows choose, Enter takes, Escape closes the list alone."""
    asked = f"{sidecar.url}/api/values?field=user"
    eventually(lambda: len(page.request.get(asked).json()["values"]) == 2, "the minutes are folded")
    field = query_field(page)
    page.keyboard.press("/")
    page.keyboard.type("us")
    options = page.locator("#query-options [role=option]")
    expect(options.first).to_contain_text("user:")
    expect(field).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowDown")
    expect(options.first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(field).to_have_value("user:")
    expect(options).to_contain_text(["user:anna", "user:igor"])
    expect(options.first.locator(".query-option__count")).to_have_text("2")
    page.keyboard.press("Escape")
    expect(page.locator("#query-options")).to_be_hidden()
    expect(field).to_be_focused()
    page.keyboard.type("i")
    expect(options).to_contain_text(["user:igor"])
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Tab")
    _expect_chips(page, ["user:igor"])
    _expect_ids(page, ["b-2", "a-2"])
    page.keyboard.type("-crop")
    expect(options).to_contain_text(["name:shop.images.crop"])
    options.first.click()
    _expect_chips(page, ["user:igor", "\u2212name:shop.images.crop"])
    _expect_ids(page, ["a-2"])


@pytest.mark.usefixtures("shop")
def test_a_value_in_a_cell_is_a_filter_one_click_away(page: Page) -> None:
    """Alt excludes it; the row itself is not opened, and a name's link is only ever excluded."""
    row = page.locator('[data-task-id="b-2"]')
    row.get_by_role("button", name="igor").click()
    _expect_chips(page, ["user:igor"])
    _expect_ids(page, ["b-2", "a-2"])
    row.get_by_role("button", name="images").click(modifiers=["Alt"])
    _expect_chips(page, ["user:igor", "\u2212queue:images"])
    _expect_ids(page, ["a-2"])
    page.locator('[data-task-id="a-2"] a').click(modifiers=["Alt"])
    _expect_chips(page, ["user:igor", "\u2212queue:images", "\u2212name:shop.billing.charge"])
    expect(page.locator(".task-detail")).to_be_hidden()


@pytest.mark.usefixtures("shop")
def test_tabs_count_within_the_rest_of_the_query(page: Page) -> None:
    """What is chosen among them does not change their numbers."""
    expect(_tab(page, "")).to_contain_text("4")
    type_query(page, "user:igor")
    expect(_tab(page, "")).to_have_text("All2")
    _tab(page, "failed").click()
    _expect_ids(page, ["b-2"])
    for status, text in {"": "All2", "pending": "Pending1", "failed": "Failed1", "completed": "Completed0"}.items():
        expect(_tab(page, status)).to_have_text(text)


@pytest.mark.usefixtures("shop")
def test_views_are_opened_kept_and_deleted(page: Page) -> None:
    """The built-in ones, and one's own under a name, which this browser keeps for this user."""
    button = page.get_by_role("button", name="Saved views")
    button.click()
    page.get_by_role("button", name="Mine").click()
    _expect_chips(page, ["user:local"])
    page.get_by_role("button", name="Clear the filters").first.click()
    type_query(page, "queue:billing")
    button.click()
    page.get_by_label("Name of this view").fill("Money")
    page.keyboard.press("Enter")
    own = page.locator(".saved-views__own li")
    expect(own).to_have_count(1)
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    page.get_by_role("button", name="Clear the filters").first.click()
    page.reload()
    button.click()
    own.locator(".saved-view__choose").click()
    _expect_ids(page, ["a-2", "a-1"])
    button.click()
    page.get_by_role("button", name="Delete the view Money").click()
    expect(own).to_have_count(0)
    assert page.evaluate("localStorage.getItem('oracle.views.local')") == "[]"


def test_the_built_in_views_find_what_they_are_for(
    narrator: Narrator, sidecar: LocalSidecar, open_page: Callable[..., Page]
) -> None:
    """What hangs or waits in vain, what takes much longer than usual, and what failed since midnight; nothing else."""
    page = open_page(sidecar.url, timezone_id=_where_it_is_noon())
    quick = [f"usual-{number}" for number in range(10)]
    narrator.tell(*(narrator.sending(task_id, "shop.quick", ago=301) for task_id in quick))
    for task_id in quick:
        narrator.started(task_id, ago=300)
        narrator.completed(task_id, ago=299, runtime=0.25)
    narrator.sent("hangs", "shop.quick", ago=700)
    narrator.started("hangs", ago=600)
    narrator.sent("stranded", ago=120)  # no worker serves its queue
    for task_id, runtime, ago in (("late", 30.0, 0), ("broke", 0.25, 0), ("long ago", 30.0, 200_000)):
        narrator.sent(task_id, "shop.quick", ago=ago)
        narrator.started(task_id, ago=ago)
        narrator.failed(task_id, ago=ago, runtime=runtime)
    asked = f"{sidecar.url}/api/tasks?q=is:slow"
    eventually(lambda: page.request.get(asked).json()["tasks"], "what is usual is folded")
    for view, ids in (
        ("Stuck", {"hangs", "stranded"}),
        ("Slow", {"hangs", "late"}),
        ("Failed today", {"late", "broke"}),
    ):
        page.get_by_role("button", name="Saved views").click()
        page.locator(".saved-views__built-in span").get_by_text(view, exact=True).click()
        page.mouse.move(5, 5)
        _expect_in_any_order(page, ids)


def _where_it_is_noon() -> str:
    """A time zone in which no midnight comes while a test runs."""
    ahead = 12 - datetime.now(UTC).hour  # hours
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"  # whose sign is turned round


def _chip(page: Page, place: int) -> Locator:
    return page.locator(".chip .chip__text").nth(place)


def _expect_in_any_order(page: Page, ids: set[str]) -> None:
    """Exactly these: as many of others may be there a moment before."""
    shown = "rows => rows.map((row) => row.dataset.taskId).sort()"
    eventually(lambda: page.locator(".task-row").evaluate_all(shown) == sorted(ids), f"there are {ids}")


def _expect_chips(page: Page, texts: list[str]) -> None:
    expect(page.locator(".chip .chip__text")).to_have_text(texts)


def _tab(page: Page, status: str) -> Locator:
    return page.locator(f'.status-tab[data-status="{status}"]')


def _expect_ids(page: Page, ids: list[str]) -> None:
    expect(page.locator(".task-row")).to_have_count(len(ids))
    for place, task_id in enumerate(ids):
        expect(page.locator(".task-row").nth(place)).to_have_attribute("data-task-id", task_id)


def _query(page: Page) -> dict[str, list[str]]:
    """By the page's own word: Playwright's may be of a moment before."""
    search: str = page.evaluate("location.search")
    return parse_qs(search.removeprefix("?"))
