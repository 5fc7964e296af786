"""Examines a PostgreSQL as an operator would: can it be reached, is its schema ours, does a notification arrive.

All of it ends within `EXAMINATION_SECONDS`, nothing stays written, and no error tells a part of an address: libpq
quotes what it could not read, which may be a password. Whether a notification arrives is tried: one is sent over the
address that recorders use, and waited for on the one that the sidecar listens on. So is whether a table can be written,
a temporary one that is rolled back. What bites: behind pgbouncer in transaction mode LISTEN succeeds, hears nothing,
and makes somebody else's connection a listener, so it is not tried there.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from oracle_celery.database import schema
from oracle_celery.database.opening import direct_connection, is_shared, open_pool
from oracle_celery.database.sql import statement
from oracle_celery.database.standby import Standby, StandbyStatus
from oracle_celery.errors import (
    ConfigurationError,
    ConnectionsExhausted,
    DatabaseUnavailable,
    SchemaMissing,
    SchemaOutOfDate,
)

__all__ = [
    "Blocker",
    "DatabaseHealth",
    "OldTransaction",
    "RecorderHealth",
    "Slot",
    "StandbyHealth",
    "Waits",
    "examine_database",
    "examine_standby",
]

#: Seconds that a notification may take.
NOTIFICATION_PATIENCE = 2.0
#: Seconds after which a server that took a connection and says nothing is given up.
EXAMINATION_SECONDS = 20.0
STATEMENT_TIMEOUT_MILLISECONDS = 5_000
LOCK_TIMEOUT_MILLISECONDS = 500
#: Seconds after which a row should have its place in a partition of its day.
UNPLACED_SECONDS = 3_600.0
#: What PostgreSQL (and pgbouncer) answer to one connection too many; libpq tells no code of it.
NO_MORE_CONNECTIONS = ("too many clients", "too many connections", "connection slots", "no more connections allowed")


class OldTransaction(msgspec.Struct, frozen=True):
    """The oldest one that is open."""

    seconds: float
    application: str
    pid: int


class Blocker(msgspec.Struct, frozen=True):
    """Somebody who holds a lock on a table of ours that recorders must wait for."""

    table: str
    application: str
    pid: int


class Slot(msgspec.Struct, frozen=True):
    """A replication slot."""

    name: str
    is_active: bool
    kept_bytes: int  # of WAL, for its consumer


class Waits(msgspec.Struct, frozen=True):
    """Seconds: of the pending task that has longest to wait for its eta, and of the longest run under way."""

    longest_eta: float
    longest_run: float


class RecorderHealth(msgspec.Struct, frozen=True):
    """What the recorder of a living worker has told with its last beat."""

    node: str
    dropped: int = 0
    quarantined: int = 0
    unconfirmed: int = 0
    journal_bytes: int = 0
    lag: float = 0.0  # seconds
    clock_skew: float = 0.0  # seconds by which the server's clock is ahead of the worker's


class DatabaseHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What one examination found."""

    version: int  # as server_version_num, 150004 is 15.4
    is_standby: bool
    clock_skew: float  # seconds by which the server's clock is ahead of this machine's,
    clock_error: float  # and by how many that may be wrong
    connections_left: int
    oldest_transaction: OldTransaction | None
    schema_error: SchemaMissing | SchemaOutOfDate | None
    is_schema_known: bool  # else somebody's lock keeps it from being read, and no error was found
    hears: bool  # a notification sent over the one address arrives on the other
    listen_error: str | None  # why nobody could listen
    is_pooled: bool  # the one address shares its sessions with others, transaction by transaction, as pgbouncer does,
    listens_pooled: bool  # and so does the other, where nobody can listen
    is_read_only: bool
    lacks_synchronous_standby: bool  # one is demanded, and none is connected
    notification_share: float  # of its queue that is full
    write_error: str | None  # why a table could not be written to; None: it could, or it was not tried,
    is_full: bool  # and whether for lack of room
    slots: tuple[Slot, ...]
    blockers: tuple[Blocker, ...]
    default_rows: tuple[str, ...]  # tables with rows in their default partition
    recorders: tuple[RecorderHealth, ...]
    waits: Waits | None  # None: it could not be told in time


