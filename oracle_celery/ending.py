"""Ends tasks of asyncio for certain.

What will bite: one request to end may be lost. On Python 3.11 ``asyncio.wait_for`` drops it where what was waited for
comes at the same moment, and psycopg before 3.3 waits so for every answer: a listener goes on listening, and whoever
waits for its end waits for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["end"]

#: Seconds after which a task is asked again. More than psycopg takes to cancel a statement on the server (5).
AGAIN_SECONDS = 6.0


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Returns when all of them have ended. What one has ended by stays with it."""
    while pending := {task for task in tasks if task is not None and not task.done()}:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=AGAIN_SECONDS)
