"""The stream's own promises, with a false EventSource and a clock that is moved by hand; and a fresh start for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.browser.narrator import Narrator
from tests.browser.settling import hold_clock
from tests.local_processes import LocalSidecar

SETTING = """
async () => {
  window.sources = [];
  window.EventSource = class extends EventTarget {
    static CONNECTING = 0; static OPEN = 1; static CLOSED = 2;
    constructor(url) { super(); this.url = url; this.readyState = 0; sources.push(this); }
    close() { this.readyState = 2; }
    open() { this.readyState = 1; this.dispatchEvent(new Event("open")); }
    fail(readyState) { this.readyState = readyState; this.dispatchEvent(new Event("error")); }
    tell(type, data, lastEventId = "") {
      this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data), lastEventId }));
    }
  };
  const { TaskStream } = await import("/stream.js");
  window.stream = new TaskStream();
  window.heard = [];
  for (const type of ["facts", "summary", "resync", "connection"]) {
    stream.addEventListener(type, (event) => heard.push([type, event.detail]));
  }
  stream.start("cursor-0");
}
"""


def test_a_silent_stream_is_deaf_until_it_brings_an_event(fresh_modules: Page) -> None:
    """Open is not live: after 45 s without a heartbeat the page says so, tries anew, and believes only an event."""
    _set(fresh_modules)
    fresh_modules.evaluate("sources[0].open()")
    fresh_modules.clock.run_for(40_000)
    assert _connections(fresh_modules) == ["live"]
    fresh_modules.evaluate("sources[0].tell('heartbeat', {}, 'cursor-1')")
    fresh_modules.clock.run_for(40_000)
    assert _connections(fresh_modules) == ["live"]
    fresh_modules.clock.run_for(10_000)
    assert _connections(fresh_modules) == ["live", "deaf"]
    fresh_modules.evaluate("sources.at(-1).open()")
    assert _connections(fresh_modules) == ["live", "deaf"]
    assert fresh_modules.evaluate("sources.at(-1).url") == "/api/tasks/subscribe?after=cursor-1"
    fresh_modules.evaluate("sources.at(-1).tell('summary', {})")
    assert _connections(fresh_modules) == ["live", "deaf", "live"]


def test_a_stream_that_the_browser_gave_up_goes_on_from_the_last_id(fresh_modules: Page) -> None:
    """After an answer other than 200 a new one is opened, after a pause that grows."""
    _set(fresh_modules)
    fresh_modules.evaluate("sources[0].open()")
    fresh_modules.evaluate("sources[0].tell('task', { history_id: 1, task_id: 'a' }, 'cursor-9')")
    fresh_modules.evaluate("sources[0].fail(2)")
    assert _connections(fresh_modules) == ["live", "reconnecting"]
    assert fresh_modules.evaluate("sources.length") == 1
    fresh_modules.clock.run_for(1_000)
    assert fresh_modules.evaluate("sources.at(-1).url") == "/api/tasks/subscribe?after=cursor-9"
    for _ in range(6):
        fresh_modules.evaluate("sources.at(-1).fail(2)")
        fresh_modules.clock.run_for(30_000)
    before = fresh_modules.evaluate("sources.length")
    fresh_modules.evaluate("sources.at(-1).fail(2)")
    fresh_modules.clock.run_for(10_000)
    assert fresh_modules.evaluate("sources.length") == before


def test_the_browsers_own_reconnect_is_left_alone(fresh_modules: Page) -> None:
    """While it tries by itself, with Last-Event-ID, nobody opens a second stream; an attempt that hangs is given up."""
    _set(fresh_modules)
    fresh_modules.evaluate("sources[0].open()")
    for _ in range(4):
        fresh_modules.evaluate("sources[0].fail(0)")
        fresh_modules.clock.run_for(30_000)
    assert fresh_modules.evaluate("sources.length") == 1
    fresh_modules.clock.run_for(30_000)
    assert fresh_modules.evaluate("sources.map(({ readyState }) => readyState)") == [2, 0]
    assert _connections(fresh_modules) == ["live", "reconnecting"]


def test_a_replay_is_told_once_and_bursts_together(fresh_modules: Page) -> None:
    """What a reconnect repeats is dropped; facts of one moment are one event."""
    _set(fresh_modules)
    fresh_modules.evaluate("[1, 2, 2, 3, 1].forEach((id) => sources[0].tell('task', { history_id: id, task_id: 'a' }))")
    fresh_modules.clock.run_for(1_000)
    facts = [detail for kind, detail in fresh_modules.evaluate("heard") if kind == "facts"]
    assert [[fact["history_id"] for fact in burst] for burst in facts] == [[1, 2, 3]]


def test_a_cursor_that_nobody_can_serve_leads_to_a_fresh_start(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """The server says resync, the page reads everything again and goes on live, without a reload."""
    page = open_page("about:blank")
    narrator.sent("before")
    page.route("**/api/tasks?*", _with_a_foreign_cursor, times=1)
    page.goto(sidecar.url)
    expect(page.locator('.connection[data-connection="live"]')).to_be_visible()
    expect(page.locator(".task-row")).to_have_count(1)
    narrator.sent("after")
    expect(page.locator(".task-row")).to_have_count(2)


def test_a_list_that_takes_too_long_keeps_no_news_away(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """The page says what to do about the list, is live all the same, and shows nothing that may be old."""
    narrator.sent("before")
    page = open_page("about:blank")
    page.route("**/api/tasks?q=*", _too_broad)
    page.goto(f"{sidecar.url}/?q=name:shop.*")
    expect(page.locator('.connection[data-connection="live"]')).to_be_visible()
    expect(page.locator("#filters")).to_contain_text("narrow it down")
    expect(page.locator(".task-row")).to_have_count(0)
    narrator.sent("after")
    expect(page.locator(".task-row")).to_have_count(1)


def test_a_page_that_begins_anew_is_not_live_before_its_list_is_there(
    sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]
) -> None:
    """The stream has a gap and the server cannot tell what is in it: what is shown may be old, and that is said."""
    page = open_page("about:blank")
    narrator.sent("before")
    answers = iter([_with_a_foreign_cursor])
    page.route("**/api/tasks?*", lambda route: next(answers, _unavailable)(route))
    page.goto(sidecar.url)
    expect(page.locator(".task-row")).to_have_count(1)
    expect(page.locator(".connection__word")).to_have_text("Reconnecting")
    page.unroute("**/api/tasks?*")
    expect(page.locator(".connection__word")).to_have_text("Live")
    narrator.sent("after")
    expect(page.locator(".task-row")).to_have_count(2)


def test_the_page_of_somebody_in_between_is_no_answer(sidecar: LocalSidecar, open_page: Callable[..., Page]) -> None:
    """A proxy that answers everything with a page of its own is waited for, like a server that is away."""
    page = open_page("about:blank")
    page.route("**/api/tasks?*", lambda route: route.fulfill(body="<p>Sign in", content_type="text/html"))
    page.goto(sidecar.url)
    expect(page.locator(".connection__word")).to_have_text("Reconnecting")
    page.unroute("**/api/tasks?*")
    expect(page.locator(".connection__word")).to_have_text("Live")


def test_a_view_that_cannot_be_drawn_stops_no_other(page: Page, narrator: Narrator, complaints: list[str]) -> None:
    """A mistake in one part of the page is told to the browser, and the rest goes on."""
    page.evaluate(
        """() => Object.defineProperty(document.querySelector(".who__user"), "textContent",
        { set() { throw new Error("made by this test") }, get: () => "" })"""
    )
    narrator.sent("t-1")
    expect(page.locator(".task-row")).to_have_count(1)
    page.close()  # it would go on complaining
    assert set(complaints) == {"uncaught: made by this test"}
    complaints.clear()


def test_a_sidecar_that_cannot_hear_is_told_as_such(sidecar: LocalSidecar, open_page: Callable[..., Page]) -> None:
    """A live stream of a deaf server is no live page."""
    page = open_page("about:blank")
    body = json.dumps({"status": "ok", "database": "ok", "listener": "deaf", "schema": "ok"})
    page.route("**/readyz", lambda route: route.fulfill(body=body, content_type="application/json"))
    page.goto(sidecar.url)
    expect(page.locator(".connection__word")).to_have_text("Cannot hear")
    expect(page.locator(".connection")).to_contain_text(
        "The server is there but does not hear PostgreSQL. Changes may come late."
    )


def _too_broad(route: Route) -> None:
    route.fulfill(status=422, json={"error": {"code": "too_broad", "message": "It took too long: narrow it down."}})


def _unavailable(route: Route) -> None:
    route.fulfill(status=503, json={"error": {"code": "database_unavailable", "message": "Try again in a moment."}})


def _with_a_foreign_cursor(route: Route) -> None:
    answer = route.fetch()
    route.fulfill(response=answer, json=answer.json() | {"cursor": "not-a-cursor-of-this-database"})


def _set(page: Page) -> None:
    hold_clock(page)
    page.evaluate(SETTING)


def _connections(page: Page) -> list[Any]:
    return [detail for kind, detail in page.evaluate("heard") if kind == "connection"]
