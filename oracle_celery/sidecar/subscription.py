"""What waits for one client, between the broadcaster that must never wait and a network that may.

Guarantee: what waits for a client is bounded in bytes. A client that reads too slowly loses what waits and is told so
by exactly one `resync`; everything offered after that one is taken follows it without a gap.

What bites: there are thousands of these, and most wait for nothing: an empty one holds no container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from oracle_celery.database.cursor import Cursor
from oracle_celery.sidecar import events
from oracle_celery.viewer import Viewer

__all__ = ["Subscription"]

PENDING_LIMIT_BYTES = 256 * 1024
#: Tasks whose newest progress may wait.
PROGRESS_LIMIT = 1_000


class Subscription:
    """Written by the broadcaster (`offer`), emptied by one stream (`take`). Nothing here blocks.

    `changed` is called when there is something to take or the subscription is closed; it must be quick.
    """

    __slots__ = (
        "_limit",
        "_pending",
        "_progress",
        "_resync",
        "_size",
        "_summary",
        "after",
        "changed",
        "closed",
        "viewer",
    )

    def __init__(self, viewer: Viewer, *, limit: int = PENDING_LIMIT_BYTES) -> None:
        self.viewer = viewer
        #: Where the client was when it joined, as long as the broadcaster may still hand out what came before that.
        self.after: Cursor | None = None
        self.closed = False
        self.changed: Callable[[], None] = _nobody_waits
        self._limit = limit
        self._pending: list[bytes] | None = None
        self._size = 0
        self._summary = b""
        self._progress: dict[str, bytes] | None = None
        self._resync = ""

    @property
    def is_drained(self) -> bool:
        return not (self._pending or self._summary or self._progress or self._resync)

    def offer(self, chunk: bytes) -> None:
        if self._resync:
            return
        if self._size + len(chunk) > self._limit:
            self.demand_resync("slow_reader")
            return
        if self._pending is None:
            self._pending = [chunk]
        else:
            self._pending.append(chunk)
        self._size += len(chunk)
        self.changed()

    def offer_summary(self, chunk: bytes) -> None:
        """Only the newest summary waits: an older one is worth nothing."""
        self._summary = chunk
        self.changed()

    def offer_progress(self, blocks: Iterable[tuple[str, bytes]]) -> None:
        """Of each task only the newest waits."""
        if self._progress is None:
            self._progress = {}
        for task_id, block in blocks:
            if task_id in self._progress or len(self._progress) < PROGRESS_LIMIT:
                self._progress[task_id] = block
        self.changed()

    def demand_resync(self, reason: str) -> None:
        """Drops what waits; the client starts over from a fresh list."""
        self._pending = None
        self._size = 0
        self._resync = reason
        self.changed()

    def close(self) -> None:
        self.closed = True
        self.changed()

    def take(self) -> bytes:
        """Everything that waits, as one piece. A single chunk is handed on as it is, not copied."""
        taken = self._pending or []
        if taken and not (self._resync or self._summary or self._progress):  # as almost always
            self._pending = None
            self._size = 0
            return taken[0] if len(taken) == 1 else b"".join(taken)
        if self._resync:
            taken = [events.resync(self._resync)]
        if self._summary:
            taken = [*taken, self._summary]
        if self._progress:
            taken = [*taken, *self._progress.values()]
        self._pending = self._progress = None
        self._size = 0
        self._summary = b""
        self._resync = ""
        return taken[0] if len(taken) == 1 else b"".join(taken)


def _nobody_waits() -> None:
    pass
