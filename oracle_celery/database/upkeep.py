"""What has to be done once for a whole fleet, by the sidecar that leads: silent workers, expired tasks, statistics.

Guarantee: everything here may be done twice, or by two at once, without harm; leading only saves work. A worker is
silent by the database's clock alone, and never because the database itself was away. What bites: the lead is a lock of
this connection, so the connection must be direct and its own, not one of a pool's.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg

from oracle_celery.database.cursor import Cursor, CursorUnusable, Snapshot
from oracle_celery.database.failure_fold import fold_failures, trim_failures
from oracle_celery.database.horizon import Marks
from oracle_celery.database.partitions import TABLES, keep_partitions
from oracle_celery.database.retention import Removed, Windows, sweep
from oracle_celery.database.silence import KEEPALIVES, impatient
from oracle_celery.database.sql import statement
from oracle_celery.database.statistic_deltas import NO_REST, StatisticDeltas
from oracle_celery.database.untraced import untraced
from oracle_celery.errors import DatabaseUnavailable

__all__ = ["FOLD_PARAMETERS", "LostTask", "SilentWorker", "Upkeep"]

#: The advisory lock of the leading sidecar, arbitrary but for ever.
LEAD_KEY = 0x6F7261636C65_01
#: Deltas folded at once: bounds the transaction after a long absence.
FOLD_LIMIT = 20_000
CONNECT_TIMEOUT = 5  # seconds
STATEMENT_TIMEOUT = 30_000  # milliseconds
#: SQLSTATEs, and a class of them, with which nobody's facts get in: a read-only server, a full disk or memory.
NOBODY_WRITES = ("25006", "53")
#: Kept messages of tasks that have ended that are looked at in one transaction.
MESSAGES_LIMIT = 10_000
#: Seconds that minutes of statistics are kept.
STATISTICS_AGE = 30 * 24 * 3600.0
#: Seconds that runs and missed due times of beat's entries are kept.
SCHEDULE_AGE = 2 * 24 * 3600.0
#: Of what is looked back on for a day only: the day, and a little for whoever looks at its edge.
DAY_AGE = 25 * 3600.0
#: Users whose waiting and running tasks are written down each time, those who have most.
SAMPLED_USERS = 500
#: Rows of the history whose durations are folded at once.
DURATIONS_LIMIT = 20_000
#: Seconds: what takes less or more counts as these.
SHORTEST, LONGEST = 1e-4, 1e7
#: Buckets of the histogram from one duration to its double.
BUCKETS_PER_OCTAVE = 6
#: Names of tasks, and queues, that metrics count by themselves; all others are counted together.
METRIC_LABELS = 100
#: What metrics call those others: a task or a queue of this name is one of them.
OTHERS = "other"
#: Characters of the longest name that is a label.
LABEL_LENGTH = 200
#: What one fold of the statistics takes, and how it names what metrics count.
FOLD_PARAMETERS = {"limit": FOLD_LIMIT, "labels": METRIC_LABELS, "others": OTHERS, "length": LABEL_LENGTH, **NO_REST}
#: Rows of each table forgotten in one transaction, and seconds after which one call leaves the others to the next.
TRIM_LIMIT = 20_000
TRIM_SECONDS = 2.0
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

    def __init__(self, dsn: str, windows: Windows | None = None) -> None:
        """`windows`: how long each kind is kept; None: everything for ever."""
        self._dsn = dsn
        self._windows = windows
        self._sweep: AsyncGenerator[Removed] | None = None
        self._deltas = StatisticDeltas()
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._leads = False
        self._is_nobody_able_to_write = False

    @property
    def is_away(self) -> bool:
        """After a failure: whether workers, too, could tell nothing meanwhile. There is no connection any more, or the
        server lets nobody write."""
        return self._connection is None or self._connection.closed or self._is_nobody_able_to_write

    async def close(self) -> None:
        """Gives the lead up."""
        self._sweep = None
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
        async with self._translated():
            return await self._deltas.fold(await self._connect(), FOLD_PARAMETERS)

    async def fold_failures(self) -> bool:
        """One part of the history's failures into groups; True: there may be more."""
        async with self._translated():
            return await fold_failures(await self._connect())

    async def trim_failures(self) -> bool:
        """Forgets some of the failures that are too old; True: there may be more."""
        async with self._translated():
            return await trim_failures(await self._connect())

    async def trim_statistics(self, age: float = STATISTICS_AGE) -> bool:
        """Forgets minutes older than `age` seconds, a bounded part of them; True: there may be more."""
        return await self._trim("trim_statistics", {"age": age, "day": min(age, DAY_AGE)})

    async def trim_metrics(self, age: float = DAY_AGE) -> None:
        """Makes room among the labels of metrics, where there is none, by those unused for `age` seconds."""
        async with self._translated():
            connection = await self._connect()
            await connection.execute(statement("trim_metrics"), {"age": age, "labels": METRIC_LABELS})

    async def sample_gauges(self) -> None:
        """Writes down how many tasks wait and run now."""
        async with self._translated():
            connection = await self._connect()
            await connection.execute(statement("trim_gauges"))
            await connection.execute(statement("sample_gauges"), {"users": SAMPLED_USERS})

    async def fold_durations(self) -> int:
        """How many rows of the history were looked at for durations: fold again at once where it is DURATIONS_LIMIT or
        more. The histogram and how far it has come are one transaction, so each run counts once."""
        snapshot_sql = statement("snapshot")
        fold = statement("fold_durations").format(snapshot=snapshot_sql)
        limits = {"shortest": SHORTEST, "longest": LONGEST, "per_octave": BUCKETS_PER_OCTAVE, "age": DAY_AGE}
        width = len(Snapshot.__struct_fields__)
        async with self._translated():
            connection = await self._connect()
            async with connection.transaction():
                [(text,)] = await self._fetch("lock_durations", {})
                start = statement("start_cursor").format(snapshot=snapshot_sql, latest=statement("latest_transaction"))
                marks = Marks(await self._fetch("history_marks", {}))
                [now] = await (await connection.execute(start, marks.latest())).fetchall()
                cursor = _usable(text, Snapshot.of(now), now[width])
                where = {
                    "xip": [str(x) for x in cursor.xip],
                    "xmax": str(cursor.xmax),
                    "since": marks.since(cursor),
                    "limit": DURATIONS_LIMIT,
                }
                [row] = await (await connection.execute(fold, where | limits)).fetchall()
                looked_at, last = row[width:]
                cursor = cursor.advanced(Snapshot.of(row), last, is_cut=looked_at >= DURATIONS_LIMIT)
                await connection.execute(statement("move_durations"), {"cursor": str(cursor)})
                return int(looked_at)

    async def keep_partitions(self) -> None:
        """Those of the days to come, and how transactions follow time. Raises TableBusy where it has to be tried
        again."""
        async with self._translated():
            connection = await self._connect()
            marks = Marks(await self._fetch("history_marks", {}))
            await connection.execute(statement("mark_history"), marks.latest())
            await connection.execute(statement("thin_marks"))
            for table in TABLES.values():
                await keep_partitions(connection, table)

    async def retain(self, seconds: float) -> tuple[list[Removed], bool]:
        """Goes on with a round of retention for about so long, or begins one; what it has done, and whether there is
        more to do."""
        if self._windows is None:
            return [], False
        async with self._translated():
            steps = self._sweep or sweep(await self._connect(), self._windows)
            self._sweep = None  # where it fails it is over
            removed: list[Removed] = []
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                step = await anext(steps, None)
                if step is None:
                    return removed, False
                if step.rows or step.partition is not None or step.note is not None:
                    removed.append(step)
            self._sweep = steps
            return removed, True

    async def trim_schedule(self, age: float = SCHEDULE_AGE) -> bool:
        """Forgets what beat sent and missed more than `age` seconds ago, but for the newest run of each entry that it
        still has; a bounded part of it. True: there may be more."""
        return await self._trim("trim_schedule", {"age": age})

    async def forget_messages(self) -> int:
        """The messages of long runs that have completed: nobody can retry those. Returns how many."""
        forgotten = 0
        end = time.monotonic() + TRIM_SECONDS
        while True:
            [(looked_at, gone)] = await self._fetch("forget_messages", {"limit": MESSAGES_LIMIT})
            forgotten += int(gone)
            if looked_at < MESSAGES_LIMIT or time.monotonic() > end:
                return forgotten

    async def forget_progress(self) -> int:
        """What tasks that have ended told while they ran. Returns how many."""
        async with self._translated():
            connection = await self._connect()
            forgotten = await connection.execute(statement("forget_progress"), {"limit": MESSAGES_LIMIT})
            return forgotten.rowcount

    async def _trim(self, name: str, parameters: Mapping[str, Any]) -> bool:
        """Transaction by transaction, for a while; True: there may be more."""
        end = time.monotonic() + TRIM_SECONDS
        while True:
            [(trimmed,)] = await self._fetch(name, {**parameters, "limit": TRIM_LIMIT})
            if trimmed < TRIM_LIMIT or time.monotonic() > end:
                return bool(trimmed >= TRIM_LIMIT)

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
                connection = await psycopg.AsyncConnection.connect(
                    self._dsn,
                    autocommit=True,
                    connect_timeout=CONNECT_TIMEOUT,
                    application_name="oracle-upkeep",
                    **KEEPALIVES,
                )
                try:
                    await self._prepare(impatient(connection, STATEMENT_TIMEOUT))
                except BaseException:  # a half-prepared one must not be used: its days would not be UTC's
                    await connection.close()
                    raise
                self._connection = connection
            return self._connection

    @staticmethod
    async def _prepare(connection: psycopg.AsyncConnection[Any]) -> None:
        await untraced(connection).execute(f"SET statement_timeout = {STATEMENT_TIMEOUT}")
        await connection.execute(statement("synchronous_commit"))
        await connection.execute(statement("keepalives"))  # the lead is not to outlive the network
        await connection.execute("SET TIME ZONE 'UTC'")  # days of partitions are UTC's

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        self._is_nobody_able_to_write = False
        try:
            yield
        except psycopg.Error as error:
            self._is_nobody_able_to_write = (error.sqlstate or "").startswith(NOBODY_WRITES)
            raise DatabaseUnavailable(detail=" ".join(str(error).split())) from error


def _usable(text: str | None, now: Snapshot, latest: int | None) -> Cursor:
    """Where a fold goes on: after the last one, at the first time at the beginning, and in another database than it was
    made for (a restored one) at what comes from now on."""
    if text is None:
        return Cursor(now.system_id, now.timeline, now.floor)
    try:
        cursor = Cursor.parse(text)
        cursor.check(now)
    except CursorUnusable:
        return Cursor.at(now, latest)
    return cursor
