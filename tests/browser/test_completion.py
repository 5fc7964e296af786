"""What may come next while a query is typed, saved views, and counts on tabs: the pure parts."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.settling import hold_clock

PRELUDE = """
const { completionAt, completed, proposals, wantedValues } = await import("/completion.js");
const { builtInViews, storedViews, storeViews, withView, withoutView } = await import("/saved-views.js");
const { countOf, restOf } = await import("/counts.js");
const { queryOf } = await import("/query.js");
"""


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("", None, "queue:"),
        ("st", None, "queue:"),
        ("user:a -st", None, "user:a -queue:"),
        ("queue:", "a b", 'queue:"a b"'),
        ("-queue:lo", "low", "-queue:low"),
        ("queue:high,lo", "low", "queue:high,low"),
        ('queue:"a, b', "a, b c", 'queue:"a, b c"'),
        ("x char", "images", "x queue:images"),
    ],
)
def test_a_proposal_takes_the_place_of_what_is_typed(
    modules: Page, text: str, value: str | None, expected: str
) -> None:
    """The words before it, its minus and its other alternatives stay."""
    script = "return completed(given[0], completionAt(given[0]), { field: 'queue', value: given[1] }).text;"
    assert evaluate(modules, script, [text, value]) == expected


@pytest.mark.parametrize(
    ("text", "asked", "offered"),
    [
        ("us", {"field": "name", "part": "us"}, ["user:", "name:found"]),
        ("user:an", {"field": "user", "part": "an"}, ["user:found"]),
        ('-name:x,"sh', {"field": "name", "part": "sh"}, ["name:found"]),
        ("status:c", None, ["status:completed", "status:cancelled"]),
        ("is:", None, ["is:stuck", "is:slow"]),
        ("since:", None, ["since:15m", "since:1h", "since:24h", "since:7d"]),
        ("id:7", None, []),
        ("colour:r", None, []),
    ],
)
def test_what_is_offered(modules: Page, text: str, asked: Any, offered: list[str]) -> None:
    """Fields by their beginning, the words of a field, and what the server knows of real values."""
    script = """
    const completion = completionAt(given);
    const wanted = wantedValues(completion);
    const found = wanted === null ? [] : [{ value: "found", count: 3 }];
    return [wanted, proposals(completion, found).map((one) => one.text)];
    """
    assert evaluate(modules, script, text) == [asked, offered]


def test_own_views_are_kept_by_user(fresh_modules: Page) -> None:
    """A name is there once; what somebody else, or another version, has left is left alone."""
    script = """
    const view = (name, q) => ({ name, q, sort: "name" });
    const kept = withView(withView(withView([], view(" A ", "x")), view("B", "y")), view("A", "z"));
    storeViews("anna", kept);
    localStorage.setItem("oracle.views.igor", '[{"name": 1}, null, {"name": "C", "q": "c", "sort": "-x"}]');
    localStorage.setItem("oracle.views.eve", "{");
    return [storedViews("anna"), storedViews("igor"), storedViews("eve"), withoutView(kept, "A").length,
      withView(kept, view("  ", "q")) === kept];
    """
    assert evaluate(fresh_modules, script) == [
        [{"name": "B", "q": "y", "sort": "name"}, {"name": "A", "q": "z", "sort": "name"}],
        [{"name": "C", "q": "c", "sort": "-x"}],
        [],
        1,
        True,
    ]


def test_built_in_views_are_queries_that_are_understood(modules: Page) -> None:
    """Today begins at the reader's own midnight."""
    script = """
    const viewer = { user_id: "an na", role: "admin" };
    const views = builtInViews(viewer, Date.parse("2026-07-01T22:30:00Z"));
    return [views.map(({ q }) => q), views.flatMap(({ q }) => queryOf(q).wrong), builtInViews(null, 0).length];
    """
    assert evaluate(modules, script) == [
        ["is:stuck", "is:slow since:24h", "status:failed since:2026-07-02T00:00+02:00", 'user:"an na"'],
        [],
        3,
    ]


def test_counts_are_of_the_query_they_were_asked_for(modules: Page) -> None:
    """What the query says of the status is not part of it; what is not known makes the sum unknown."""
    script = """
    const few = { count: 2, is_more: false };
    const many = { count: 9, is_more: true };
    const byStatus = { pending: few, in_progress: few, completed: many, failed: few, cancelled: few };
    const counts = { rest: "user:anna", byStatus };
    const of = (q, status, known = counts) => countOf({ query: queryOf(q), counts: known }, status);
    const unknown = { ...counts, byStatus: { ...counts.byStatus, failed: null } };
    return [of("status:failed user:anna", ""), of("user:anna -status:failed", "failed"), of("user:igor", "failed"),
      of("user:anna", "", unknown), of("user:anna", "failed", unknown),
      restOf(queryOf("status:failed x -status:pending"))];
    """
    few = {"count": 2, "is_more": False}
    assert evaluate(modules, script) == [{"count": 17, "is_more": True}, few, None, None, None, "x"]


def test_counts_are_asked_for_again_as_soon_as_somebody_looks(fresh_modules: Page) -> None:
    """Nobody who comes back finds those of long ago; while nobody looks, nothing is asked."""
    script = """
    const { Counting } = await import("/counting.js");
    const state = { query: queryOf(""), counts: { rest: "" } };
    const seen = globalThis.seen = { isWanted: true, asked: 0 };
    globalThis.fetch = async () => {
      seen.asked += 1;
      return new Response("{}", { headers: { "content-type": "application/json" } });
    };
    seen.counting = Counting({ dispatch() {}, state: () => state, isWanted: () => seen.isWanted });
    seen.look = () => seen.counting.update({ state });
    state.counts.rest = null;
    seen.look();
    state.counts.rest = "";
    """
    minute = 60_000  # ms
    hold_clock(fresh_modules)
    evaluate(fresh_modules, script)
    fresh_modules.clock.run_for(1_000)
    assert fresh_modules.evaluate("seen.asked") == 1
    fresh_modules.evaluate("seen.isWanted = false; seen.look()")
    fresh_modules.clock.run_for(minute)
    assert fresh_modules.evaluate("seen.asked") == 1
    fresh_modules.evaluate("seen.isWanted = true; seen.look()")
    fresh_modules.clock.run_for(100)
    assert fresh_modules.evaluate("seen.asked") == 2


def evaluate(page: Page, script: str, given: Any = None) -> Any:
    return page.evaluate(f"async (given) => {{ {PRELUDE} {script} }}", given)
