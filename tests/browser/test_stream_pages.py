"""The JavaScript of docs/event-stream.md, run in a browser against a real sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar
from tests.pages import block
from tests.polling import eventually
from tests.tokens import token


def wait(page: Page, condition: str) -> None:
    """Playwright's own way would ask the page to evaluate a text, which its policy forbids."""
    eventually(lambda: page.evaluate(condition), condition)


def test_the_event_source_of_a_page(open_page: Callable[..., Page], sidecar: LocalSidecar, narrator: Narrator) -> None:
    """The list, what happens after it, and the list again after a resync."""
    narrator.sent("before")
    page = open_page(f"{sidecar.url}/?q=id:none")
    program = block("event-stream.md", "js", "eventsource")
    page.evaluate(f"async () => {{ {program}; Object.assign(window, {{ shown, stream }}); }}")
    assert page.evaluate("[...shown.keys()]") == ["before"]
    narrator.sent("after")
    wait(page, "shown.get('after')?.status === 'pending'")
    narrator.sent("unseen")
    page.evaluate("shown.clear(); stream.dispatchEvent(new MessageEvent('resync', { data: '{}' }))")
    wait(page, "shown.size === 3")


def test_fetch_with_a_token(open_page: Callable[..., Page], sidecar: LocalSidecar, narrator: Narrator) -> None:
    """Each change once, also where the same is read again from an earlier place."""
    page = open_page(f"{sidecar.url}/?q=id:none")
    program = block("event-stream.md", "js", "fetch")
    start: dict[str, Any] = {"url": sidecar.url, "token": token(role="admin")}
    page.evaluate(
        f"""(start) => {{ {program}
          window.begin = (place) => {{
            const told = [], places = [], ending = new AbortController();
            const tell = (change) => told.push(change && `${{change.task_id}} ${{change.new_status}}`);
            follow({{ ...start, place, tell, keep: (at) => places.push(at), signal: ending.signal }});
            return {{ told, places, ending }};
          }};
          window.first = begin();
        }}""",
        start,
    )
    wait(page, "first.places.length > 0")
    narrator.sent("one")
    wait(page, "first.told.includes('one pending')")
    page.evaluate("first.ending.abort()")
    narrator.sent("missed")
    page.evaluate("window.second = begin(first.places[0])")
    wait(page, "second.told.length >= 2")
    assert page.evaluate("second.told") == ["one pending", "missed pending"]
    page.evaluate("window.third = begin('1.2.3.4.')")
    wait(page, "third.told.includes(null)")
    page.evaluate("second.ending.abort(); third.ending.abort()")
