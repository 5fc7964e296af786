"""Which installation this is stands beside the page's name, and the tab tells of failures while nobody looks."""

# ruff: noqa: RUF001  # en dashes are what is tested

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar
from tests.polling import eventually

HIDE = """(isHidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
def sidecar(database: str, tmp_path: Path, start_sidecar: Callable[..., LocalSidecar]) -> LocalSidecar:
    """That of a production, in red."""
    place = {"PAGE_APP_DATABASE": database, "PAGE_APP_STATE": str(tmp_path / "state")}
    return start_sidecar(
        "tests.browser.page_app", env=place | {"PAGE_APP_ENVIRONMENT": "production", "PAGE_APP_COLOR": "red"}
    )


def test_the_environment_and_failures_are_told(page: Page, narrator: Narrator) -> None:
    """By a badge, which leaves room for the buttons on a narrow phone, the title and the icon; failures count until
    somebody looks; a logout leaves nothing."""
    badge = page.locator(".bar__environment")
    expect(badge).to_have_text("production")
    expect(badge).to_have_css("background-color", "rgb(185, 49, 9)")
    page.set_viewport_size({"width": 320, "height": 640})
    eventually(lambda: page.evaluate("document.documentElement.scrollWidth") == 320, "the page is as narrow")
    assert (badge.bounding_box() or {})["width"] > 40
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(page).to_have_title("production – Oracle")
    calm = _icon(page)
    page.evaluate(HIDE, True)
    for number in range(2):
        narrator.sent(f"f-{number}")
        narrator.started(f"f-{number}")
        narrator.failed(f"f-{number}")
    expect(page).to_have_title("(2) production – Oracle")
    assert _icon(page) == calm.replace("7d991a", "b93109") != calm
    page.evaluate(HIDE, False)
    expect(page).to_have_title("production – Oracle")
    assert _icon(page) == calm
    page.evaluate(HIDE, True)
    narrator.sent("f-2")
    narrator.started("f-2")
    narrator.failed("f-2")
    expect(page).to_have_title("(1) production – Oracle")
    page.locator("#logout-button").click()
    expect(page).to_have_title("Oracle")
    expect(badge).to_be_hidden()


def _icon(page: Page) -> str:
    return page.locator('link[rel="icon"]').get_attribute("href") or ""