def examine_database(url: str, listen_url: str | None) -> DatabaseHealth:
    """Raises ConfigurationError for an address that is none, and DatabaseUnavailable."""
    _require_readable(url, "oracle_url")
    if listen_url is not None:
        _require_readable(listen_url, "oracle_listen_url")
    found: queue.Queue[DatabaseHealth | psycopg.Error] = queue.Queue()
    thread = threading.Thread(target=_examine, args=(url, listen_url, found), name="oracle-examination", daemon=True)
    thread.start()
    try:
        answer = found.get(timeout=EXAMINATION_SECONDS)
    except queue.Empty:
        raise DatabaseUnavailable(
            detail=f"it took a connection, and was silent for {EXAMINATION_SECONDS:.0f} s"
        ) from None
    if isinstance(answer, psycopg.Error):
        detail = _one_line(answer)
        is_exhausted = any(words in detail for words in NO_MORE_CONNECTIONS)
        raise (ConnectionsExhausted if is_exhausted else DatabaseUnavailable)(detail=detail) from answer
    return answer


class StandbyHealth(msgspec.Struct, frozen=True):
    status: StandbyStatus
    lag: float  # seconds


def examine_standby(url: str, read_url: str) -> StandbyHealth:
    """As a sidecar would find it that starts now. Raises ConfigurationError for an address that is none, and
    DatabaseUnavailable where the primary does not answer."""
    _require_readable(read_url, "oracle_read_url")
    return asyncio.run(_standby(url, read_url))


async def _standby(url: str, read_url: str) -> StandbyHealth:
    primary, pool = await open_pool(url), await open_pool(read_url)
    try:
        async with asyncio.timeout(EXAMINATION_SECONDS):
            standby = Standby(pool, primary)
            await standby.look()
            return StandbyHealth(standby.status, standby.lag)
    except TimeoutError:
        return StandbyHealth(StandbyStatus.AWAY, EXAMINATION_SECONDS)
    finally:
        await pool.close()
        await primary.close()


def _require_readable(url: str, setting: str) -> None:
    """An unescaped sign in a password makes the rest of it a host, a port or a mistake."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        parts = {"host": "@"}
    hosts, ports = str(parts.get("host", "")), str(parts.get("port", ""))
    if "@" in hosts or (ports and not ports.replace(",", "").isdigit()):
        expected = "it cannot be read; in a password write @ as %40, / as %2F, : as %3A and % as %25"
        raise ConfigurationError(setting=setting, value="(not shown)", expected=expected)


def _examine(url: str, listen_url: str | None, found: queue.Queue[DatabaseHealth | psycopg.Error]) -> None:
    try:
        with direct_connection(url) as connection:
            found.put(_health(connection, url, listen_url))
    except psycopg.Error as error:
        found.put(error)


def _health(connection: psycopg.Connection[Any], url: str, listen_url: str | None) -> DatabaseHealth:
    is_pooled = asyncio.run(is_shared(url))
    with _bounded(connection):
        asked_at = time.time()
        row = connection.execute(statement("examine_server")).fetchone()
        answered_at = time.time()
        assert row is not None
        version, clock, left, is_standby, is_read_only, lacks_standby, notification_share = row
        oldest = connection.execute(statement("examine_transactions")).fetchone()
        slots = connection.execute(statement("examine_slots")).fetchall()
        blockers = connection.execute(statement("examine_blockers")).fetchall()
    is_schema_known, schema_error = _schema_error(connection)
    is_ours = is_schema_known and schema_error is None and not is_standby
    write_error = None if is_standby or is_read_only else _write_error(connection)
    listens_pooled, hears, listen_error = is_pooled, False, None
    try:
        if listen_url is not None:
            listens_pooled = asyncio.run(is_shared(listen_url))
        hears = not listens_pooled and not is_standby and _hears(connection, listen_url or url)
    except psycopg.Error as error:
        listen_error = _one_line(error)
    return DatabaseHealth(
        version=version,
        is_standby=is_standby,
        clock_skew=clock - (asked_at + answered_at) / 2,
        clock_error=(answered_at - asked_at) / 2,
        connections_left=left,
        oldest_transaction=None if oldest is None else OldTransaction(*oldest),
        schema_error=schema_error,
        is_schema_known=is_schema_known,
        hears=hears,
        listen_error=listen_error,
        is_pooled=is_pooled,
        listens_pooled=listens_pooled,
        is_read_only=is_read_only,
        lacks_synchronous_standby=lacks_standby,
        notification_share=notification_share,
        write_error=None if write_error is None else _one_line(write_error),
        is_full=isinstance(write_error, errors.DiskFull),
        slots=tuple(Slot(*row) for row in slots),
        blockers=tuple(Blocker(*row) for row in blockers),
        default_rows=_default_rows(connection) if is_ours else (),
        recorders=_recorders(connection) if is_ours else (),
        waits=_waits(connection) if is_ours else None,
    )


def _write_error(connection: psycopg.Connection[Any]) -> psycopg.Error | None:
    """A megabyte, so that files grow; none of it stays."""
    try:
        with _bounded(connection, stays=False):
            connection.execute(statement("examine_writing"))
    except psycopg.Error as error:
        return error
    return None


@contextmanager
def _bounded(connection: psycopg.Connection[Any], *, stays: bool = True) -> Iterator[None]:
    """What takes long, or waits for somebody's lock, raises QueryCanceled or LockNotAvailable."""
    with connection.transaction(force_rollback=not stays):  # a pooler's session is everybody's: it is told nothing
        connection.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MILLISECONDS}")
        connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MILLISECONDS}")
        yield


