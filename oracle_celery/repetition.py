"""Writing down what is certain, again and again while the database is away.

What bites: an attempt whose answer was lost may have been written, so only what may be written twice is repeated.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from oracle_celery.errors import DatabaseUnavailable

__all__ = ["repeated"]

#: Between two attempts. Less than other sidecars take to look at what this one has left.
AGAIN_SECONDS = 0.25


def repeated(write: Callable[[], object], seconds: float, stopping: threading.Event | None = None) -> None:
    """Returns when it is written. Raises the last DatabaseUnavailable after `seconds`, or once `stopping` is set, and
    any other error at once."""
    deadline = time.monotonic() + seconds
    pause = threading.Event() if stopping is None else stopping
    while True:
        try:
            write()
        except DatabaseUnavailable:
            if time.monotonic() >= deadline or pause.wait(AGAIN_SECONDS):
                raise
        else:
            return
