"""One client's stream, between the broadcaster that must never wait and a network that may.

Guarantee: what waits for a client is bounded in bytes. A client that reads too slowly loses what waits and is told so
by exactly one `resync`; everything offered after that one is taken follows it without a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from oracle_celery.database.cursor import Cursor
from oracle_celery.sidecar import events
from oracle_celery.viewer import Viewer

__all__ = ["Subscription"]

PENDING_LIMIT_BYTES = 256 * 1024
#: Tasks whose newest progress may wait.
PROGRESS_LIMIT = 1_000


class Subscription:
    """Written by the broadcaster (`offer`), read by one stream (`take`). Nothing here blocks but `take`."""

    def __init__(self, viewer: Viewer, *, limit: int = PENDING_LIMIT_BYTES) -> None:
        self.viewer = viewer
        #: Where the client was when it joined, as long as the broadcaster may still hand out what came before that.
        self.after: Cursor | None = None
        self.closed = False
        self._limit = limit
        self._pending: list[bytes] = []
        self._size = 0
        self._summary = b""
        self._progress: dict[str, bytes] = {}
        self._resync = ""
        self._changed = asyncio.Event()

    @property
    def is_drained(self) -> bool:
        return not (self._pending or self._summary or self._progress or self._resync)

    def offer(self, chunk: bytes) -> None:
        if self._resync:
            return
        if self._size + len(chunk) > self._limit:
            self.demand_resync("slow_reader")
            return
        self._pending.append(chunk)
        self._size += len(chunk)
        self._changed.set()

    def offer_summary(self, chunk: bytes) -> None:
        """Only the newest summary waits: an older one is worth nothing."""
        self._summary = chunk
        self._changed.set()

    def offer_progress(self, blocks: Iterable[tuple[str, bytes]]) -> None:
        """Of each task only the newest waits."""
        for task_id, block in blocks:
            if task_id in self._progress or len(self._progress) < PROGRESS_LIMIT:
                self._progress[task_id] = block
        self._changed.set()

    def demand_resync(self, reason: str) -> None:
        """Drops what waits; the client starts over from a fresh list."""
        self._pending.clear()
        self._size = 0
        self._resync = reason
        self._changed.set()

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    async def take(self, timeout: float) -> bytes:
        """Everything that waits, as one piece; empty after `timeout` seconds of silence or once closed."""
        if self.is_drained and not self.closed:
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                return b""
        taken = events.resync(self._resync) if self._resync else b"".join(self._pending)
        taken += self._summary + b"".join(self._progress.values())
        self._pending.clear()
        self._size = 0
        self._summary = b""
        self._progress = {}
        self._resync = ""
        return taken