def _default_rows(connection: psycopg.Connection[Any]) -> tuple[str, ...]:
    """Of those that no sidecar has given their place for an hour; none where that cannot be told in time."""
    old = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE stored_at < clock_timestamp() - make_interval(secs => %s))")
    found = []
    with contextlib.suppress(errors.QueryCanceled, errors.LockNotAvailable), _bounded(connection):
        for table, partition in connection.execute(statement("examine_default_partitions")).fetchall():
            query = old.format(sql.Identifier("oracle", partition))
            if connection.execute(query, [UNPLACED_SECONDS]).fetchone() == (True,):
                found.append(table)
    return tuple(found)


def _recorders(connection: psycopg.Connection[Any]) -> tuple[RecorderHealth, ...]:
    """None where that cannot be told in time."""
    with contextlib.suppress(errors.QueryCanceled, errors.LockNotAvailable), _bounded(connection):
        rows = connection.execute(statement("examine_recorders")).fetchall()
        return tuple(msgspec.convert({"node": node, **counts}, RecorderHealth, strict=False) for node, counts in rows)
    return ()


def _waits(connection: psycopg.Connection[Any]) -> Waits | None:
    """None where that cannot be told in time: others wait for the server, too."""
    with contextlib.suppress(errors.QueryCanceled, errors.LockNotAvailable), _bounded(connection):
        row = connection.execute(statement("examine_waits")).fetchone()
        return None if row is None else Waits(*row)
    return None


def _schema_error(connection: psycopg.Connection[Any]) -> tuple[bool, SchemaMissing | SchemaOutOfDate | None]:
    """Whether that can be told in time, and what."""
    try:
        with _bounded(connection):
            schema.require_current(connection)
    except (SchemaMissing, SchemaOutOfDate) as error:
        return True, error
    except (errors.QueryCanceled, errors.LockNotAvailable):
        return False, None
    return True, None


def _hears(sender: psycopg.Connection[Any], listen_url: str) -> bool:
    """On a channel of its own: nobody else is woken."""
    channel, word = f"oracle_examination_{secrets.token_hex(8)}", secrets.token_hex(8)
    with direct_connection(listen_url) as listener:
        listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        sender.execute("SELECT pg_notify(%s, %s)", (channel, word))
        # to its end: one left half-way holds the connection
        heard = list(listener.notifies(timeout=NOTIFICATION_PATIENCE, stop_after=1))
        return word in [notification.payload for notification in heard]


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
