"""Waiting for what must come true: looks again and again until a deadline, never sleeps for a time that was guessed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["eventually"]

#: Seconds: only a failure takes them, so they are many; several tests share a machine with two cores.
DEADLINE = 60.0
POLL_SECONDS = 0.02

Found = TypeVar("Found")


def eventually(look: Callable[[], Found], what: str, timeout: float = DEADLINE) -> Found:
    """The first true answer of `look`."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain until {what}"
        time.sleep(POLL_SECONDS)
    return found
