"""The sidecar's only way to Celery: the app object it was given.

Every call blocks in a thread of its own, off the event loop. A broker that cannot be reached is an error, never an
answer: that a worker did not answer a question nobody could ask says nothing about the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

__all__ = ["ping"]

#: A node that does not exist costs the full time.
PING_TIMEOUT_SECONDS = 3.0


async def ping(app: Any, nodes: Collection[str], timeout: float = PING_TIMEOUT_SECONDS) -> set[str]:
    """Those of `nodes` that answer. Raises whatever the broker's client raises where the broker cannot be asked."""
    if not nodes:
        return set()
    replies = await asyncio.to_thread(app.control.ping, destination=sorted(nodes), timeout=timeout)
    return {node for reply in replies or [] for node, answer in reply.items() if answer.get("ok") == "pong"}
