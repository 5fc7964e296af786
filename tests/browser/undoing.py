"""The seconds in which a person may take a command back, ended by the test: no machine is too slow to press Undo."""

from __future__ import annotations

from playwright.sync_api import Page

__all__ = ["end_undo_time", "hold_undo_time"]

#: Of all timers of the page only the one of deferral.js, which gives the commands.
HOLD = """() => {
  window.heldCommands = [];
  const set = window.setTimeout;
  window.setTimeout = (act, ...rest) =>
    String(act).includes("release(key)") ? -window.heldCommands.push(act) : set(act, ...rest);
}"""
END = "window.heldCommands.splice(0).map((act) => act()).length"


def hold_undo_time(page: Page) -> None:
    """Until it is ended, or the page is loaded again, commands that can be taken back wait for ever."""
    page.evaluate(HOLD)


def end_undo_time(page: Page) -> None:
    """Of every command since the last time; those that were taken back stay so."""
    assert page.evaluate(END) > 0, "deferral.js has given no command to wait"
