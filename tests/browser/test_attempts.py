"""The attempts of a task and its family, as the page makes them of what the API tells."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

PRELUDE = """
const { attemptsOf } = await import("/attempts.js");
const { familyRows, hasFamily } = await import("/lineage.js");
const fact = (run_id, status, second, reason = null, fields = {}) => ({
  run_id, status, reason, retries: 0, worker: run_id && `w-${run_id}`, origin: "7@host", error_type: null,
  error_message: null, at: new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString(), ...fields,
});
const told = (facts) => attemptsOf(facts).map(({ key, number, outcome, seconds, isAgain, isDouble }) =>
  [key, number, outcome, seconds, isAgain, isDouble]);
"""


def evaluate(page: Page, script: str) -> Any:
    return page.evaluate(f"async () => {{ {PRELUDE} {script} }}")


def test_an_attempt_is_a_run_and_the_newest_comes_first(modules: Page) -> None:
    """What belongs to no run is no attempt; a run that gave its message back has failed if it says so."""
    script = """
    const failure = { error_type: "E", error_message: "no" };
    return told([
      fact(null, "pending", 0, "sent"),
      fact("a", "pending", 1, "received"), fact("a", "in_progress", 2, "started"),
      fact("a", "pending", 5, "retry_scheduled", failure),
      fact(null, "pending", 5, "retry_scheduled", { retries: 1 }),
      fact("b", "pending", 6, "received", { retries: 1 }), fact("b", "pending", 7, "queue_paused", { retries: 1 }),
      fact("c", "in_progress", 8, "started", { retries: 1 }), fact("c", "completed", 9, null, { retries: 1 }),
    ]);
    """
    assert evaluate(modules, script) == [
        ["c", 2, "completed", 1, False, False],
        ["b", 2, "given_back", None, False, False],
        ["a", 1, "retried", 3, False, False],
    ]


def test_a_message_that_came_twice_is_told_as_such(modules: Page) -> None:
    """Again after the first run was over, or while it was still under way; a run without an end goes on."""
    script = """
    return [
      told([fact("a", "in_progress", 1), fact("a", "failed", 3, "worker_lost"),
        fact("b", "pending", 4, "redelivered"), fact("b", "in_progress", 5)]),
      told([fact("a", "in_progress", 1), fact("b", "in_progress", 2), fact("b", "completed", 4),
        fact("a", "completed", 5)]),
      told([fact("a", "pending", 1, "received")]),
      told([fact(null, "cancelled", 1, "cancelled")]),
    ];
    """
    assert evaluate(modules, script) == [
        [["b", 1, "in_progress", None, True, False], ["a", 1, "failed", 2, False, False]],
        [["b", 1, "completed", 2, True, True], ["a", 1, "completed", 4, False, False]],
        [["a", 1, "held", None, False, False]],
        [],
    ]


def test_a_family_is_a_tree_around_the_task(modules: Page) -> None:
    """A parent that nobody tells of is a row without a task; a circle of parents ends."""
    script = """
    const one = (task_id, parent_id) => ({ task_id, parent_id, group_id: null });
    const rows = (task, lineage) => familyRows(task, lineage).map(({ id, task, depth, isSelf }) =>
      [id, task !== null, depth, isSelf]);
    const lone = { ancestors: [], descendants: [], group: null };
    return [
      rows(one("t", "p"), { ancestors: [one("r", "gone"), one("p", "r")], group: null,
        descendants: [one("x", "t"), one("y", "t"), one("xx", "x")] }),
      rows(one("t", "t"), { ...lone, descendants: [one("x", "t"), one("t", "x"), one("x", "x")] }).length,
      [hasFamily(one("t", null), lone), hasFamily(one("t", null), null), hasFamily(one("t", "p"), null)],
    ];
    """
    assert evaluate(modules, script) == [
        [
            ["gone", False, 0, False],
            ["r", True, 1, False],
            ["p", True, 2, False],
            ["t", True, 3, True],
            ["x", True, 4, False],
            ["xx", True, 5, False],
            ["y", True, 4, False],
        ],
        3,
        [False, False, True],
    ]
