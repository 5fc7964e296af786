"""Examines a PostgreSQL as an operator would: can it be reached, is its schema ours, does a notification arrive.

All of it ends within `EXAMINATION_SECONDS`, nothing is written, and no error tells a part of an address: libpq quotes
what it could not read, which may be a password. Whether a notification arrives is tried: one is sent over the address
that recorders use, and waited for on the one that the sidecar listens on. What bites: behind pgbouncer in transaction
mode LISTEN succeeds, hears nothing, and makes somebody else's connection a listener, so it is not tried there.
"""

from __future__ import annotations

import asyncio
import queue
import secrets
import threading
import time
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from oracle_celery.database import schema
from oracle_celery.database.opening import direct_connection, is_shared, open_pool
from oracle_celery.database.sql import statement
from oracle_celery.database.standby import Standby, StandbyStatus
from oracle_celery.errors import ConfigurationError, DatabaseUnavailable, SchemaMissing, SchemaOutOfDate

__all__ = ["DatabaseHealth", "OldTransaction", "StandbyHealth", "examine_database", "examine_standby"]

#: Seconds that a notification may take.
NOTIFICATION_PATIENCE = 2.0
#: Seconds after which a server that took a connection and says nothing is given up.
EXAMINATION_SECONDS = 20.0
STATEMENT_TIMEOUT_MILLISECONDS = 5_000


class OldTransaction(msgspec.Struct, frozen=True):
    """The oldest one that is open."""

    seconds: float
    application: str
    pid: int


class DatabaseHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What one examination found."""

    version: int  # as server_version_num, 150004 is 15.4
    is_standby: bool
    clock_skew: float  # seconds by which the server's clock is ahead of this machine's,
    clock_error: float  # and by how many that may be wrong
    connections_left: int
    oldest_transaction: OldTransaction | None
    schema_error: SchemaMissing | SchemaOutOfDate | None
    hears: bool  # a notification sent over the one address arrives on the other
    listen_error: str | None  # why nobody could listen
    is_pooled: bool  # the one address shares its sessions with others, transaction by transaction, as pgbouncer does,
    listens_pooled: bool  # and so does the other, where nobody can listen


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
        raise DatabaseUnavailable(detail=" ".join(str(answer).split())) from answer
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
    with connection.transaction():  # a pooler's session is everybody's: it is told nothing
        connection.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MILLISECONDS}")
        asked_at = time.time()
        row = connection.execute(statement("examine_server")).fetchone()
        answered_at = time.time()
        assert row is not None
        version, clock, left, is_standby = row
        oldest = connection.execute(statement("examine_transactions")).fetchone()
        schema_error = _schema_error(connection)
    listens_pooled, hears, listen_error = is_pooled, False, None
    try:
        if listen_url is not None:
            listens_pooled = asyncio.run(is_shared(listen_url))
        hears = not listens_pooled and _hears(connection, listen_url or url)
    except psycopg.Error as error:
        listen_error = " ".join(str(error).split())
    return DatabaseHealth(
        version=version,
        is_standby=is_standby,
        clock_skew=clock - (asked_at + answered_at) / 2,
        clock_error=(answered_at - asked_at) / 2,
        connections_left=left,
        oldest_transaction=None if oldest is None else OldTransaction(*oldest),
        schema_error=schema_error,
        hears=hears,
        listen_error=listen_error,
        is_pooled=is_pooled,
        listens_pooled=listens_pooled,
    )


def _schema_error(connection: psycopg.Connection[Any]) -> SchemaMissing | SchemaOutOfDate | None:
    try:
        schema.require_current(connection)
    except (SchemaMissing, SchemaOutOfDate) as error:
        return error
    return None


def _hears(sender: psycopg.Connection[Any], listen_url: str) -> bool:
    """On a channel of its own: nobody else is woken."""
    channel, word = f"oracle_examination_{secrets.token_hex(8)}", secrets.token_hex(8)
    with direct_connection(listen_url) as listener:
        listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        sender.execute("SELECT pg_notify(%s, %s)", (channel, word))
        # to its end: one left half-way holds the connection
        heard = list(listener.notifies(timeout=NOTIFICATION_PATIENCE, stop_after=1))
        return word in [notification.payload for notification in heard]
