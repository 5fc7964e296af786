"""Waits in a page until whatever was under way there has come to its end, while the page's clock stands still."""

from __future__ import annotations

__all__ = ["SETTLE"]

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
