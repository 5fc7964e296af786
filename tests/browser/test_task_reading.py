"""When the opened task is read, with answers that are given by hand and a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.settling import SETTLE, hold_clock

SETTING = (
    """
async () => {
  window.asked = [];
  window.fetch = (address) => new Promise((answer, fail) => asked.push({
    answer: async (changes) => {
      const task = { task_id: "a", name: "x", status: "pending", version: [0, null, 0], ...changes.task };
      answer(Response.json({ history: [], ...changes, task }, { status: changes.status ?? 200 }));
      await settle();
    },
    fail: async () => {
      fail(new TypeError("nobody answers"));
      await settle();
    },
  }));
"""
    + SETTLE
    + """  const { reduce, initialState } = await import("/state.js");
  const { TaskReading } = await import("/task-reading.js");
  window.state = initialState;
  window.told = [];
  window.dispatch = (action) => (state = reduce(state, action));
  const reading = TaskReading({ dispatch, state: () => state, tell: (task) => told.push(task.task_id) });
  window.read = (times = 1) => { // which nobody waits for here
    for (let time = 0; time < times; time += 1) reading.read();
  };
  window.reading = reading;
  dispatch({ type: "taskOpened", taskId: "a" });
}
"""
)


@pytest.fixture
def opened(fresh_modules: Page) -> Page:
    """Task "a" is opened."""
    hold_clock(fresh_modules)
    fresh_modules.evaluate(SETTING)
    return fresh_modules


def test_a_late_older_answer_does_not_take_the_place_of_a_newer_one(opened: Page) -> None:
    """Nor does the failure of an older question; an answer that is newer than what is shown is not waited out."""
    opened.evaluate("read(4)")
    seen = [
        opened.evaluate(
            f"""async () => {{
              await asked[{number}].answer({{ history: [{number}] }});
              return state.detail.history;
            }}"""
        )
        for number in (1, 2, 0)
    ]
    assert seen == [[1], [2], [2]]
    opened.evaluate("asked[3].answer({ history: [3] })")
    opened.evaluate("read(2)")
    assert _detail(opened, "asked[5].answer({ history: [5] })") == ["ready", [5]]
    assert _detail(opened, "asked[4].fail()") == ["ready", [5]]
    assert opened.evaluate("told") == ["a"]


def test_a_task_that_could_not_be_read_is_read_again(opened: Page) -> None:
    """After a pause, until somebody answers; what will not pass is not asked for again."""
    opened.evaluate("read()")
    assert _detail(opened, "asked[0].fail()") == ["failed", []]
    opened.clock.run_for(5_000)
    assert _detail(opened, "asked[1].answer({ status: 503 })") == ["failed", []]
    opened.clock.run_for(5_000)
    assert _detail(opened, "asked[2].answer({ history: [2] })") == ["ready", [2]]
    opened.evaluate("read()")
    assert _detail(opened, "asked[3].answer({ status: 404 })") == ["failed", [2]]
    opened.clock.run_for(60_000)
    assert opened.evaluate("asked.length") == 4


def test_a_message_that_is_stored_after_the_end_is_asked_for(opened: Page) -> None:
    """A few times for each end of a task: else a task that has just failed could not be retried until somebody opens it
    anew."""
    missing = "control: { retry: { allowed: false, missing: 'not_kept' } }"
    opened.evaluate("read()")
    for number in range(4):
        _detail(opened, f"asked[{number}].answer({{ {missing} }})")
        opened.clock.run_for(5_000)
    assert opened.evaluate("asked.length") == 4
    opened.evaluate("read()")
    _detail(opened, f"asked[4].answer({{ {missing}, task: {{ version: [1, null, 0] }} }})")
    opened.clock.run_for(5_000)
    _detail(opened, "asked[5].answer({ control: { retry: { allowed: true, missing: null } } })")
    opened.clock.run_for(60_000)
    assert opened.evaluate("asked.length") == 6


def test_what_was_asked_for_a_former_viewer_is_for_nobody(opened: Page) -> None:
    """Not even where the next one opens the same task."""
    opened.evaluate("read(), reading.readSoon(), reading.forget()")
    opened.clock.run_for(1_000)
    assert _detail(opened, "asked[0].answer({ history: [0] })") == ["loading", []]
    opened.evaluate("read()")
    assert _detail(opened, "asked[1].answer({ history: [1] })") == ["ready", [1]]
    assert opened.evaluate("asked.length") == 2


def _detail(page: Page, act: str) -> Any:
    return page.evaluate(f"async () => {{ await {act}; return [state.detail.phase, state.detail.history]; }}")
