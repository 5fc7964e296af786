"""Waiting for what must come true: looks again and again until a deadline, never sleeps for a time that was guessed.

A look may ask a sidecar and its database, and several tests share two cores: who waits for long looks less often.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["eventually", "pauses"]

#: Seconds: only a failure takes them, so they are many; several tests share a machine with two cores.
DEADLINE = 60.0
#: Between two looks: at first, by what factor it grows, and at last.
FIRST_SECONDS = 0.01
GROWTH = 1.25
LAST_SECONDS = 0.1

Found = TypeVar("Found")


def eventually(look: Callable[[], Found], what: str, timeout: float = DEADLINE) -> Found:
    """The first true answer of `look`."""
    deadline, pause = time.monotonic() + timeout, pauses()
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain until {what}"
        time.sleep(next(pause))
    return found


def pauses() -> Iterator[float]:
    """Seconds to wait between looks, for ever."""
    pause = FIRST_SECONDS
    while True:
        yield pause
        pause = min(pause * GROWTH, LAST_SECONDS)
