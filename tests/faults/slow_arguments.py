"""A serializer whose arguments take a pool's process as long to read as a test wants; the worker imports it.

A worker's main thread reads a message, too, when it receives it: that takes no time. Where a task is to run, which has
been accepted by then, a file `reading` says that its arguments are being read, and it goes on when there is one that is
called `may read`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from billiard.process import current_process
from kombu.serialization import register

__all__ = ["CONTENT_TYPE", "MAY_READ", "NAME", "READING"]

NAME, CONTENT_TYPE = "slow", "application/x-slow"
READING, MAY_READ = "reading", "may read"
#: Seconds after which it gives up.
PATIENCE = 120.0


def _read(text: str) -> Any:
    folder = os.environ.get("SIGNALS_WITNESS_DIR")
    if folder is not None and _runs_tasks():
        Path(folder, READING).touch()
        deadline = time.monotonic() + PATIENCE
        while not Path(folder, MAY_READ).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    return json.loads(text)


def _runs_tasks() -> bool:
    """Of a prefork pool's child, or a thread of a pool."""
    return current_process().name != "MainProcess" or threading.current_thread() is not threading.main_thread()


register(NAME, json.dumps, _read, CONTENT_TYPE, "utf-8")
