"""What a client missed, and the seam between that and live.

Guarantee: `blocks` yields what the client's cursor has not seen and then has the subscription joined, so that the
yielded events and the live ones together are every event after the cursor, each once. From the ring that is one step.
From the database it is page after page until the rest joins the ring: the ring's end is marked *before* a page is
read, so whatever that page could not see yet comes after the mark.

A cursor that nobody can serve, or a client that missed too much, gets `resync` and joins now: fetching the list again
is cheaper and just as correct. While PostgreSQL is away the client is kept and served when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from oracle_celery.database.cursor import Cursor, CursorUnusable
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar import events
from oracle_celery.sidecar.broadcaster import Broadcaster, Source, encode_changes
from oracle_celery.sidecar.subscription import Subscription

__all__ = ["EVENTS_LIMIT", "Resume"]

PAGE_EVENTS = 2_000
EVENTS_LIMIT = 20_000
#: Of the connections that streams share, the broadcaster's among them.
CONCURRENT_READS = 2
#: Between two signs of life to a client that waits for the database; also finds out that it left.
PATIENCE_SECONDS = 5.0


class Resume:
    """Shared by all streams, so that a crowd that comes back at once cannot take all database connections."""

    def __init__(self, broadcaster: Broadcaster, source: Source, *, events_limit: int = EVENTS_LIMIT) -> None:
        self._broadcaster = broadcaster
        self._source = source
        self._events_limit = events_limit
        self._turns = asyncio.Semaphore(CONCURRENT_READS)

    async def blocks(self, subscription: Subscription, cursor_text: str | None) -> AsyncIterator[list[bytes]]:
        """Backlog, in pieces. When it ends the subscription is joined or closed."""
        try:
            cursor = Cursor.parse(cursor_text) if cursor_text else None
            async for piece in self._catch_up(subscription, cursor):
                yield piece
        except CursorUnusable as unusable:
            async for piece in self._start_over(subscription, unusable.reason):
                yield piece

    async def _catch_up(self, subscription: Subscription, cursor: Cursor | None) -> AsyncIterator[list[bytes]]:
        left = self._events_limit
        while not subscription.closed:
            backlog = self._broadcaster.join(subscription, cursor)
            if backlog is not None:
                if len(backlog) > left:
                    self._broadcaster.leave(subscription)
                    raise CursorUnusable("too_far_behind")
                yield backlog or self._first_id(subscription)
                return
            if cursor is not None and self._broadcaster.missed(cursor) > left:
                raise CursorUnusable("too_far_behind")
            mark = self._broadcaster.mark()
            if cursor is None or mark is None or not self._broadcaster.is_online:
                yield [events.COMMENT]
                await self._broadcaster.next_read(PATIENCE_SECONDS)
                continue
            try:
                async with self._turns:
                    changes = await self._source.changes(cursor, min(PAGE_EVENTS, left + 1), subscription.viewer)
            except DatabaseUnavailable:
                yield [events.COMMENT]
                await self._broadcaster.next_read(PATIENCE_SECONDS)
                continue
            left -= changes.read
            if left < 0:
                raise CursorUnusable("too_far_behind")
            cursor = changes.cursor
            backlog = None if changes.more else self._broadcaster.join(subscription, cursor, mark)
            page = [event.block for event in encode_changes(changes)]
            if page:
                page[-1] = events.identified(page[-1], cursor)
            else:
                page = [events.heartbeat(cursor)]
            yield page + (backlog or [])
            if backlog is not None:
                return

    async def _start_over(self, subscription: Subscription, reason: str) -> AsyncIterator[list[bytes]]:
        """`resync` is told once the subscription has joined: the list fetched after it leaves no gap before live."""
        while not subscription.closed:
            if self._broadcaster.join(subscription, None) is not None:
                yield [events.resync(reason), *self._first_id(subscription)]
                return
            yield [events.COMMENT]
            await self._broadcaster.next_read(PATIENCE_SECONDS)

    def _first_id(self, subscription: Subscription) -> list[bytes]:
        """A resume point for a client that joined this very moment."""
        point = self._broadcaster.resume_point(subscription)
        return [events.heartbeat(point)] if point is not None else []
