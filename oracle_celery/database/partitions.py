"""The partitions of the history and of the log: one for each day of the server's time, made ahead, dropped when old.

Guarantee: a recorder never waits for any of it longer than `LOCK_TIMEOUT`, and never fails for a partition that is
missing: the default one takes every row. Each step is a transaction of its own and may be interrupted anywhere; the
next round goes on. What bites: a table with a default partition cannot have one detached concurrently, so making and
dropping need the table for themselves for a moment; where somebody reads it for long (pg_dump), they raise `TableBusy`
and are tried again later. History goes only when failures and durations have been folded from it.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec
import psycopg
from psycopg import errors, sql

from oracle_celery.database.cursor import Cursor, CursorUnusable
from oracle_celery.database.silence import answers_within
from oracle_celery.database.sql import statement
from oracle_celery.errors import OracleError

__all__ = [
    "TABLES",
    "Partition",
    "TableBusy",
    "drop_detached",
    "drop_partition",
    "due_partitions",
    "keep_partitions",
    "partitions_of",
]

Connection = psycopg.AsyncConnection[Any]

#: What is partitioned, by what it is called in settings.
TABLES: Mapping[str, str] = {"history": "task_transition", "logs": "task_log"}
#: Days for which there is a partition before they come.
DAYS_AHEAD = 3
#: Milliseconds that a recorder may wait for us.
LOCK_TIMEOUT = 300
DAY = timedelta(days=1)


class TableBusy(OracleError):
    """Somebody reads oracle.{table} for long (pg_dump?): its partitions stay as they are for now."""


class Partition(msgspec.Struct, frozen=True):
    name: str
    is_default: bool
    start: datetime | None  # None: whatever was before
    end: datetime | None  # None: the default partition
    rows: int  # as the server estimates them
    size: int  # bytes, with indexes


async def partitions_of(connection: Connection, table: str) -> list[Partition]:
    """The oldest first."""
    rows = await (await connection.execute(statement("partitions"), {"table": table})).fetchall()
    return [Partition(*row) for row in rows]


def due_partitions(partitions: list[Partition], now: datetime, seconds: float | None) -> list[Partition]:
    """Those all of whose rows are older than that; the days that are being written are never among them."""
    if seconds is None:
        return []
    until = now - timedelta(seconds=seconds)
    return [partition for partition in partitions if partition.end is not None and partition.end <= until]


async def keep_partitions(connection: Connection, table: str) -> None:
    """Makes those of the days to come, after it has given what is in the default partition its place. Raises
    TableBusy."""
    partitions = await partitions_of(connection, table)
    [(now, today)] = await (await connection.execute(statement("partition_clock"))).fetchall()
    known_end = max((partition.end for partition in partitions if partition.end is not None), default=None)
    default = next((partition.name for partition in partitions if partition.is_default), None)
    if default is None:
        async with _alone(connection, table):
            await _make(connection, table, f"{table}_default", None)
    elif (known_end is None or known_end <= now) and await _has_rows(connection, default):
        known_end = await _settle(connection, table, default, known_end, today + 2 * DAY)
    day = max(today, known_end or today)
    while day <= today + DAYS_AHEAD * DAY:
        name = _name(table, day)
        try:
            async with _alone(connection, table):
                await _make(connection, table, name, (day, day + DAY))
        except errors.DuplicateTable:  # left by an interrupted round; never one that is attached
            await drop_detached(connection, table)
            return
        except errors.CheckViolation:
            if default is None:
                raise
            await _settle(connection, table, default, day, day + DAY)
        day += DAY


async def drop_partition(connection: Connection, kind: str, partition: Partition) -> bool:
    """False: not all of it is folded yet. Raises TableBusy."""
    table = TABLES[kind]
    last = None
    if kind == "history":
        query = sql.SQL(statement("last_transaction")).format(partition=sql.Identifier(partition.name))
        [(last,)] = await (await connection.execute(query)).fetchall()
        if last is not None and not await _is_folded(connection, last):
            return False
    async with _alone(connection, table):
        floor = {"until": partition.end, "txid": str(0 if last is None else last + 1)}
        await connection.execute(statement(f"raise_{kind}_floor"), floor)
        names = {"table": sql.Identifier(table), "partition": sql.Identifier(partition.name)}
        await _run(connection, "detach_partition", **names)
    await _run(connection, "drop_partition", partition=sql.Identifier(partition.name))
    return True


async def drop_detached(connection: Connection, table: str) -> None:
    """What an interrupted round has left."""
    for (name,) in await (await connection.execute(statement("detached_partitions"), {"table": table})).fetchall():
        await _run(connection, "drop_partition", partition=sql.Identifier(name))


async def _settle(connection: Connection, table: str, default: str, start: datetime | None, end: datetime) -> datetime:
    """The default partition becomes that of its days, whatever it holds, and an empty one takes its place. Returns the
    end of those days."""
    until = {"start": sql.Literal(start or "-infinity"), "end": sql.Literal(end)}
    partition = sql.Identifier(default)
    async with _alone(connection, table):
        await _run(connection, "unbound_partition", partition=partition)
        await _run(connection, "bound_partition", partition=partition, **until)
    try:
        async with _unhurried(connection):
            await _run(connection, "check_bounds", partition=partition)
    except errors.CheckViolation:
        async with _unhurried(connection):
            await _run(connection, "unbound_partition", partition=partition)
            await _run(connection, "date_anew", partition=partition, **until)
            await _run(connection, "bound_partition", partition=partition, **until)
            await _run(connection, "check_bounds", partition=partition)
    name = _name(table, start or end, end)
    async with _alone(connection, table):
        names = {"table": sql.Identifier(table), "partition": sql.Identifier(name)}
        await _run(connection, "detach_partition", table=sql.Identifier(table), partition=partition)
        await _run(connection, "rename_partition", partition=partition, new=sql.Identifier(name))
        bounds = {"start": sql.SQL("MINVALUE") if start is None else until["start"], "end": until["end"]}
        await _run(connection, "attach_partition", **names, **bounds)
        await _run(connection, "unbound_partition", partition=sql.Identifier(name))
        await _make(connection, table, default, None)
    return end


async def _make(connection: Connection, table: str, name: str, bounds: tuple[datetime, datetime] | None) -> None:
    names = {"table": sql.Identifier(table), "partition": sql.Identifier(name)}
    await _run(connection, "make_partition", **names)
    if bounds is None:
        await _run(connection, "attach_default", **names)
    else:
        await _run(connection, "attach_partition", **names, start=sql.Literal(bounds[0]), end=sql.Literal(bounds[1]))


async def _has_rows(connection: Connection, partition: str) -> bool:
    query = sql.SQL(statement("has_rows")).format(partition=sql.Identifier(partition))
    [(found,)] = await (await connection.execute(query)).fetchall()
    return bool(found)


async def _is_folded(connection: Connection, last: int) -> bool:
    """Whether what makes failures and durations of the history has seen all up to a transaction."""
    [cursors] = await (await connection.execute(statement("fold_cursors"))).fetchall()
    for text in cursors:
        try:
            cursor = Cursor.parse(text or "")
        except CursorUnusable:
            return False
        if min(cursor.xip, default=cursor.xmax) <= last:
            return False
    return True


async def _run(connection: Connection, name: str, **parts: sql.Composable) -> None:
    await connection.execute(sql.SQL(statement(name)).format(**parts))


@asynccontextmanager
async def _alone(connection: Connection, table: str) -> AsyncIterator[None]:
    """A transaction that nobody waits for longer than the lock's timeout."""
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
            yield
    except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
        raise TableBusy(table=table) from error


@asynccontextmanager
async def _unhurried(connection: Connection) -> AsyncIterator[None]:
    """A transaction that reads all of a partition, while others write, however long that takes."""
    with answers_within(connection, math.inf):
        async with connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 0")
            yield


def _name(table: str, start: datetime, end: datetime | None = None) -> str:
    later = "" if end is None else f"_{end:%Y%m%d}"
    return f"{table}_p{start:%Y%m%d}{later}"
