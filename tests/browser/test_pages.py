"""When the pages beside the list are read, with a server of this test's own and a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.settling import SETTLE, hold_clock

SETTING = (
    """
async () => {
  window.asked = [];
  window.isHidden = false;
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  window.answers = {}; // by the beginning of an address; what is not there, nobody answers
  window.fetch = async (address) => {
    asked.push(address);
    const found = Object.keys(answers).find((start) => address.startsWith(start));
    if (found === undefined) throw new TypeError("nobody answers");
    return Response.json(await answers[found](new URL(address, location.href).searchParams));
  };
"""
    + SETTLE
    + """  const { reduce, initialState } = await import("/state.js");
  const { Pages } = await import("/pages.js");
  const { routeFromHash } = await import("/route.js");
  window.state = reduce(initialState, { type: "sessionOpened", viewer: { user_id: "anna", role: null } });
  const dispatch = (action) => (window.state = reduce(state, action));
  window.pages = Pages({ dispatch, state: () => state });
  window.go = async (hash) => {
    dispatch({ type: "routeChanged", route: routeFromHash(hash) });
    pages.open();
    await settle();
  };
}
"""
)
#: A bulk of 350 tasks, and what came of the first `done` of them.
BULK = """
(done) => {
  const state = done < 350 ? "running" : "finished";
  const bulk = { bulk_id: "b", action: "cancel", total: 350, done, state, outcomes: {} };
  answers["/api/bulk/b/items"] = (search) => {
    const [after, limit] = [Number(search.get("after")), Number(search.get("limit"))];
    const numbers = Array.from({ length: Math.min(limit, 350 - after) }, (_, at) => after + at + 1);
    const outcome = (number) => (number <= done ? "cancelled" : null);
    const items = numbers.map((number) => ({ number, task_id: `t-${number}`, outcome: outcome(number) }));
    return { items, next: after + limit < 350 ? after + limit : null };
  };
  answers["/api/bulk/b"] = () => bulk;
  return bulk;
}
"""


@pytest.fixture
def pages(fresh_modules: Page) -> Page:
    """Somebody is in; no page is open yet."""
    hold_clock(fresh_modules)
    fresh_modules.evaluate(SETTING)
    fresh_modules.evaluate(f"() => {{ window.become = {BULK}; }}")
    return fresh_modules


def test_what_could_not_be_read_is_read_again(pages: Page) -> None:
    """The audit and a bulk have no news that would bring them: they are asked for until somebody answers."""
    pages.evaluate("go('#/audit?actor=anna')")
    assert pages.evaluate("[state.audit.entries, state.audit.error.code]") == [None, "unreachable"]
    pages.evaluate("() => { answers['/api/admin/audit'] = () => ({ entries: [{ audit_id: 1 }], next: null }); }")
    _wait(pages, 4_000)
    assert pages.evaluate("[state.audit.entries.length, state.audit.error]") == [1, None]
    pages.evaluate("go('#/bulk/b')")
    assert pages.evaluate("[state.bulk.opened, state.bulk.error.code]") == [None, "unreachable"]
    pages.evaluate("() => { become(350); }")
    _wait(pages, 4_000)
    assert pages.evaluate("[state.bulk.opened.done, state.bulk.items.length, state.bulk.error]") == [350, 100, None]
    asked = pages.evaluate("asked.length")
    _wait(pages, 60_000)
    assert pages.evaluate("asked.length") == asked


def test_what_is_left_is_not_read_again(pages: Page) -> None:
    """Another address is open by then."""
    pages.evaluate("go('#/audit')")
    pages.evaluate("() => { answers['/api/bulk'] = () => ({ bulks: [] }); }")
    pages.evaluate("go('#/bulk')")
    pages.evaluate("go('#/tasks')")
    _wait(pages, 60_000)
    assert pages.evaluate("asked") == ["/api/admin/audit?limit=50", "/api/bulk"]


def test_a_failure_that_comes_late_says_nothing_of_what_is_shown_by_then(pages: Page) -> None:
    """Neither that of the former filter of the audit, nor that of the former bulk, nor that of the list of bulks."""
    pages.evaluate(
        """() => {
      window.failLate = [];
      const late = () => new Promise((_, fail) => failLate.push(() => fail(new TypeError("nobody answers"))));
      answers["/api/admin/audit"] = (search) =>
        search.get("actor") === "slow" ? late() : { entries: [{ audit_id: 1 }], next: null };
      become(350);
      answers["/api/bulk/slow"] = late;
      answers["/api/bulk"] = late;
    }"""
    )
    pages.evaluate("go('#/audit?actor=slow')")
    pages.evaluate("go('#/audit?actor=anna')")
    pages.evaluate("async () => { failLate[0](); await settle(); }")
    assert pages.evaluate("[state.audit.entries.length, state.audit.error, state.audit.isReading]") == [1, None, False]
    for address in ("#/bulk", "#/bulk/slow", "#/bulk/b"):
        pages.evaluate("address => go(address)", address)
    pages.evaluate("async () => { failLate[1](); failLate[2](); await settle(); }")
    assert pages.evaluate("[failLate.length, state.bulk.opened.bulk_id, state.bulk.error]") == [3, "b", None]
    _wait(pages, 4_000)
    assert pages.evaluate("failLate.length") == 3


def test_a_bulk_whose_end_nobody_told_comes_to_its_end(pages: Page) -> None:
    """It is read again while somebody looks, with its items; one that has ended is not."""
    pages.evaluate("() => { become(30); }")
    pages.evaluate("go('#/bulk/b')")
    asked = pages.evaluate("asked.length")
    pages.evaluate("() => { isHidden = true; become(350); }")
    _wait(pages, 60_000)
    assert pages.evaluate("asked.length") == asked
    pages.evaluate("() => { isHidden = false; }")
    _wait(pages, 2_000)
    _wait(pages, 2_000)
    assert pages.evaluate("[state.bulk.opened.state, state.bulk.opened.done]") == ["finished", 350]
    assert _items(pages) == [100, 100, 100]
    asked = pages.evaluate("asked.length")
    _wait(pages, 60_000)
    assert pages.evaluate("asked.length") == asked


def test_the_list_of_bulks_goes_on_by_itself(pages: Page) -> None:
    """Not faster than it is answered, and what could not be read once is no failure any more when it is."""
    pages.evaluate("() => { answers['/api/bulk'] = () => ({ bulks: [become(30)] }); }")
    pages.evaluate("go('#/bulk')")
    pages.evaluate("() => { answers['/api/bulk'] = () => { throw new TypeError('nobody answers'); }; }")
    _wait(pages, 6_000)
    assert pages.evaluate("[state.bulk.recent[0].done, state.bulk.error.code]") == [30, "unreachable"]
    pages.evaluate("() => { answers['/api/bulk'] = () => ({ bulks: [become(350)] }); }")
    _wait(pages, 6_000)
    assert pages.evaluate("[state.bulk.recent[0].state, state.bulk.error]") == ["finished", None]
    pages.evaluate("() => { answers['/api/bulk'] = () => new Promise(() => {}); }")
    _wait(pages, 6_000)
    asked = pages.evaluate("asked.length")
    _wait(pages, 10_000)
    assert pages.evaluate("asked.length") == asked


def test_every_item_that_is_shown_tells_what_came_of_it(pages: Page) -> None:
    """Further pages of a bulk's tasks go on with it, too, and stay as many as they were."""
    pages.evaluate("() => { become(30); }")
    pages.evaluate("go('#/bulk/b')")
    pages.evaluate("async () => { pages.readMoreItems(); await settle(); }")
    assert _items(pages) == [200, 30, 200]
    pages.evaluate("() => { pages.takeBulk(become(350)); }")
    _wait(pages, 2_000)
    assert _items(pages) == [200, 200, 200]
    pages.evaluate("async () => { pages.readMoreItems(); await settle(); pages.readMoreItems(); await settle(); }")
    assert _items(pages) == [350, 350, None]


