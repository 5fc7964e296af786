"""Which tasks are ticked, the pure part and the page's."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.narrator import Narrator

PRELUDE = """
const { reduce, initialState } = await import("/state.js");
const { bulkTarget, isTicked, mayApply, tickedRows } = await import("/selection.js");
const { queryFromAddress, queryOf } = await import("/query.js");
const known = { ...initialState, rows: ["a", "b", "c", "d"], tasks: new Map() };
const tick = (taskId, isRange = false) => ({ type: "rowTicked", taskId, isRange });
const run = (...actions) => actions.reduce(reduce, known);
const ids = (state) => [...state.selection.ids].sort();
"""


@pytest.mark.parametrize(
    ("actions", "ids"),
    [
        ('tick("b")', ["b"]),
        ('tick("b"), tick("b")', []),
        ('tick("b"), tick("d", true)', ["b", "c", "d"]),
        ('tick("d"), tick("b", true)', ["b", "c", "d"]),
        ('tick("a"), tick("c"), tick("d", true)', ["a", "c", "d"]),
        ('tick("c", true)', ["c"]),
        ('tick("b"), tick("c", true), tick("d", true)', ["b", "c", "d"]),
        ('{ type: "rowsHereTicked" }', ["a", "b", "c", "d"]),
        ('{ type: "everythingTicked" }, tick("b")', ["a", "c", "d"]),
        ('tick("b"), { type: "selectionCleared" }', []),
        ('tick("b"), { type: "queryChanged", query: queryFromAddress("?status=failed") }', []),
    ],
)
def test_ticks_and_ranges(modules: Page, actions: str, ids: list[str]) -> None:
    """A range goes from the last row ticked by itself, either way."""
    assert evaluate(modules, f"return ids(run({actions}))") == ids


def test_everything_is_the_filter_not_a_list(modules: Page) -> None:
    """What matches and is not on the page is meant too, in the words of the list."""
    script = """
    const query = queryOf("status:failed charge user:anna");
    const state = run({ type: "queryChanged", query }, { type: "everythingTicked" });
    const { selection, rows } = state;
    const may = ["retry", "cancel"].map((action) => mayApply(action, state));
    return [bulkTarget(selection, query), isTicked(selection, "unknown"), tickedRows(selection, rows), may];
    """
    wanted = {"q": "status:failed charge user:anna"}
    assert evaluate(modules, script) == [{"filter": wanted}, True, "all", [True, False]]


def test_an_action_is_offered_where_it_can_mean_something(modules: Page) -> None:
    """A failed task cannot be cancelled; a task that is not on the page may be anything."""
    script = """
    const tasks = new Map([["a", { status: "failed" }], ["b", { status: "pending" }]]);
    const may = (...ids) => {
      const state = { ...ids.map((id) => tick(id)).reduce(reduce, { ...known, tasks }) };
      return [mayApply("retry", state), mayApply("cancel", state)];
    };
    return [may("a"), may("b"), may("a", "b"), may("c")];
    """
    assert evaluate(modules, script) == [[True, False], [False, True], [True, True], [True, True]]


@pytest.fixture
def four_tasks(page: Page, narrator: Narrator) -> None:
    for number in range(4):
        narrator.sent(f"s-{number}", ago=30 - number)
    expect(page.locator(".task-row")).to_have_count(4)


@pytest.mark.usefixtures("four_tasks")
def test_boxes_are_ticked_with_the_pointer(page: Page) -> None:
    """Shift takes everything between; the bar lies over the head and moves no row."""
    before = page.locator(".task-row").first.bounding_box()
    box(page, 0).click()
    expect(page.locator("#selection-bar > div")).to_be_visible()
    expect(page.locator("#selection-bar [data-extent=rows]")).to_have_text("1 selected")
    box(page, 2).click(modifiers=["Shift"])
    assert ticked(page) == [True, True, True, False]
    assert page.locator(".task-row").first.bounding_box() == before
    expect(page.locator(".task-detail")).to_be_hidden()
    box(page, 1).click()
    assert ticked(page) == [True, False, True, False]
    expect(page.locator("#selection-bar [data-action=retry]")).to_be_disabled()
    page.locator("#selection-bar").get_by_role("button", name="Clear").click()
    assert ticked(page) == [False] * 4
    expect(page.locator("#selection-bar")).to_be_hidden()


@pytest.mark.usefixtures("four_tasks")
def test_boxes_are_ticked_with_keys(page: Page) -> None:
    """x ticks the row, Shift x up to here, Escape clears before it closes anything."""
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Shift+X")
    assert ticked(page) == [True, True, True, False]
    page.keyboard.press("Enter")
    expect(page.locator(".task-detail")).to_be_visible()
    page.keyboard.press("Escape")
    assert ticked(page) == [False] * 4
    expect(page.locator(".task-detail")).to_be_visible()


def box(page: Page, row: int) -> Any:
    return page.locator(".task-row .tick").nth(row)


def ticked(page: Page) -> list[bool]:
    boxes: list[bool] = page.locator(".task-row .tick").evaluate_all("boxes => boxes.map(box => box.checked)")
    return boxes


def evaluate(page: Page, script: str) -> Any:
    return page.evaluate(f"(async () => {{ {PRELUDE} {script} }})()")
