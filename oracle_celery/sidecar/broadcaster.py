"""Reads what is new once, encodes it once, and hands it to everybody who may see it.

Guarantee: a subscription that joined at cursor C is given every transition that C has not seen, exactly once, in the
ring's backlog or live. That holds because an event enters the ring and all subscriptions in one step without an await
between, and because what is behind or ahead of C is decided by transactions (see `ring`), never by time or number.

A slow or absent client cannot delay another one: handing out is a bounded append. While PostgreSQL is away clients
stay connected; the same cursor goes on when it is back. Only another database, or the same one restored, makes
cursors worthless: then everybody is told to `resync`.

Whatever a read fails with, the next one comes, and nothing is left out to get on: meanwhile this sidecar is not ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple, Protocol

from oracle_celery.database.cursor import Cursor, CursorUnusable
from oracle_celery.database.queries import Changes
from oracle_celery.ending import end
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar import events
from oracle_celery.sidecar.ring import Event, Ring, includes, sees
from oracle_celery.sidecar.subscription import Subscription
from oracle_celery.viewer import Viewer

__all__ = ["Broadcaster", "Mark", "Source", "encode_changes"]

logger = logging.getLogger(__name__)

#: Covers what the listener did not hear.
POLL_SECONDS = 0.25
#: Least time between two reads: under load a read finds more rows instead of more reads finding few.
READ_GAP_SECONDS = 0.015
#: From the first notification of a commit to its last, hundreds later: else every second read would find nothing.
SETTLE_SECONDS = 0.005
#: Rows asked for in one read; a transaction is never cut, so there may be more.
READ_LIMIT = 1000
#: Bytes handed out before streams get a turn to send: a burst must not look like slow readers.
TURN_BYTES = 64 * 1024
#: A read that takes longer counts as failed.
READ_TIMEOUT_SECONDS = 10.0
BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 2.0
#: Between two words about the same trouble while it lasts.
COMPLAINT_SECONDS = 60.0


class Source(Protocol):
    """What the broadcaster needs of `database.queries.Queries`."""

    async def changes(self, cursor: Cursor, limit: int, viewer: Viewer = ...) -> Changes: ...

    async def start_cursor(self) -> Cursor: ...

    async def earlier_cursor(self, transitions: int) -> Cursor: ...


class Mark(NamedTuple):
    """A place in one ring."""

    ring: Ring
    number: int


class Broadcaster:
    """`start` and `stop` bracket its task; `wake` makes it look at once. All else is called from streams."""

    def __init__(self, source: Source, *, history: int = 0) -> None:
        """`history`: so many transitions from before the start are taken into the ring, for those who come back."""
        #: Awaited between two turns of handing out: streams get to send.
        self.turn: Callable[[], Awaitable[None]] = _breathe
        #: Everything up to here has been handed out; None until the database has been reached once.
        self.cursor: Cursor | None = None
        #: Whether the last read succeeded.
        self.is_online = False
        #: Owners whose tasks changed since somebody last cleared this; None among them stands for "any".
        self.changed_owners: set[str | None] = set()
        self._source = source
        self._history = history
        self._ring: Ring | None = None
        self._resync_reason = ""
        self._subscriptions: dict[str | None, set[Subscription]] = defaultdict(set)
        self._woken = asyncio.Event()
        self._read_done = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Does not wait for the database: it may be away for as long as it likes."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="oracle-broadcaster")

    async def stop(self) -> None:
        """Closes every stream; may be called twice."""
        await end(self._task)
        for subscription in self._everybody():
            subscription.close()

    def wake(self) -> None:
        self._woken.set()

    async def next_read(self, timeout: float) -> None:
        """Returns after the next successful read, or after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._read_done.wait()

    def subscribers(self, owner: str | None) -> list[Subscription]:
        """Everybody subscribed as `owner` (None: as one who sees everything)."""
        return list(self._subscriptions.get(owner, ()))

    def scopes(self) -> list[str | None]:
        """The owners (None: those who see everything) that somebody is subscribed as."""
        return list(self._subscriptions)

    def mark(self) -> Mark | None:
        """The end of what has been handed out, for `join` later; None before the first read."""
        return Mark(self._ring, self._ring.end) if self._ring else None

    def join(self, subscription: Subscription, after: Cursor | None, mark: Mark | None = None) -> list[bytes] | None:
        """Adds the subscription and returns its backlog; None, and nothing added, where the ring cannot serve it.

        `after` is what the client has seen; None means it wants only what is to come. With a `mark` taken before the
        caller itself read the database up to `after`, the ring need not reach back further than the mark.
        """
        if self._ring is None or self.cursor is None:
            return None
        after = after or self.cursor
        if mark is None:
            # A cursor ahead of ours comes from a list read a moment ago, or is invented: the database can tell.
            if not self._ring.covers(after) or after.xmax > self.cursor.xmax:
                return None
        elif mark.ring is not self._ring or mark.number < self._ring.start:
            return None
        owner = subscription.viewer.owner
        backlog = self._ring.after(after, owner, mark.number if mark else 0)
        if includes(self.cursor, after):
            if backlog:
                backlog[-1] = events.identified(backlog[-1], self.cursor)
        else:
            subscription.after = after
        self._subscriptions[owner].add(subscription)
        return backlog

    def missed(self, cursor: Cursor) -> int:
        """At least so many transitions the cursor has not seen, as far as that is known without the database."""
        if self._ring is None or not includes(self._ring.floor, cursor):
            return 0
        return self._ring.end - self._ring.start

    def leave(self, subscription: Subscription) -> None:
        owner = subscription.viewer.owner
        group = self._subscriptions.get(owner, set())
        group.discard(subscription)
        if not group:
            self._subscriptions.pop(owner, None)

    def resume_point(self, subscription: Subscription) -> Cursor | None:
        """The cursor from which a client that was given everything offered so far misses nothing."""
        if self.cursor is not None and subscription.after is not None and includes(self.cursor, subscription.after):
            subscription.after = None
        return self.cursor if subscription.after is None else None

    async def _run(self) -> None:
        failures = 0
        complained_at = -math.inf
        while True:
            try:
                is_behind = await self._read()
            except CursorUnusable as unusable:
                logger.warning("The stream starts anew, clients are told to reload: %s", unusable)
                self.cursor = self._ring = None
                self._resync_reason = unusable.reason
                continue
            except (DatabaseUnavailable, TimeoutError) as error:
                if self.is_online or failures == 0:
                    logger.warning("No new events for now: %s", error or "PostgreSQL is too slow to answer")
                failures += 1
                await self._back_off(failures)
                continue
            except Exception:  # whatever it was: the next read must come, and /readyz must not say "ok" meanwhile
                if time.monotonic() - complained_at >= COMPLAINT_SECONDS:
                    complained_at = time.monotonic()
                    logger.exception(
                        "New events cannot be read, which is a mistake of Oracle's: nobody is shown any until it goes. "
                        "It is tried again all the time. Please report it with what follows"
                    )
                failures += 1
                await self._back_off(failures)
                continue
            if not self.is_online:
                if failures:
                    logger.warning("New events are read again.")
                self.is_online = True
                failures = 0
            self._read_done.set()
            self._read_done.clear()
            if not is_behind:
                await self._wait_for_news()

    async def _back_off(self, failures: int) -> None:
        self.is_online = False
        ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(failures, 10))
        await asyncio.sleep(random.uniform(ceiling / 2, ceiling))  # noqa: S311  # spreads reconnects

    async def _wait_for_news(self) -> None:
        await asyncio.sleep(READ_GAP_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._woken.wait()
            await asyncio.sleep(SETTLE_SECONDS)

    async def _read(self) -> bool:
        """One read, handed out; True where there is more to read at once."""
        self._woken.clear()
        if self.cursor is None:
            await self._begin()
            return False
        async with asyncio.timeout(READ_TIMEOUT_SECONDS):
            changes = await self._source.changes(self.cursor, READ_LIMIT)
        turn: list[Event] = []
        size = 0
        for event in encode_changes(changes):
            turn.append(event)
            size += len(event.block)
            if size >= TURN_BYTES:
                self._hand_out(turn, None)
                turn, size = [], 0
                await self.turn()
        self._hand_out(turn, changes.cursor)
        return changes.more

    def _hand_out(self, turn: list[Event], cursor: Cursor | None) -> None:
        """Ring, cursor and every subscription move in one step: no await in here. `cursor` ends the read."""
        assert self._ring is not None
        assert self.cursor is not None
        now = time.monotonic()
        previous = self.cursor
        if turn:
            self._ring.append(turn, now)
        if cursor is not None:
            self._ring.seal(cursor, now)
            self.cursor = cursor
        if not turn:
            return
        by_owner: dict[str | None, list[Event]] = defaultdict(list)
        for event in turn:
            by_owner[event.owner].append(event)
        by_owner[None] = turn  # of those who see everything; an event without an owner is in no other share
        self.changed_owners.update(by_owner)
        mark = b"" if cursor is None else events.mark(cursor)
        for owner, share in by_owner.items():
            group = self._subscriptions.get(owner)
            if not group:
                continue
            chunk = _joined(share, mark)
            for subscription in group:
                self._offer(subscription, share, chunk, previous, mark)

    def _offer(
        self, subscription: Subscription, share: list[Event], chunk: bytes, previous: Cursor, mark: bytes
    ) -> None:
        if subscription.after is not None:
            if includes(previous, subscription.after):
                subscription.after = None
            else:
                after = subscription.after
                news = [event for event in share if not sees(after, event.txid)]
                if news:  # it has seen all that the mark stands for, and more
                    subscription.offer(_joined(news, mark))
                return
        subscription.offer(chunk)

    async def _begin(self) -> None:
        """From now on. Clients are told once the new cursor is known: the list they fetch then leaves no gap."""
        ring, cursor = await self._begun()
        self._ring, self.cursor = ring, cursor
        if self._resync_reason:
            for subscription in self._everybody():
                subscription.after = None
                subscription.demand_resync(self._resync_reason)
            self._resync_reason = ""

    async def _begun(self) -> tuple[Ring, Cursor]:
        """The ring to begin with, and the cursor at its end."""
        async with asyncio.timeout(READ_TIMEOUT_SECONDS):
            if not self._history or self._resync_reason:
                cursor = await self._source.start_cursor()
                return Ring(cursor), cursor
            cursor = await self._source.earlier_cursor(self._history)
        ring = Ring(cursor)
        is_behind = True
        while is_behind:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                changes = await self._source.changes(cursor, READ_LIMIT)
            now = time.monotonic()
            cursor, is_behind = changes.cursor, changes.more
            ring.append(list(encode_changes(changes)), now)
            ring.seal(cursor, now)
            await asyncio.sleep(0)
        return ring, cursor

    def _everybody(self) -> list[Subscription]:
        return [subscription for group in self._subscriptions.values() for subscription in group]


def encode_changes(changes: Changes) -> Iterator[Event]:
    for transition in changes.transitions:
        yield Event(transition.txid, transition.user_id, events.block("task", transition.public))


def _joined(share: list[Event], mark: bytes) -> bytes:
    """With the mark before the last one. Most shares are of one event."""
    if len(share) == 1:
        return mark + share[0].block
    return b"".join([*[event.block for event in share[:-1]], mark, share[-1].block])


async def _breathe() -> None:
    await asyncio.sleep(0)
