"""What charts, task types and the tab are drawn from: pure, and so tested without a page."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

PRELUDE = """
const statistics = await import("/statistics.js");
const types = await import("/types.js");
const attention = await import("/attention.js");
const { queryOf } = await import("/query.js");
const answer = {
  range: "1h", start: "2026-03-14T14:00:00.000000Z", seconds: 60, completed: Array(60).fill(2),
  failed: Array(60).fill(0), cancelled: Array(60).fill(0), queued: Array(60).fill(5), active: Array(60).fill(null),
  minute: { completed: 2, failed: 0 }, as_of: "2026-03-14T14:59:20.000000Z",
};
const summary = (fields) => ({
  as_of: "2026-03-14T14:59:40.000000Z", queued: 9, active: 3, completed_minute: 7, failed_minute: 1, ...fields });
"""


def test_the_current_bucket_moves_with_the_summary(modules: Page) -> None:
    """Within the minute of the read by what has finished since; a summary of another minute is a reason to read."""
    script = """
    const { withSummary, isOutdated } = statistics;
    const last = (told) => [told.completed, told.failed, told.queued, told.active].map((series) => series.at(-1));
    const later = summary({ as_of: "2026-03-14T15:00:01.000000Z", completed_minute: 1, failed_minute: 0 });
    const older = summary({ as_of: "2026-03-14T14:59:10.000000Z" });
    return [
      last(withSummary(answer, summary({}))), last(withSummary(answer, later)), withSummary(answer, older) === answer,
      withSummary(answer, summary({})).completed.length, withSummary(undefined, null),
      [summary({}), later, older, null].map((told) => isOutdated(answer, told)),
    ];
    """
    assert evaluate(modules, script) == [
        [7, 1, 9, 3],
        [2, 0, 9, 3],
        True,
        60,
        None,
        [False, True, False, False],
    ]


def test_what_is_not_known_is_a_gap_and_never_nought(modules: Page) -> None:
    """In lines, in percentages and in changes."""
    script = """
    const { sparkPaths, barPath, failureSeries, change, anHourAgo, sinceKnown } = statistics;
    return [
      [[[null, null, 4], [null, 2, 3], null], [[null, 7], [null, null]], [[null], null]].map(sinceKnown),
      sparkPaths([null, 1, 2, null, null, 4], { width: 50, height: 40 }).line,
      sparkPaths([null, null], { width: 50, height: 40 }).line,
      barPath([0, null, 4, 1000], { base: 40, height: 40, gap: 0 }),
      failureSeries({ completed: [1, 0, 0], failed: [1, 0, 2] }),
      [change(3, 1), change(3, null), change(undefined, 1)],
      statistics.axisTimes({ range: "1h", start: "2026-03-14T14:04:00Z", seconds: 60, completed: Array(60).fill(0) })
        .map(({ at, time }) => [at.toFixed(2), new Date(time).toISOString().slice(11, 16)]),
      [anHourAgo(Array.from({ length: 30 }, (_, at) => at), 300), anHourAgo([null, 4], 300), anHourAgo(null, 300)],
    ];
    """
    assert evaluate(modules, script) == [
        [[[None, 4], [2, 3], None], [[7, 7], [None, None]], [None, None]],
        "M10 30L20 20M50 0L55 0",
        "",
        "M2 40h1v-1.5h-1zM3 40h1v-40h-1z",
        [50, None, 100],
        [2, None, None],
        [["0.10", "14:10"], ["0.27", "14:20"], ["0.43", "14:30"], ["0.60", "14:40"], ["0.77", "14:50"]],
        [17, None, None],
    ]


def test_a_span_is_a_term_and_a_term_a_span(modules: Page) -> None:
    """There and back; an open end is now; what this range does not show, or two terms say, is no span."""
    script = """
    const { spanValue, spanOfQuery, withoutSpan } = statistics;
    const of = (text) => spanOfQuery(queryOf(text), answer);
    return [
      spanValue(answer, { from: 10, to: 20 }), spanValue(answer, { from: 50, to: 60 }),
      of(`created:${spanValue(answer, { from: 10, to: 20 })} user:anna`),
      of(`created:${spanValue(answer, { from: 50, to: 60 })}`),
      of("created:2026-03-14T13:00:00Z..2026-03-14T14:30:00Z"),
      of("created:2026-03-13T13:00:00Z..2026-03-13T14:30:00Z"),
      of("-created:2026-03-14T14:10:00Z.."), of("user:anna"),
      withoutSpan(queryOf("user:anna created:2026-03-14T14:10:00Z.. colour:red")),
    ];
    """
    assert evaluate(modules, script) == [
        "2026-03-14T14:10:00Z..2026-03-14T14:20:00Z",
        "2026-03-14T14:50:00Z..",
        {"from": 10, "to": 20},
        {"from": 50, "to": 60},
        {"from": 0, "to": 30},
        None,
        None,
        None,
        "user:anna colour:red",
    ]


def test_a_hand_moves_whole_buckets(modules: Page) -> None:
    """Ends never pass each other nor the range; a click is no drag."""
    script = """
    const { movedSpan, draggedSpan } = statistics;
    const span = { from: 10, to: 20 };
    return [
      movedSpan(span, "from", 12.4, 60), movedSpan(span, "from", 30, 60), movedSpan(span, "from", -5, 60),
      movedSpan(span, "to", 5, 60), movedSpan(span, "to", 99, 60),
      draggedSpan(10.2, 10.4, 60), draggedSpan(20.5, 10.2, 60), draggedSpan(-4, 70, 60),
    ].map((one) => one && [one.from, one.to]);
    """
    assert evaluate(modules, script) == [[12, 20], [19, 20], [0, 20], [10, 11], [10, 60], None, [10, 21], [0, 60]]


def test_types_are_sorted_filtered_and_on_one_scale(modules: Page) -> None:
    """Unknown figures come last either way; the scale's ends are powers of ten around all of them."""
    script = """
    const { arranged, arrangementOf, parametersOf, nextTypeSort, scaleOf, placeOn, decades } = types;
    const type = (name, p95, failure_percent) => ({
      name, finished: 1, per_minute: 0, failure_percent, runtime: p95 && { p50: p95 / 4, p95 }, wait: null });
    const all = [type("b.pay", 2, 50), type("a.mail", null, null), type(null, 80, 0)];
    const order = (sort, name = "") => arranged(all, { sort, name }).map((one) => one.name);
    const scale = scaleOf(all);
    return [
      order("runtime_p95"), order("-runtime_p95"), order("name"), order("-failure", "PAY"),
      scale, placeOn(scale, 1).toFixed(3), placeOn(scale, 5000), decades(scale).map(({ seconds }) => seconds),
      scaleOf([]),
      arrangementOf({ sort: "__proto__" }).sort, parametersOf({ sort: "-finished", name: "x" }),
      nextTypeSort("-finished", "finished"), nextTypeSort("-finished", "name"),
    ];
    """
    assert evaluate(modules, script) == [
        ["b.pay", None, "a.mail"],
        [None, "b.pay", "a.mail"],
        ["a.mail", "b.pay", None],
        ["b.pay"],
        {"low": -1, "high": 2},
        "0.333",
        1,
        [0.1, 1, 10, 100],
        {"low": -2, "high": 1},
        "-finished",
        {"sort": "", "name": "x"},
        "finished",
        "name",
    ]


