"""A page's clock that stands still, and a wait until whatever was under way has come to its end meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page

__all__ = ["SETTLE", "hold_clock"]

#: Statements of a script: `await settle()` is there from then on.
SETTLE = """
  window.settle = async () => {
    for (let turn = 0; turn < 20; turn += 1) {
      await new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel(); // a task of its own, which no clock moves
        port1.onmessage = resolve;
        port2.postMessage(null);
      });
    }
  };
"""


def hold_clock(page: Page) -> None:
    """From now on the page's time passes by `page.clock.run_for` alone.

    A clock that is only installed goes on by itself: whatever the test takes between two steps would count.
    """
    now = datetime.now(UTC)
    page.clock.install(time=now)
    page.clock.pause_at(now + timedelta(hours=1))
