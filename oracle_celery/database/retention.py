"""What is deleted because it is old: how long each kind is kept, what would go now, and a round that lets it go.

Guarantee: no task that may still run goes, unless `abandoned` says so; nobody waits for a deletion, which is partitions
or some hundred rows at a time, and a round may end anywhere. What is gone is told as gone: see `history_until` and
`logs_until` of oracle.history_floor. What bites: a fact about a deleted task that comes in late, from a journal that
was found again, makes a new record with what it tells alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg

from oracle_celery.database.facts import Instant
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.partitions import (
    TABLES,
    Partition,
    TableBusy,
    drop_detached,
    drop_partition,
    due_partitions,
    partitions_of,
)
from oracle_celery.database.sql import statement
from oracle_celery.settings import Settings
from oracle_celery.states import Status

__all__ = ["KINDS", "Removed", "RetentionKind", "RetentionPreview", "RetentionQueries", "Windows", "sweep"]

Connection = psycopg.AsyncConnection[Any]

DAY = 86_400.0  # seconds
#: The advisory lock of a round, arbitrary but for ever.
KEY = 0x6F7261636C65_03
#: Tasks that one statement looks at, and rows of other kinds that one deletes.
BATCH = 1_000
#: Seconds after which workers that are gone are forgotten, and hosts of which nothing was heard.
WORKERS_AGE = 30 * DAY
HOSTS_AGE = 365 * DAY
#: Seconds for which a cancel whose task is gone waits for a message that has not come: in a queue that was paused, or
#: that nobody consumed, it may lie for long, and must not run then. A message with an eta waits for that besides: until
#: it has come the task itself stays.
CANCELS_AGE = 365 * DAY

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_STATUSES = {
    "completed": (Status.COMPLETED,),
    "failed": (Status.FAILED,),
    "cancelled": (Status.CANCELLED,),
    "abandoned": (Status.PENDING, Status.IN_PROGRESS),
}
_MOMENTS = {"abandoned": "greatest(changed_at, eta)"}


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that each kind is kept; None: for ever."""

    completed: float | None
    failed: float | None
    cancelled: float | None
    abandoned: float | None
    history: float | None
    logs: float | None
    messages: float | None
    audit: float | None

    @classmethod
    def of(cls, settings: Settings) -> Windows:
        days = {kind: getattr(settings, f"retention_{kind}") for kind in KINDS}
        return cls(**{kind: None if value is None else value * DAY for kind, value in days.items()})


KINDS = Windows.__struct_fields__


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What one step of a round has done."""

    kind: str  # one of KINDS, or "remains" of workers, hosts and cancels
    rows: int  # of a partition as the server estimates them
    size: int = 0  # bytes given back at once; rows leave room that is used again
    partition: str | None = None
    note: str | None = None  # why something that is old enough stays for now


class RetentionKind(msgspec.Struct, frozen=True, kw_only=True):
    """What of one kind is there, and what would go now. Rows and bytes are the server's estimates."""

    kind: str
    days: float | None  # that it is kept; null: for ever
    rows: int
    bytes: int
    due_rows: int
    due_bytes: int
    due_partitions: list[str]  # which go as a whole


class RetentionPreview(msgspec.Struct, frozen=True, kw_only=True):
    kinds: list[RetentionKind]
    as_of: Instant


