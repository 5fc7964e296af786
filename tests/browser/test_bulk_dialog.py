"""The dialog that asks before many tasks are meant, with previews given by hand and a clock that is moved by hand."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.settling import SETTLE, hold_clock

SETTING = (
    """
async () => {
  const file = await (await fetch("/index.html")).text();
  const given = new DOMParser().parseFromString(file, "text/html");
  document.body.replaceChildren(given.querySelector("#bulk-dialog"), ...given.querySelectorAll("template"));
"""
    + SETTLE
    + """  const { loadLanguage } = await import("/locale.js");
  const { ApiError } = await import("/api.js");
  const { BulkDialog } = await import("/views/bulk-dialog.js");
  await loadLanguage("en");
  window.asked = [];
  const preview = (wanted) => new Promise((answer, fail) => asked.push({
    wanted,
    find: (eligible) => (answer({ eligible, ineligible: [], sample: [] }), settle()),
    fail: (status, code) => (fail(new ApiError({ status, code, message: `because ${code}` })), settle()),
  }));
  window.dialog = document.querySelector("dialog");
  const bulk = BulkDialog(dialog, { preview, confirm: async () => {}, fallback: () => {} });
  window.open = () => bulk.open({ action: "retry", filter: { q: "status:failed" } });
  window.shown = () => {
    const problem = dialog.querySelector("[role=alert]");
    return [dialog.querySelector("h2").textContent, problem.hidden ? "" : problem.textContent,
      dialog.querySelector("[type=submit]").disabled];
  };
}
"""
)
CHECKING = "Looking through the tasks…"
NOT_YET = "The tasks could not be looked through yet, trying again…"
TOO_MANY = (
    "This could not be loaded: Too many commands at once. Wait a second and try again; a bulk action is one command."
)


@pytest.fixture
def dialog(fresh_modules: Page) -> Page:
    """It is open, and the first preview is waited for."""
    hold_clock(fresh_modules)
    fresh_modules.evaluate(SETTING)
    fresh_modules.evaluate("open()")
    assert _shown(fresh_modules) == [CHECKING, "", True]
    return fresh_modules


def test_a_preview_that_failed_is_made_again(dialog: Page) -> None:
    """Until it is there, with what was typed still there; the same failure is told once."""
    dialog.evaluate("() => { dialog.querySelector('[name=reason]').value = 'the bank was down'; }")
    dialog.evaluate("asked[0].fail(429, 'too_many_commands')")
    assert _shown(dialog) == [NOT_YET, TOO_MANY, True]
    dialog.evaluate(
        """() => {
      window.told = 0;
      const watched = { childList: true, characterData: true, subtree: true, attributes: true };
      new MutationObserver(() => (told += 1)).observe(dialog.querySelector("[role=alert]"), watched);
    }"""
    )
    dialog.clock.run_for(3_100)
    assert _shown(dialog) == [NOT_YET, TOO_MANY, True]
    dialog.evaluate("asked[1].fail(429, 'too_many_commands')")
    assert dialog.evaluate("told") == 0
    dialog.clock.run_for(3_100)
    dialog.evaluate("asked[2].fail(0, 'unreachable')")
    assert _shown(dialog) == [NOT_YET, "This could not be loaded: the server does not answer", True]
    dialog.clock.run_for(3_100)
    dialog.evaluate("asked[3].find(2)")
    assert _shown(dialog) == ["Retry 2 tasks?", "", False]
    assert dialog.evaluate("asked[3].wanted.reason") == "the bank was down"
    dialog.clock.run_for(60_000)
    assert dialog.evaluate("asked.length") == 4


def test_a_preview_that_was_refused_is_made_anew_for_another_question(dialog: Page) -> None:
    """The same question would be refused again; its refusal says nothing of the next one."""
    dialog.evaluate("asked[0].fail(422, 'too_broad')")
    title, problem, is_disabled = _shown(dialog)
    assert (title, is_disabled) == ("The tasks could not be looked through", True)
    assert problem.startswith("This could not be loaded: That would read too many tasks.")
    dialog.clock.run_for(60_000)
    assert dialog.evaluate("asked.length") == 1
    dialog.evaluate("() => { dialog.querySelector('[name=force]').click(); }")
    assert _shown(dialog) == [CHECKING, "", True]
    dialog.evaluate("asked[1].find(1)")
    assert _shown(dialog) == ["Retry 1 task?", "", False]


@pytest.mark.parametrize("leave", ["dialog.close()", "dialog.remove()"], ids=["closed", "logged out"])
def test_a_preview_that_nobody_waits_for_is_not_made_again(dialog: Page, leave: str) -> None:
    """Nor does the former one's failure come into the next one's question."""
    dialog.evaluate("asked[0].fail(503, 'database_unavailable')")
    dialog.evaluate(leave)
    dialog.clock.run_for(60_000)
    assert dialog.evaluate("asked.length") == 1
    dialog.evaluate("() => { dialog.close(); document.body.append(dialog); open(); }")
    assert _shown(dialog) == [CHECKING, "", True]


def _shown(page: Page) -> Any:
    """The title, what is wrong, and whether nothing can be confirmed."""
    return page.evaluate("shown()")
