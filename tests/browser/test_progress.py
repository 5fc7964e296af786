"""The bar of a running task: what it understands, and that it comes, moves and goes by itself."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.narrator import Narrator
from tests.local_processes import LocalSidecar

#: What a task told, and (per cent, words) of it.
SHAPES = [
    ({"current": 3, "total": 12, "text": "charging"}, (25, "charging · 3 / 12")),
    ({"done": 1, "total": 3}, (33, "1 / 3")),
    ({"current": 5, "total": 0}, (None, "5")),
    ({"progress": 0.5}, (50, "")),
    ({"progress": 50}, (50, "")),
    ({"percent": 250}, (100, "")),
    ({"percent": -1, "status": "<b>"}, (0, "<b>")),
    (0.75, (75, "")),
    ("loading", (None, "loading")),
    ({"step": "loading", "current": "x"}, (None, "loading")),
    ({"rows": {"ok": 3}}, (None, '{"rows":{"ok":3}}')),
    ([1, 2], (None, "[1,2]")),
    (None, (None, "")),
]


def test_common_shapes_are_understood(modules: Page) -> None:
    """And whatever else a task tells is a text; of two words the newer stays, of an earlier run none."""
    told = modules.evaluate(
        """async (metas) => {
      const { barOf, progressOf, progressActions: act } = await import("/progress.js");
      const bars = metas.map((meta) => barOf({ meta, state: "PROGRESS" }));
      const word = (at, meta) => ({ task_id: "t", at: `2026-01-01T00:00:0${at}`, meta, state: null });
      let progress = act.progressArrived(new Map(), { words: [word(3, "new"), word(2, "old")] });
      const of = (status, at) => progressOf(progress, { task_id: "t", status, started_at: `2026-01-01T00:00:0${at}` });
      return { bars: bars.map(({ fraction, text }) => [fraction === null ? null : Math.floor(fraction * 100), text]),
        own: barOf({ meta: null, state: "CHARGING" }).text,
        shown: [of("in_progress", 1)?.meta, of("in_progress", 4), of("completed", 1)] };
    }""",
        [meta for meta, _ in SHAPES],
    )
    assert told["bars"] == [list(bar) for _, bar in SHAPES]
    assert told["own"] == "CHARGING"
    assert told["shown"] == ["new", None, None]


def test_a_bar_comes_moves_and_goes(sidecar: LocalSidecar, narrator: Narrator, open_page: Callable[..., Page]) -> None:
    """With the panel, and over the stream; a task that has ended has none."""
    narrator.sent("t")
    narrator.started("t")
    narrator.progressed("t", {"current": 1, "total": 4})
    page = open_page(f"{sidecar.url}/#/tasks/t")
    bar = page.get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "25")
    page.locator('.connection[data-connection="live"]').wait_for()
    narrator.progressed("t", {"current": 3, "total": 4, "text": "<i>nearly</i> there"})
    expect(bar).to_have_attribute("aria-valuenow", "75")
    expect(page.locator(".task-progress__text")).to_have_text("<i>nearly</i> there · 3 / 4")
    row = page.locator('[data-task-id="t"] .column-runtime')
    expect(row).to_have_class("column-runtime has-progress")
    assert row.evaluate("(cell) => cell.style.getPropertyValue('--done')") == "0.75"
    narrator.completed("t")
    expect(bar).to_be_hidden()
    expect(row).to_have_class("column-runtime")
