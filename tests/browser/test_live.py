"""The list is live: nothing is reloaded, nothing is lost, nothing comes twice, nothing moves under a reader."""

# ruff: noqa: RUF001  # Russian letters and en dashes are what is tested

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.browser.filtering import type_query
from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar

#: By so many pixels, from the end back to the beginning, and until it has been drawn.
SCROLL = """
([selector, by]) => new Promise((resolve) => {
  const scroller = document.querySelector(selector);
  const before = scroller.scrollTop;
  scroller.scrollBy(0, by);
  const isWhole = document.querySelector(".task-list__older").hidden;
  if (scroller.scrollTop === before && isWhole) scroller.scrollTo(0, 0);
  requestAnimationFrame(() => requestAnimationFrame(resolve));
})
"""


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
    page.evaluate("location.hash = '#/audit'")
    problem = page.locator("#audit-page .page__problem")
    expect(problem).to_have_text("This could not be loaded: the server does not answer")
    page.evaluate("location.hash = '#/tasks'")
    narrator.completed("before")
    missed = [f"missed-{number}" for number in range(20)]
    narrator.tell(*(narrator.sending(task_id) for task_id in missed))
    for task_id in missed[:5]:
        narrator.started(task_id)
        narrator.failed(task_id)
    sidecar.start()
    expect(page.locator(".connection__word")).to_have_text("Live")
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


def test_a_row_with_the_focus_never_becomes_another_tasks(page: Page, narrator: Narrator) -> None:
    """Rows are used again, but not the one that keys act upon: where its task leaves the list, no row has the focus."""
    query = "q => { history.pushState(null, '', '?q=status:' + q); dispatchEvent(new PopStateEvent('popstate')); }"
    page.evaluate(query, "pending")
    narrator.sent("leaves")
    narrator.started("other")
    narrator.failed("other")
    _row(page, "leaves").locator("a").focus()
    page.evaluate(query, "failed")
    expect(_row(page, "leaves")).to_have_count(0)
    expect(_row(page, "other")).to_be_visible()
    assert _focused(page) is None


def test_a_row_says_nothing_of_the_task_it_was_of(page: Page, narrator: Narrator) -> None:
    """What a pointer had it say in full is gone when it becomes another task's."""
    query = "q => { history.pushState(null, '', '?q=status:' + q); dispatchEvent(new PopStateEvent('popstate')); }"
    page.evaluate(query, "pending")
    narrator.sent("was", user_id="anna", queue="slow")
    narrator.started("other")
    narrator.failed("other")
    _row(page, "was").hover()
    expect(_row(page, "was").locator(".column-user")).to_have_attribute("title", "anna")
    page.mouse.move(5, 5)
    page.evaluate(query, "failed")
    expect(_row(page, "other")).to_be_visible()
    titles = "row => [...row.querySelectorAll('code, a, td, time')].map(({ title }) => title).filter(Boolean)"
    assert _row(page, "other").evaluate(titles) == []


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


def test_what_time_alone_makes_match_appears_by_itself(page: Page, narrator: Narrator) -> None:
    """A task that runs on tells nothing: the list asks."""
    type_query(page, "status:in_progress runtime:>2s")
    expect(page.locator(".task-list__empty-title")).to_have_text("Nothing matches")
    narrator.sent("long")
    narrator.started("long")
    expect(_row(page, "long")).to_be_visible()