class RetentionQueries:
    """Reads only; over whatever fetches rows (see `fetching`)."""

    def __init__(self, fetch: Fetch, windows: Windows) -> None:
        self._fetch = fetch
        self._windows = windows

    async def preview(self) -> RetentionPreview:
        [(now, _)] = await self._fetch(statement("partition_clock"), {})
        kinds = [await self._rows(kind, "task_state_record") for kind in _STATUSES]
        kinds += [await self._partitioned(kind, table, now) for kind, table in TABLES.items()]
        kinds += [await self._rows("messages", "task_message"), await self._rows("audit", "audit_entry")]
        return RetentionPreview(kinds=kinds, as_of=now.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z")

    async def _partitioned(self, kind: str, table: str, now: datetime) -> RetentionKind:
        window = getattr(self._windows, kind)
        partitions = [Partition(*row) for row in await self._fetch(statement("partitions"), {"table": table})]
        due = due_partitions(partitions, now, window)
        return RetentionKind(
            kind=kind,
            days=None if window is None else window / DAY,
            rows=sum(partition.rows for partition in partitions),
            bytes=sum(partition.size for partition in partitions),
            due_rows=sum(partition.rows for partition in due),
            due_bytes=sum(partition.size for partition in due),
            due_partitions=[partition.name for partition in due],
        )

    async def _rows(self, kind: str, table: str) -> RetentionKind:
        window = getattr(self._windows, kind)
        [(table_rows, size)] = await self._fetch(statement("table_size"), {"table": table})
        rows = await self._estimate(kind, -1000 * DAY)
        due = 0 if window is None else await self._estimate(kind, window)
        each = size / table_rows if table_rows else 0
        return RetentionKind(
            kind=kind,
            days=None if window is None else window / DAY,
            rows=rows,
            bytes=round(rows * each),
            due_rows=due,
            due_bytes=round(due * each),
            due_partitions=[],
        )

    async def _estimate(self, kind: str, age: float) -> int:
        """Rows older than so many seconds, as the planner sees them: nothing is read."""
        if kind in _STATUSES:
            moment = _MOMENTS.get(kind, "finished_at")
            queries = [statement("due_tasks").format(status=int(status), moment=moment) for status in _STATUSES[kind]]
        else:
            queries = [statement(f"due_{kind}")]
        plans = [await self._fetch(f"EXPLAIN (FORMAT JSON) {query}", {"age": age}) for query in queries]
        return sum(int(plan[0]["Plan"]["Plan Rows"]) for [(plan,)] in plans)


async def sweep(connection: Connection, windows: Windows) -> AsyncGenerator[Removed]:
    """One round over everything that is old enough; each step is done when it is told. Nothing where another round is
    under way."""
    [(is_alone,)] = await (await connection.execute(statement("alone"), {"key": KEY})).fetchall()
    if not is_alone:
        return
    try:
        async for removed in _partitions(connection, windows):
            yield removed
        async for removed in _tasks(connection, windows):
            yield removed
        async for removed in _others(connection, windows):
            yield removed
    finally:
        if not connection.closed:
            await connection.execute(statement("not_alone"), {"key": KEY})


async def _partitions(connection: Connection, windows: Windows) -> AsyncGenerator[Removed]:
    [(now, _)] = await (await connection.execute(statement("partition_clock"))).fetchall()
    for kind, table in TABLES.items():
        await drop_detached(connection, table)
        for partition in due_partitions(await partitions_of(connection, table), now, getattr(windows, kind)):
            note = None
            try:
                if not await drop_partition(connection, kind, partition):
                    note = f"{partition.name} stays until the sidecar has counted the failures and durations in it"
            except TableBusy as busy:
                note = str(busy)
            if note is not None:
                yield Removed(kind=kind, rows=0, note=note)
                break
            yield Removed(kind=kind, rows=partition.rows, size=partition.size, partition=partition.name)


async def _tasks(connection: Connection, windows: Windows) -> AsyncGenerator[Removed]:
    ages = {kind: getattr(windows, kind) for kind in _STATUSES}
    if all(age is None for age in ages.values()):
        return
    shortest = min(age for age in ages.values() if age is not None)
    kinds = {int(status): kind for kind, statuses in _STATUSES.items() for status in statuses}
    after = _BEGINNING
    while True:
        parameters = {**ages, "shortest": shortest, "after": after, "limit": BATCH}
        query = statement("delete_tasks").format(under_way=statement("under_way"))
        rows = await (await connection.execute(query, parameters)).fetchall()
        for _, _, status, deleted in rows:
            if deleted:
                yield Removed(kind=kinds[status], rows=deleted)
        looked_at, last, _, _ = rows[0]
        if looked_at < BATCH:
            return
        yield Removed(kind="remains", rows=0)  # nothing went, but time did: whoever drives a round may pause here
        after = last


async def _others(connection: Connection, windows: Windows) -> AsyncGenerator[Removed]:
    for kind in ("messages", "audit"):
        age = getattr(windows, kind)
        deleted = BATCH if age is not None else 0
        while deleted >= BATCH:
            async with connection.transaction():
                if kind == "audit":
                    await connection.execute(statement("allow_audit_deletion"))
                query = statement(f"delete_{kind}").format(under_way=statement("under_way"))
                cursor = await connection.execute(query, {"age": age, "limit": BATCH})
            deleted = cursor.rowcount
            if deleted:
                yield Removed(kind=kind, rows=deleted)
    async for removed in _cancellations(connection):
        yield removed
    ages = {"workers": WORKERS_AGE, "hosts": HOSTS_AGE}
    [(deleted,)] = await (await connection.execute(statement("delete_remains"), ages)).fetchall()
    if deleted:
        yield Removed(kind="remains", rows=deleted)


async def _cancellations(connection: Connection) -> AsyncGenerator[Removed]:
    after = 0
    while True:
        parameters = {"after": after, "horizon": CANCELS_AGE, "limit": BATCH}
        found = await connection.execute(statement("delete_cancellations"), parameters)
        [(looked_at, last, deleted)] = await found.fetchall()
        if deleted:
            yield Removed(kind="remains", rows=deleted)
        if looked_at < BATCH:
            return
        yield Removed(kind="remains", rows=0)
        after = last