def test_a_bulks_items_are_read_not_faster_than_a_person(pages: Page) -> None:
    """Events of a moment lead to one reading, a later one to one more: what was said last is read after it was said."""
    pages.evaluate("() => { become(30); }")
    pages.evaluate("go('#/bulk/b')")
    before = pages.evaluate("asked.length")
    pages.evaluate("() => { pages.takeBulk(become(40)); pages.takeBulk(become(50)); }")
    _wait(pages, 1_100)
    assert _items(pages) == [100, 50, 100]
    pages.evaluate("() => { pages.takeBulk(become(100)); }")
    _wait(pages, 1_100)
    assert _items(pages) == [100, 100, 100]
    assert pages.evaluate("asked.length") == before + 2


def test_items_that_were_not_understood_are_read_again(pages: Page) -> None:
    """Whatever one answer was, the next event brings another one."""
    pages.evaluate("() => { become(30); }")
    pages.evaluate("go('#/bulk/b')")
    pages.evaluate(
        "() => { const bulk = become(40); answers['/api/bulk/b/items'] = () => null; pages.takeBulk(bulk); }"
    )
    _wait(pages, 1_100)
    assert _items(pages) == [100, 30, 100]
    pages.evaluate("() => { pages.takeBulk(become(50)); }")
    _wait(pages, 1_100)
    assert _items(pages) == [100, 50, 100]


def _wait(page: Page, milliseconds: int) -> None:
    page.clock.run_for(milliseconds)
    page.evaluate("settle()")


def _items(page: Page) -> Any:
    """How many are shown, how many of them are done, and after which there are more."""
    return page.evaluate(
        "[state.bulk.items.length, state.bulk.items.filter(({ outcome }) => outcome !== null).length, state.bulk.next]"
    )
