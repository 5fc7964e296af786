"""A page whose files did not all come says so, and opens itself anew when they can be had."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from playwright.sync_api import Error, Page, Route, expect

from tests.browser.words import LOCALES, Words
from tests.local_processes import LocalSidecar
from tests.polling import eventually

#: Puts a style sheet of somebody else's into the document as soon as it has a body, and says there what became of it.
INJECTED = """
new MutationObserver((_, observer) => {
  if (!document.body) return;
  observer.disconnect();
  const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "http://other.test/it.css" });
  sheet.onerror = () => (document.documentElement.dataset.injected = "error");
  document.body.append(sheet);
}).observe(document, { childList: true, subtree: true });
"""


@pytest.mark.parametrize("lost", ["state.js", "styles.css", "views/bar.js"])
def test_a_file_that_was_lost_is_asked_for_again(
    lost: str, sidecar: LocalSidecar, open_page: Callable[..., Page]
) -> None:
    """A module in the middle, the styles: the page is whole at last, and remembers no failure."""
    page = open_page("about:blank")
    asked: list[str] = []

    def lose_twice(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > 2:
            route.continue_()
        else:
            route.abort("connectionreset")

    page.route(f"**/{lost}", lose_twice)
    with page.expect_request_finished(lambda request: request.url.endswith(f"/{lost}")):
        page.goto(sidecar.url)
    assert len(asked) >= 3
    expect(page.locator('.connection[data-connection="live"]')).to_be_visible()
    eventually(lambda: _failures(page) == "0", "the failures are forgotten")


@pytest.mark.parametrize("language", LOCALES)
def test_what_is_missing_is_told(language: str, sidecar: LocalSidecar, open_page: Callable[..., Page]) -> None:
    """Without any module there are words, in the reader's language, and pauses that grow."""
    word = Words(language)
    page = open_page("about:blank", locale=LOCALES[language])
    page.route("**/main.js", lambda route: route.abort("connectionreset"))
    page.goto(sidecar.url)
    for failures in (1, 2):  # or more by now: the pauses go on while this test is not looking
        eventually(lambda: int(_failures(page) or 0) >= failures, f"{failures} attempts failed")  # noqa: B023  # asked at once
        expect(page.locator(".connection__word")).to_have_text(word("connection.reconnecting"))
        expect(page.locator(".connection__reason")).to_have_text(word("loading.reason"))
    page.unroute("**/main.js")
    expect(page.locator('.connection[data-connection="live"]')).to_be_visible()


def test_what_others_put_into_the_page_is_not_missed(
    sidecar: LocalSidecar, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    """A style sheet of a browser's extension that our policy refuses is no file of ours: the page is opened once."""
    page = open_page("about:blank")
    opened: list[str] = []
    page.on("domcontentloaded", lambda page: opened.append(page.url))
    page.add_init_script(INJECTED)
    page.goto(sidecar.url)
    page.wait_for_selector("html[data-injected=error]")
    expect(page.locator('.connection[data-connection="live"]')).to_be_visible()
    eventually(lambda: _failures(page) == "0", "all files are here")
    assert len(opened) == 1
    assert all("Content Security Policy" in complaint for complaint in complaints)
    complaints.clear()


def _failures(page: Page) -> str | None:
    """None before the first, and while the page is being opened anew."""
    with suppress(Error):
        failures: str | None = page.evaluate("sessionStorage.getItem('oracle.loading.failures')")
        return failures
    return None
