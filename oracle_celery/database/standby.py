"""Reads from a standby that are never older than what was true when they were asked for.

A standby replays its primary's log, always a little later. So each read first asks the primary where it is (one light
question, shared by all reads that wait for it), then waits on the standby's own connection until that is replayed, and
only then reads there. Whatever anybody was told before, by a command's answer, a stream or another sidecar, is in what
is read: no client has to carry a position along. What the primary is spared is the reading itself.

A list's cursor is the primary's, taken with that question. A standby could give one: its snapshot has no list of
transactions under way, but rounding down to the oldest of them loses nothing. It would stand before the beginning of
the longest transaction of anybody, though, and a stream from there is too long to be served: the list would be asked
for again, for ever. From the primary's place there is no gap, because the rows are of a later moment than the cursor,
and little comes twice.

A standby that does not get there within `PATIENCE_SECONDS` is left alone until it does; so is one of another timeline,
which after a failover may hold what never happened, and one of another server. The primary reads meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database.cursor import Snapshot
from oracle_celery.database.fetching import Fetch, Rows, hurried, over, translated
from oracle_celery.database.marks import Mark
from oracle_celery.database.sql import statement
from oracle_celery.ending import end
from oracle_celery.errors import DatabaseUnavailable, QueryTooBroad

__all__ = ["Standby", "StandbyStatus"]

logger = logging.getLogger(__name__)

#: How long a read waits for the standby.
PATIENCE_SECONDS = 0.25
#: Between two looks at how far it is.
LOOK_SECONDS = 0.005
#: Between two looks whether it may be read from (again), and at how late it is.
ROUND_SECONDS = 1.0
#: A connection to the standby that takes longer is none.
CONNECTION_SECONDS = 1.0


class StandbyStatus(StrEnum):
    """What it is good for now."""

    FOLLOWING = "following"  # it is read from
    BEHIND = "behind"  # it does not get where the primary is in time
    FOREIGN = "foreign"  # of another server or another timeline
    AWAY = "away"  # it does not answer


class _NotUsable(Exception):
    def __init__(self, status: StandbyStatus) -> None:
        self.status = status


class Standby:
    """`start` and `stop` bracket its task, which looks after the status. `fetch` and `marked` are for readers."""

    def __init__(self, pool: AsyncConnectionPool[Any], primary: AsyncConnectionPool[Any]) -> None:
        self.status = StandbyStatus.AWAY
        #: Seconds by which it was later than the primary, at the last look.
        self.lag = 0.0
        self.reads = 0
        #: Reads that the primary did in its place.
        self.fallbacks = 0
        self._pool = pool
        self._ask_primary = over(primary)
        self._read_primary = over(primary)
        self._primary = primary
        self._question: asyncio.Task[Mark] | None = None
        self._next_question: asyncio.Task[Mark] | None = None
        self._behind_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when it is known what the standby is good for."""
        if self._task is None:
            await self.look()
            self._task = asyncio.create_task(self._run(), name="oracle-standby")

    async def stop(self) -> None:
        await end(self._task)

    async def fetch(self, query: str, parameters: dict[str, Any]) -> Rows:
        """A `Fetch`."""
        rows, _ = await self.marked(query, parameters)
        return rows

    def over(self, patience: int) -> Fetch:
        """A `Fetch` whose statements may take so many milliseconds."""
        primary = over(self._primary, patience)

        async def fetch(query: str, parameters: dict[str, Any]) -> Rows:
            rows, _ = await self._read(query, parameters, primary, patience)
            return rows

        return fetch

    async def marked(self, query: str, parameters: dict[str, Any]) -> tuple[Rows, Mark | None]:
        """A `MarkedFetch`."""
        return await self._read(query, parameters, self._read_primary, None)

    async def _read(
        self, query: str, parameters: dict[str, Any], primary: Fetch, patience: int | None
    ) -> tuple[Rows, Mark | None]:
        if self.status is StandbyStatus.FOLLOWING:
            mark = await self._mark()
            try:
                async with self._reached(mark, patience) as connection:
                    cursor = connection.cursor(binary=True)
                    await cursor.execute(query, parameters)
                    rows = await cursor.fetchall()
            except _NotUsable as reason:
                self._become(reason.status)
            except QueryTooBroad:  # no failure of the standby's: the primary, too, would read on in vain
                self.reads += 1
                raise
            except DatabaseUnavailable as error:
                logger.debug("A read of the standby's failed: %s", error)
            else:
                self.reads += 1
                return rows, mark
        self.fallbacks += 1
        return await primary(query, parameters), None

    async def _mark(self) -> Mark:
        """One question serves all who came before it was sent. Raises DatabaseUnavailable of the primary's."""
        if self._next_question is None:
            self._next_question = asyncio.create_task(self._ask(self._question))
        return await asyncio.shield(self._next_question)

    async def _ask(self, previous: asyncio.Task[Mark] | None) -> Mark:
        if previous is not None:
            await asyncio.wait({previous})
        self._question, self._next_question = self._next_question, None
        query = statement("primary_mark").format(snapshot=statement("snapshot"))
        [row] = await self._ask_primary(query, {})
        return Mark(Snapshot.of(row), *row[len(Snapshot.__struct_fields__) :])

    @asynccontextmanager
    async def _reached(self, mark: Mark, patience: int | None = None) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection on which all that `mark` knows is visible. Raises _NotUsable; and for a read that failed there
        QueryTooBroad, or DatabaseUnavailable, such as by a conflict with what is being replayed."""
        is_there = False
        try:
            with translated():
                async with (
                    self._pool.connection(timeout=CONNECTION_SECONDS) as connection,
                    hurried(connection, patience),
                ):
                    await _wait_for(mark, connection)
                    is_there = True
                    yield connection
        except DatabaseUnavailable as error:
            if is_there:
                raise
            raise _NotUsable(StandbyStatus.AWAY) from error

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Finds out what it is good for."""
        began = time.monotonic()
        try:
            status = await self._found()
        except Exception:  # whatever it was: the next look must come
            if self.status is not StandbyStatus.AWAY or self._behind_since is None:
                logger.exception("Looking at the standby failed")
            status = StandbyStatus.AWAY
        if status is None:
            return  # it is the primary that is away, which others say
        self._become(status)
        now = time.monotonic()
        if self.status is StandbyStatus.FOLLOWING:
            self._behind_since = None
            self.lag = now - began
        else:
            self._behind_since = self._behind_since or began
            self.lag = now - self._behind_since

    async def _found(self) -> StandbyStatus | None:
        """None where the primary does not say what the standby is to be measured by."""
        try:
            mark = await self._mark()
        except DatabaseUnavailable:
            return None
        try:
            async with self._reached(mark):
                return StandbyStatus.FOLLOWING
        except _NotUsable as reason:
            return reason.status

    def _become(self, status: StandbyStatus) -> None:
        if status is not self.status:
            log = logger.info if status is StandbyStatus.FOLLOWING else logger.warning
            log("The standby of oracle_read_url is %s: %s.", status.value, _CONSEQUENCES[status])
        self.status = status


async def _wait_for(mark: Mark, connection: psycopg.AsyncConnection[Any]) -> None:
    """On this connection: an address may lead to several standbys."""
    known, deadline = mark.snapshot, time.monotonic() + PATIENCE_SECONDS
    while True:
        found = await (await connection.execute(statement("standby_place"))).fetchone()
        assert found is not None
        system_id, timeline, position = found
        if (system_id & (2**63 - 1), timeline) != (known.system_id, known.timeline):
            raise _NotUsable(StandbyStatus.FOREIGN)
        if position is not None and position >= mark.position:
            return
        if time.monotonic() > deadline:
            raise _NotUsable(StandbyStatus.BEHIND)
        await asyncio.sleep(LOOK_SECONDS)


_CONSEQUENCES = {
    StandbyStatus.FOLLOWING: "pages are read from it",
    StandbyStatus.BEHIND: "it is later than the primary by more than a page may wait, so the primary is read",
    StandbyStatus.FOREIGN: "it is of another server or timeline than oracle_url's, so the primary is read",
    StandbyStatus.AWAY: "it does not answer, so the primary is read",
}
