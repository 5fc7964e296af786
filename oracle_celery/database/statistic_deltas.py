"""Deltas of statistics: how the leader folds them into minutes, and how their file stays small.

Recorders add rows, the leader takes them out within a second, so the table is nearly empty and its file as large as it
once had to be: after days without a leader, or with a transaction open somewhere that lets vacuum remove nothing, it
is gigabytes. Whoever counts reads all of it, so it must shrink again. A vacuum would have to find its end empty, where
recorders write, and look for that while they wait. So a file that is too large changes places with an empty one
(`statistic_delta_rest`, a child of the table: whoever reads the table reads both). From then on nothing is added to it:
it is folded block by block, bounded, from the first to the last, and then emptied at once.

Guarantee: every delta is counted once, whatever is interrupted and however many lead: a fold takes rows out and adds
them in one statement, and a file is emptied only by whoever has folded all of it, while it is the same file. What
others see: a recorder waits for each of the two exchanges no longer than `LOCK_TIMEOUT`, and a few milliseconds; then
it plans its statement anew. A reader on a standby, whose server repeats the exchange, waits as shortly; one that has
read there for longer than `max_standby_streaming_delay` is cancelled, as by every day's partition. Only a transaction
that reads repeatably, has begun before a file is emptied and looks at it afterwards finds nothing in it; of ours none
does, and pg_dump takes its locks first.

What bites: somebody who reads for long (pg_dump) keeps the file as it is; it is tried again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg
from psycopg import errors

from oracle_celery.database.sql import statement

__all__ = ["NO_REST", "StatisticDeltas"]

Connection = psycopg.AsyncConnection[Any]

#: Bytes of the file from which on it is exchanged: what is read of it takes some 30 ms.
FILE_LIMIT = 64 * 1024 * 1024
#: Blocks that one statement folds, about 20,000 rows; and seconds that one call spends on them.
REST_BLOCKS = 256
REST_SECONDS = 2.0
#: Milliseconds that recorders may wait for us; how often one call asks for that, and the seconds in between: where
#: counts take seconds, because the file is large, there is a moment without one nevertheless.
LOCK_TIMEOUT = 100
LOCK_TRIES = 10
PAUSE_SECONDS = 0.1
#: Seconds until the next call that asks.
AGAIN_SECONDS = 10.0
#: Of the former file nothing is folded.
NO_REST = {"rest_from": "(0,0)", "rest_to": "(0,0)"}


class StatisticDeltas:
    """How far the former file is folded. It may be forgotten: then it is folded from its beginning again."""

    def __init__(self) -> None:
        self._file: int | None = None  # the former one, as the server calls it
        self._block = 0  # of it, the next one to be folded
        self._try_at = time.monotonic()

    async def fold(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        """How many deltas that were added lately became part of minutes, `parameters["limit"]` at most. Of the former
        file a part is folded besides."""
        size, file, blocks = await _files(connection)
        if file != self._file:
            self._file, self._block = file, 0
        end = time.monotonic() + REST_SECONDS
        while True:
            bounds = {"rest_from": f"({self._block},0)", "rest_to": f"({self._block + REST_BLOCKS},0)"}
            [(folded, _)] = await _fetch(
                connection, "fold_statistics", {**parameters, **(bounds if self._block < blocks else NO_REST)}
            )
            self._block = min(blocks, self._block + REST_BLOCKS)
            if self._block >= blocks or time.monotonic() > end:
                break
        if self._block >= blocks and (blocks or size > FILE_LIMIT) and time.monotonic() >= self._try_at:
            self._try_at = time.monotonic() + AGAIN_SECONDS
            change = self._empty if blocks else self._exchange
            for _ in range(LOCK_TRIES):
                if await _briefly(connection, change):
                    self._try_at = time.monotonic()  # the one may follow the other at once
                    break
                await asyncio.sleep(PAUSE_SECONDS)
        return int(folded)

    async def _exchange(self, connection: Connection) -> None:
        """The file that is too large for an empty one."""
        await connection.execute(statement("lock_deltas"))
        size, _, blocks = await _files(connection)
        if size > FILE_LIMIT and blocks == 0:  # nobody was faster
            await connection.execute(statement("exchange_deltas"))

    async def _empty(self, connection: Connection) -> None:
        """The former file, if it is still the one that has been folded."""
        await connection.execute(statement("lock_rest_of_deltas"))
        _, file, _ = await _files(connection)
        if file == self._file:
            await connection.execute(statement("empty_rest_of_deltas"))


async def _briefly(connection: Connection, change: Callable[[Connection], Awaitable[None]]) -> bool:
    """In a transaction that nobody waits for longer than the lock's timeout; False: they would have to, so nothing has
    happened."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
            await change(connection)
    except (errors.LockNotAvailable, errors.DeadlockDetected):
        return False
    return True


async def _files(connection: Connection) -> tuple[int, int, int]:
    [row] = await _fetch(connection, "delta_files", {})
    return row


async def _fetch(connection: Connection, name: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement(name), parameters)).fetchall()
