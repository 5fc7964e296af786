"""What has to be done once for a whole fleet, by the sidecar that leads: silent workers, expired tasks, statistics.

Guarantee: everything here may be done twice, or by two at once, without harm; leading only saves work. A worker is
silent by the database's clock alone, and never because the database itself was away. What bites: the lead is a lock of
this connection, so the connection must be direct and its own, not one of a pool's.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg

from oracle_celery.database.failure_fold import fold_failures, trim_failures
from oracle_celery.database.sql import statement
from oracle_celery.errors import DatabaseUnavailable

__all__ = ["LostTask", "SilentWorker", "Upkeep"]

#: The advisory lock of the leading sidecar, arbitrary but for ever.
LEAD_KEY = 0x6F7261636C65_01
#: Deltas folded at once: bounds the transaction after a long absence.
FOLD_LIMIT = 20_000
CONNECT_TIMEOUT = 5  # seconds
STATEMENT_TIMEOUT = 30_000  # milliseconds
#: Kept messages of completed tasks are looked for this far back, in seconds, and so many forgotten at once.
MESSAGES_AGE = 7 * 24 * 3600.0
MESSAGES_LIMIT = 10_000
#: Seconds that minutes of statistics are kept.
STATISTICS_AGE = 30 * 24 * 3600.0
#: Seconds that runs and missed due times of beat's entries are kept.
SCHEDULE_AGE = 2 * 24 * 3600.0
#: Seconds after a task's last moment in which a worker may still say that it has it.
EXPIRY_GRACE = 30.0
#: Tasks cancelled at once: bounds the transaction after a long absence.
EXPIRY_LIMIT = 1_000
#: Tasks of gone workers failed at once.
STRANDED_LIMIT = 1_000


class SilentWorker(msgspec.Struct, frozen=True):
    worker_id: str
    node: str
    silence: float  # seconds since its last beat
    is_replaced: bool  # a newer worker has taken its name: an answer under the name is not its own


class LostTask(msgspec.Struct, frozen=True):
    """A task that ran on a worker that was given up."""

    task_id: str
    name: str | None
    user_id: str | None


class Upkeep:
    """One connection, made when it is needed and again after an error."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._leads = False

    async def close(self) -> None:
        """Gives the lead up."""
        if self._connection is not None:
            await self._connection.close()
        self._connection = None
        self._leads = False

    async def try_lead(self) -> bool:
        """Whether this connection leads, from now until it ends."""
        await self._connect()
        if not self._leads:
            [(self._leads,)] = await self._fetch("try_lead", {"key": LEAD_KEY})
        return self._leads

    async def silent_workers(self, timeout: float) -> list[SilentWorker]:
        """Workers whose beats have been missing for `timeout` seconds, the longest silent first."""
        return [SilentWorker(*row) for row in await self._fetch("silent_workers", {"timeout": timeout})]

    async def mark_lost(self, worker_id: str, timeout: float = 0.0) -> list[LostTask]:
        """Gives a worker up and fails what it runs; returns those tasks. Does nothing where the worker has beaten
        within the last `timeout` seconds, or said goodbye."""
        rows = await self._fetch("mark_lost", {"worker_id": worker_id, "timeout": timeout})
        return [LostTask(*row) for row in rows]

    async def stranded_workers(self) -> set[str]:
        """Workers that are gone, by goodbye or given up, or were never known, and yet have tasks in progress."""
        return {worker_id for (worker_id,) in await self._fetch("stranded_workers", {})}

    async def fail_stranded(self, worker_ids: Collection[str]) -> int:
        """Fails what those workers are said to run, as `mark_lost` does, unless they are back. Returns how many: call
        again at once where it is STRANDED_LIMIT."""
        return await self._tell("fail_stranded", {"workers": list(worker_ids), "limit": STRANDED_LIMIT})

    async def expire_overdue(self, grace: float = EXPIRY_GRACE) -> int:
        """Cancels tasks that expired, by `grace` seconds and the database's clock, where no worker has them: a broker
        drops their messages and tells nobody. Returns how many: call again at once where it is EXPIRY_LIMIT."""
        return await self._tell("expire_overdue", {"grace": grace, "limit": EXPIRY_LIMIT})

    async def fold_statistics(self) -> int:
        """How many deltas became part of minutes: fold again at once where it is FOLD_LIMIT."""
        [(folded,)] = await self._fetch("fold_statistics", {"limit": FOLD_LIMIT})
        return int(folded)

    async def fold_failures(self) -> bool:
        """One part of the history's failures into groups; True: there may be more."""
        async with self._translated():
            return await fold_failures(await self._connect())

    async def trim_failures(self) -> bool:
        """Forgets some of the failures that are too old; True: there may be more."""
        async with self._translated():
            return await trim_failures(await self._connect())

    async def trim_statistics(self, age: float = STATISTICS_AGE) -> None:
        """Forgets minutes older than `age` seconds."""
        async with self._translated():
            connection = await self._connect()
            await connection.execute(statement("trim_statistics"), {"age": age})

    async def trim_schedule(self, age: float = SCHEDULE_AGE) -> None:
        """Forgets what beat sent and missed more than `age` seconds ago, but for each entry's newest run."""
        async with self._translated():
            connection = await self._connect()
            await connection.execute(statement("trim_schedule"), {"age": age})

    async def forget_messages(self) -> int:
        """The messages of long runs that have completed: nobody can retry those. Returns how many."""
        async with self._translated():
            connection = await self._connect()
            forgotten = await connection.execute(
                statement("forget_messages"), {"age": MESSAGES_AGE, "limit": MESSAGES_LIMIT}
            )
            return forgotten.rowcount

    async def _tell(self, name: str, parameters: Mapping[str, Any]) -> int:
        """Facts that no journal holds, in one transaction with the fence's row that stands for one."""
        file_id = str(uuid.uuid4())
        async with self._translated():
            connection = await self._connect()
            async with connection.transaction():
                told = await (await connection.execute(statement(name), {**parameters, "file": file_id})).fetchone()
                if told is None:
                    return 0
                await connection.execute(statement("forget_files"), {"files": [file_id]})
                return int(told[0])

    async def _fetch(self, name: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        async with self._translated():
            connection = await self._connect()
            return await (await connection.execute(statement(name), parameters)).fetchall()

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        async with self._translated():
            if self._connection is None or self._connection.closed:
                self._leads = False
                self._connection = await psycopg.AsyncConnection.connect(
                    self._dsn,
                    autocommit=True,
                    connect_timeout=CONNECT_TIMEOUT,
                    keepalives_idle=10,
                    application_name="oracle-upkeep",
                )
                await self._connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT}")
            return self._connection

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise DatabaseUnavailable(detail=" ".join(str(error).split())) from error