def test_the_tab_counts_failures_while_nobody_looks(modules: Page) -> None:
    """Each task once, none while somebody looks; after a gap the number is a lower bound."""
    script = """
    const { NOTHING_FAILED, afterGap, tabOf, whileLooking, withFailures } = attention;
    const facts = (...ids) => ids.map((task_id) => ({ task_id, new_status: "failed" }));
    const away = whileLooking(NOTHING_FAILED, false);
    const told = (one) => tabOf(one, "Oracle", String);
    const both = [...facts("a", "b"), { task_id: "c", new_status: "completed" }];
    const two = withFailures(withFailures(away, both), facts("a"));
    return [
      told(withFailures(NOTHING_FAILED, facts("a"))), told(two), told(afterGap(two)), told(afterGap(away)),
      told(whileLooking(two, true)), afterGap(NOTHING_FAILED) === NOTHING_FAILED,
    ];
    """
    assert evaluate(modules, script) == [
        {"title": "Oracle", "isFailing": False},
        {"title": "(2) Oracle", "isFailing": True},
        {"title": "(2+) Oracle", "isFailing": True},
        {"title": "Oracle", "isFailing": False},
        {"title": "Oracle", "isFailing": False},
        True,
    ]


def test_a_tab_that_was_opened_in_the_background_counts_from_the_start(fresh_modules: Page) -> None:
    """Nobody has looked at it yet."""
    script = """
    Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
    document.head.append(Object.assign(document.createElement("link"), { rel: "icon", href: "data:," }));
    const { Tab } = await import("/views/tab.js");
    Tab().takeFacts([{ task_id: "a", new_status: "failed" }]);
    return document.title;
    """
    assert evaluate(fresh_modules, script) == "(1) Oracle"


def evaluate(page: Page, script: str) -> Any:
    return page.evaluate(f"async () => {{ {PRELUDE} {script} }}")
