"""The page fits every screen, in both languages and both themes, and every control has a name."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest
from playwright.sync_api import Page, expect

from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar

DETAIL_OVERFLOW = "(body => body.scrollWidth - body.clientWidth)(document.querySelector('.task-detail__body'))"
WITHOUT_NAME = """
() => [...document.querySelectorAll("button, a, input, select, textarea, progress, [role=group]")]
  .concat([...document.querySelectorAll("table, section, aside, dialog")])
  .filter((element) => element.checkVisibility())
  .filter((element) => {
    const labelled = element.getAttribute("aria-labelledby");
    const name = element.getAttribute("aria-label") || (labelled && document.getElementById(labelled)?.textContent);
    const own = element.matches("button, a") && element.textContent;
    return !(name || element.labels?.[0]?.textContent || own || "").trim();
  })
  .map((element) => element.outerHTML.slice(0, 80))
"""


FINGER_PX = 44
WIDTHS = (1440, 1000, 390, 320)
LOCALES = ("en-GB", "ru-RU")


def _check_width(page: Page, width: int, place: str) -> None:
    """At this width nothing is wider."""
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, (place, width)


@pytest.mark.parametrize("locale", LOCALES)
def test_nothing_sticks_out(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page], locale: str
) -> None:
    """No sideways scrolling, with a long name, a long id and a task open."""
    task_id = "x" * 200
    narrator.sent(task_id, "shop." * 20 + "a_function_with_a_rather_long_name", user_id="u" * 60, queue="q" * 60)
    page = open_page(f"{sidecar.url}/#/tasks/{task_id}", locale=locale)
    page.locator(".state-line").first.wait_for()
    for width in WIDTHS:
        _check_width(page, width, "a task")
        assert page.evaluate(DETAIL_OVERFLOW) == 0
    page.keyboard.press("Escape")
    expect(page.locator(".task-detail")).to_be_hidden()
    for width in WIDTHS:
        _check_width(page, width, "the list")
        page.locator(".task-row").wait_for()
        assert page.evaluate(WITHOUT_NAME) == [], width


def test_no_page_sticks_out(sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]) -> None:
    """Failures, queues, workers, schedule, bulk actions and audit, with a long name and a queue that is paused."""
    narrator.sent("t-1", "shop." * 12 + "a_function_with_a_rather_long_name", queue="q" * 60)
    narrator.started("t-1")
    narrator.failed("t-1", "m" * 300, error_type="E" * 80)
    for width, locale in itertools.product(WIDTHS, LOCALES):
        page = open_page(sidecar.url, viewport={"width": width, "height": 800}, locale=locale)
        page.request.post(f"{sidecar.url}/api/admin/queue/pause", data={"queue": "q" * 60, "reason": "r" * 200})
        for name in ("failures", "queues", "workers", "schedule", "bulk", "audit"):
            page.goto(f"{sidecar.url}/#/{name}")
            expect(page.locator(f'[data-navigation] [href="#/{name}"][aria-current="page"]:visible')).to_have_count(1)
            expect(page.locator(".page:visible h2")).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
            assert page.evaluate(WITHOUT_NAME) == []


def test_on_a_phone_the_task_is_a_page_of_its_own(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """It covers the list, takes the focus, and gives it back to the row."""
    payload = msgspec.Raw(msgspec.json.encode({"args": list(range(60)), "kwargs": {}}))
    narrator.sent("p-1", arguments=payload)  # more than a screen holds
    page = open_page(sidecar.url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.locator(".task-row").tap()
    expect(page.locator(".task-detail h2")).to_be_focused()
    box = page.locator(".task-detail").bounding_box()
    assert box is not None
    assert (box["x"], box["y"], box["width"]) == (0, 0, 390)
    assert page.evaluate("document.querySelector('#task-list').inert") is True
    expect(page.get_by_role("tree", name="Arguments")).to_be_visible()
    jumps = page.locator(".task-detail__jumps").bounding_box()
    assert jumps is not None
    assert jumps["height"] >= FINGER_PX
    page.locator(".task-detail__close").tap()
    expect(page.locator(".task-detail")).to_be_hidden()
    expect(page.locator('[data-task-id="p-1"] a')).to_be_focused()


def test_motion_stops_for_who_asks(sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]) -> None:
    """With reduced motion nothing turns and nothing fades."""
    narrator.sent("m-1")
    narrator.started("m-1")
    page = open_page(f"{sidecar.url}/#/tasks/m-1", reduced_motion="reduce")
    page.locator(".state-line").first.wait_for()
    assert page.evaluate("document.getAnimations().length") == 0
