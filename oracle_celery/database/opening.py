"""Opens a database for a sidecar: first its schema, then the pool that readers share.

What bites: psycopg reports the same absence in several ways (refused, timed out, shutting down); here it is always
`DatabaseUnavailable`, so that nobody above this package needs psycopg to wait for a database. And a client that hangs
up cancels its question wherever that is, also while it hands its connection back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from oracle_celery.database import schema
from oracle_celery.database.pooler import (
    AsyncBoundedConnection,
    BoundedConnection,
    is_pooled,
    is_pooled_async,
    shares_sessions,
)
from oracle_celery.database.silence import KEEPALIVES, answers_within, impatient
from oracle_celery.database.sql import statement
from oracle_celery.database.untraced import untraced
from oracle_celery.errors import ConfigurationError, DatabaseUnavailable

__all__ = [
    "LIVE_POOL_SIZE",
    "blocking_pool",
    "direct_connection",
    "is_shared",
    "migrate_schema",
    "open_pool",
    "require_schema",
    "require_sessions",
]

CONNECT_TIMEOUT_SECONDS = 5
#: Connections of a sidecar for whatever pages ask, and of its own for what streams live on: no crowd of slow questions
#: keeps news from those who wait for it.
POOL_SIZE = 8
LIVE_POOL_SIZE = 4
BLOCKING_POOL_SIZE = 4
#: A reader that waits longer for a connection is told that the database is unavailable.
POOL_TIMEOUT_SECONDS = 5.0
#: For so long a pool tries by itself to connect. Each of its pauses is twice the last one, and nobody else may try
#: meanwhile: after a long absence it would stay away for as long again. Once it has given up, the next reader makes it
#: try anew, and somebody reads several times a second.
RECONNECT_SECONDS = 5.0
STATEMENT_TIMEOUT_MILLISECONDS = 5_000
#: A connection that does not answer an empty question for so long is not handed out.
CHECK_SECONDS = 2.0

_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": None,  # behind pgbouncer a prepared statement may meet another server
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "application_name": "oracle-sidecar",
    **KEEPALIVES,
}


def migrate_schema(
    url: str, *, dry_run: bool = False, begins: Callable[[schema.Migration], None] | None = None
) -> list[schema.Migration]:
    """What was applied, or would be; `begins` is told before each. Blocks; one may take as long as it needs."""
    with _connection(url) as connection:
        return schema.migrate(connection, dry_run=dry_run, begins=begins)


def require_schema(url: str) -> None:
    """Raises SchemaMissing or SchemaOutOfDate unless this code may work on the database. Blocks."""
    with _connection(url) as connection:
        schema.require_current(connection)


async def require_sessions(url: str, setting: str) -> None:
    """Raises ConfigurationError where a pooler gives each transaction another session, and DatabaseUnavailable."""
    with _translated():
        shares = await is_shared(url)
    if shares:
        raise ConfigurationError(
            setting=setting,
            value="(not shown)",
            expected="it leads through a pooler in transaction mode (pgbouncer?), where the sidecar would hear nothing "
            "and its locks would outlive it; set oracle_listen_url to PostgreSQL's own address of the same database",
        )


async def is_shared(url: str) -> bool:
    """Whether a session at `url` is shared with others, transaction by transaction. Raises psycopg's errors."""
    return await shares_sessions(url, _OPTIONS)


async def open_pool(url: str, size: int = POOL_SIZE) -> AsyncConnectionPool[AsyncBoundedConnection]:
    """Returns at once, connected or not: whoever asks it makes it try to connect. It has `size` connections at most."""
    pool = AsyncConnectionPool(
        url,
        min_size=1,
        max_size=size,
        timeout=POOL_TIMEOUT_SECONDS,
        connection_class=AsyncBoundedConnection,
        kwargs=_OPTIONS,
        configure=_configure,
        check=_check,
        reset=_taken_back,
        reconnect_timeout=RECONNECT_SECONDS,
        open=False,
        name="oracle-sidecar",
    )
    await pool.open()
    return pool


def blocking_pool(url: str) -> ConnectionPool[BoundedConnection]:
    """Not open yet. For a process that is not the sidecar: it holds no connection while nobody asks."""
    return ConnectionPool(
        url,
        min_size=0,
        max_size=BLOCKING_POOL_SIZE,
        timeout=POOL_TIMEOUT_SECONDS,
        connection_class=BoundedConnection,
        kwargs={**_OPTIONS, "application_name": "oracle-app"},
        configure=_configure_blocking,
        check=_check_blocking,
        reconnect_timeout=RECONNECT_SECONDS,
        open=False,
        name="oracle-app",
    )


def direct_connection(url: str) -> psycopg.Connection[Any]:
    """One connection, for a lock that lives as long as it does: none of its statements takes longer than one of the
    pools'. Raises psycopg's errors."""
    connection = impatient(psycopg.connect(url, **_OPTIONS), STATEMENT_TIMEOUT_MILLISECONDS)
    if not is_pooled(connection):
        connection.execute(statement("keepalives"))
    return connection


def _configure_blocking(connection: BoundedConnection) -> None:
    impatient(connection, STATEMENT_TIMEOUT_MILLISECONDS)
    if is_pooled(connection):
        connection.patience = STATEMENT_TIMEOUT_MILLISECONDS
    else:
        connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MILLISECONDS}")
        connection.execute(statement("synchronous_commit"))  # it is for commands, which tell facts
        connection.execute(statement("keepalives"))


def _check_blocking(connection: BoundedConnection) -> None:
    with answers_within(connection, CHECK_SECONDS):
        ConnectionPool.check_connection(connection)


async def _check(connection: AsyncBoundedConnection) -> None:
    with answers_within(connection, CHECK_SECONDS):
        await AsyncConnectionPool.check_connection(connection)


async def _configure(connection: AsyncBoundedConnection) -> None:
    impatient(connection, STATEMENT_TIMEOUT_MILLISECONDS)
    # not a start-up option: pgbouncer refuses those it does not know
    if await is_pooled_async(untraced(connection)):
        connection.patience = STATEMENT_TIMEOUT_MILLISECONDS
    else:
        await connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MILLISECONDS}")
        await connection.execute(statement("keepalives"))


async def _taken_back(connection: AsyncBoundedConnection) -> None:
    """Nothing is left to do; but where there is this step, the pool's own tasks take a connection back, not whoever had
    it: cancelled in the middle of that, they would take it along, and leave whoever was to have it next waiting."""


@contextmanager
def _connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    with _translated(), psycopg.connect(url, **_OPTIONS) as connection:
        yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(detail=_one_line(error)) from error
    except psycopg.Error as error:  # waiting would not help: a role without rights, an address that is none
        raise ConfigurationError(
            setting="oracle_url", value="(not shown)", expected=f"PostgreSQL says: {_one_line(error)}"
        ) from error


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
