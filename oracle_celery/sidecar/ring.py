"""The last few minutes of events, from which most reconnecting clients resume without the database.

Guarantee: for a cursor that the ring `covers`, `after` returns exactly the events the cursor has not seen, up to the
ring's end. Events are compared with cursors by transaction, never by number: numbers are not commit order.

What bites: only whole reads are evicted. A read's events are in no order that a cursor could cut.
"""

from __future__ import annotations

from collections import defaultdict, deque

import msgspec

from oracle_celery.database.cursor import Cursor

__all__ = ["Event", "Ring", "includes", "sees"]

AGE_LIMIT_SECONDS = 180.0
BYTES_LIMIT = 32 * 1024 * 1024
COUNT_LIMIT = 50_000
#: Answers that are remembered until the next event.
GIVEN_LIMIT = 16


class Event(msgspec.Struct, gc=False):
    """One transition, encoded, and what decides who gets it. Tens of thousands are held: looking through them for
    garbage, again and again, would halt all streams for a part of a second."""

    txid: int
    owner: str | None
    block: bytes
    number: int = -1  # in the ring, once it is there


class _Read:
    """The events of one read of the database, and the cursor after it once the read is complete."""

    __slots__ = ("at", "cursor", "events", "highest", "lowest", "size")

    def __init__(self, at: float) -> None:
        self.at = at
        self.events: list[Event] = []
        self.cursor: Cursor | None = None
        self.lowest = self.highest = 0
        self.size = 0

    def add(self, event: Event) -> None:
        self.lowest = min(self.lowest, event.txid) if self.events else event.txid
        self.highest = max(self.highest, event.txid)
        self.size += len(event.block)
        self.events.append(event)

    def may_be_news_to(self, cursor: Cursor) -> bool:
        return self.highest >= cursor.xmax or any(self.lowest <= txid <= self.highest for txid in cursor.xip)


class Ring:
    """Starts empty at `floor`: everything that `floor` has seen is not, and need not be, in the ring."""

    def __init__(
        self,
        floor: Cursor,
        *,
        age_limit: float = AGE_LIMIT_SECONDS,
        bytes_limit: int = BYTES_LIMIT,
        count_limit: int = COUNT_LIMIT,
    ) -> None:
        self.floor = floor
        #: Numbers of the first event held and of the one to come; they only grow.
        self.start = 0
        self.end = 0
        self._age_limit = age_limit
        self._bytes_limit = bytes_limit
        self._count_limit = count_limit
        self._size = 0
        self._reads: deque[_Read] = deque()
        #: The same events by owner.
        self._by_owner: defaultdict[str | None, deque[Event]] = defaultdict(deque)
        #: What somebody who sees everything was given last: a crowd of them comes back with few cursors.
        self._given: dict[tuple[Cursor, int], list[bytes]] = {}

    def append(self, events: list[Event], now: float) -> None:
        """Adds events of the read under way."""
        if not self._reads or self._reads[-1].cursor is not None:
            self._reads.append(_Read(now))
        read = self._reads[-1]
        for number, event in enumerate(events, self.end):
            event.number = number
            read.add(event)
            self._by_owner[event.owner].append(event)
            self._size += len(event.block)
        self.end += len(events)
        self._given.clear()

    def seal(self, cursor: Cursor, now: float) -> None:
        """Ends the read under way, then evicts what is too old or too much."""
        if self._reads and self._reads[-1].cursor is None:
            self._reads[-1].cursor = cursor
        while self._reads and self._is_over_limits(now):
            read = self._reads.popleft()
            assert read.cursor is not None
            self.floor = read.cursor
            self._forget(read)
            self.start += len(read.events)
            self._size -= read.size

    def covers(self, cursor: Cursor) -> bool:
        """Whether all that `cursor` has not seen is in the ring or still to come."""
        return includes(cursor, self.floor)

    def after(self, cursor: Cursor, owner: str | None, position: int = 0) -> list[bytes]:
        """Blocks of `owner` (None: of all) from `position` on that `cursor` has not seen, in the order they came."""
        if owner is not None:
            own = self._by_owner.get(owner, ())
            return [event.block for event in own if event.number >= position and not sees(cursor, event.txid)]
        if (cursor, position) not in self._given:
            if len(self._given) >= GIVEN_LIMIT:
                self._given.clear()
            self._given[cursor, position] = self._after(cursor, position)
        return list(self._given[cursor, position])

    def _after(self, cursor: Cursor, position: int) -> list[bytes]:
        found: list[bytes] = []
        number = self.start
        for read in self._reads:
            upcoming = number + len(read.events)
            if upcoming > position and read.may_be_news_to(cursor):
                fresh = read.events[max(0, position - number) :]
                found += [event.block for event in fresh if not sees(cursor, event.txid)]
            number = upcoming
        return found

    def _forget(self, read: _Read) -> None:
        """Of each owner, the oldest events are those of the oldest read."""
        self._given.clear()
        for event in read.events:
            own = self._by_owner[event.owner]
            own.popleft()
            if not own:
                del self._by_owner[event.owner]

    def _is_over_limits(self, now: float) -> bool:
        return (
            self._size > self._bytes_limit
            or self.end - self.start > self._count_limit
            or now - self._reads[0].at > self._age_limit
        )


def sees(cursor: Cursor, txid: int) -> bool:
    """Whether the transaction had finished when `cursor` was taken, so that its events came before it."""
    return txid < cursor.xmax and txid not in cursor.xip


def includes(later: Cursor, earlier: Cursor) -> bool:
    """Whether `later` has seen everything that `earlier` has seen. False where the two do not compare."""
    if (later.system_id, later.timeline) != (earlier.system_id, earlier.timeline):
        return False
    return later.xmax >= earlier.xmax and all(not sees(earlier, txid) for txid in later.xip)