def test_a_browser_whose_clock_is_wrong_shows_the_same_list(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """What is recent, the server's clock says."""
    page = open_page("about:blank")
    page.add_init_script("delete globalThis.SharedWorker; const now = Date.now; Date.now = () => now() + 1_200_000;")
    narrator.sent("before")
    page.goto(f"{sidecar.url}/?q=since:15m")
    expect(_metric(page, "queued")).to_have_text("1")
    _row(page, "before").hover()
    narrator.sent("after")
    expect(page.locator(".new-chip")).to_have_text("1 new")
    page.mouse.move(5, 5)
    expect(_row(page, "after")).to_be_visible()
    assert _ids(page) == ["after", "before"]


def test_a_reader_keeps_the_place_over_a_gap_in_the_stream(page: Page, narrator: Narrator) -> None:
    """Back from sleep: the rows in sight are put right where they are, and what is new is behind the chip."""
    narrator.tell(*(narrator.sending(f"gap-{number:03}", ago=1_000 - number) for number in range(300)))
    narrator.started("gap-140")
    page.reload()
    expect(_row(page, "gap-299")).to_be_visible()
    while _row(page, "gap-140").count() == 0:
        page.evaluate(SCROLL, [".task-list__scroll", 600])
    row = _row(page, "gap-140")
    row.scroll_into_view_if_needed()
    expect(row.locator(".status-word")).to_have_text("In progress")
    before = row.bounding_box()
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    narrator.failed("gap-140")
    narrator.sent("gap-new")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(row.locator(".status-word")).to_have_text("Failed")
    expect(page.locator(".new-chip")).to_have_text("1 new")
    assert row.bounding_box() == before
    page.locator(".new-chip").click()
    expect(_row(page, "gap-new")).to_be_in_viewport()


def test_a_long_list_is_scrolled_and_walked(page: Page, narrator: Narrator) -> None:
    """Every task can be reached, each once, newest first, by wheel and by keys, while the document holds only a few
    rows; the focus stays on its row, out of sight too, and each row tells its number."""
    wanted = [f"page-{number:04}" for number in range(1_500)]
    for start in range(0, len(wanted), 750):
        numbers = range(start, start + 750)
        narrator.tell(*(narrator.sending(wanted[number], ago=5_000 - number) for number in numbers))
    wanted.reverse()
    page.reload()
    expect(_row(page, wanted[0])).to_be_visible()
    page.keyboard.press("j")
    seen: dict[str, str] = {}
    while len(seen) < len(wanted):
        rows = page.locator(".task-row:not([aria-busy])").evaluate_all(
            "rows => rows.map((row) => [row.getAttribute('aria-rowindex'), row.dataset.taskId])"
        )
        seen |= dict(rows)
        assert len(rows) < 120
        page.evaluate(SCROLL, [".task-list__scroll", 1_000])
    assert [seen[str(place + 2)] for place in range(len(wanted))] == wanted
    assert _focused(page) == wanted[0]
    expect(page.locator("#task-list table")).to_have_attribute("aria-rowcount", "1501")
    expect(page.locator(".task-list__older")).to_be_hidden()
    page.keyboard.press("j")
    assert _focused(page) == wanted[1]
    page.keyboard.press("End")
    assert _focused(page) == wanted[-1]
    page.keyboard.press("PageUp")
    place = wanted.index(_focused(page) or "")
    assert 8 < len(wanted) - 1 - place < 30
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert _focused(page) == wanted[1]
    expect(_row(page, wanted[1])).to_be_in_viewport()
    expect(_row(page, wanted[2]).locator(".status-word")).to_have_text("Pending")  # it was let go, and is read again


def test_the_page_of_a_phone_is_the_list(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """Where the page itself scrolls, the same rows come and go."""
    wanted = [f"p-{number:03}" for number in range(350)]
    narrator.tell(*(narrator.sending(task_id, ago=(400 - number)) for number, task_id in enumerate(wanted)))
    page = open_page(sidecar.url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    expect(_row(page, "p-349")).to_be_in_viewport()
    for task_id in ("p-300", "p-200", "p-000"):
        while _row(page, task_id).count() == 0:
            page.evaluate(SCROLL, ["html", 800])
    _row(page, "p-000").scroll_into_view_if_needed()
    expect(_row(page, "p-000")).to_be_in_viewport()
    assert page.locator(".task-row").count() < 80
    narrator.sent("p-new")
    expect(page.locator(".new-chip")).to_have_text("1 new")
    page.locator(".new-chip").tap()
    expect(_row(page, "p-new")).to_be_in_viewport()


def _row(page: Page, task_id: str) -> Locator:
    return page.locator(f'.task-row[data-task-id="{task_id}"]')


def _focused(page: Page) -> str | None:
    task_id: str | None = page.evaluate("document.activeElement.closest('.task-row')?.dataset.taskId ?? null")
    return task_id


def _ids(page: Page) -> list[str]:
    """From top to bottom, by the numbers that the rows tell: in the document they may stand otherwise for a moment."""
    numbered: list[tuple[str, str]] = page.locator(".task-row").evaluate_all(
        "rows => rows.map((row) => [row.getAttribute('aria-rowindex'), row.dataset.taskId])"
    )
    return [task_id for _, task_id in sorted(numbered, key=lambda one: int(one[0]))]


def _metric(page: Page, name: str) -> Locator:
    return page.locator(f'[data-metric="{name}"] .metric__value')
