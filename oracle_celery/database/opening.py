"""Opens a database for a sidecar: first its schema, then the pool that readers share.

What bites: psycopg reports the same absence in several ways (refused, timed out, shutting down); here it is always
`DatabaseUnavailable`, so that nobody above this package needs psycopg to wait for a database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from oracle_celery.database import schema
from oracle_celery.database.untraced import untraced
from oracle_celery.errors import ConfigurationError, DatabaseUnavailable

__all__ = ["blocking_pool", "direct_connection", "migrate_schema", "open_pool", "require_schema"]

CONNECT_TIMEOUT_SECONDS = 5
POOL_SIZE = 8
BLOCKING_POOL_SIZE = 4
#: A reader that waits longer for a connection is told that the database is unavailable.
POOL_TIMEOUT_SECONDS = 5.0
STATEMENT_TIMEOUT_MILLISECONDS = 5_000

_OPTIONS: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": None,  # behind pgbouncer a prepared statement may meet another server
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "oracle-sidecar",
}


def migrate_schema(url: str, *, dry_run: bool = False) -> list[schema.Migration]:
    """What was applied, or would be. Blocks; a migration may take as long as it needs."""
    with _connection(url) as connection:
        return schema.migrate(connection, dry_run=dry_run)


def require_schema(url: str) -> None:
    """Raises SchemaMissing or SchemaOutOfDate unless this code may work on the database. Blocks."""
    with _connection(url) as connection:
        schema.require_current(connection)


async def open_pool(url: str) -> AsyncConnectionPool[Any]:
    """Returns at once, connected or not: the pool goes on trying in the background."""
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        url,
        min_size=1,
        max_size=POOL_SIZE,
        timeout=POOL_TIMEOUT_SECONDS,
        kwargs=_OPTIONS,
        configure=_configure,
        check=AsyncConnectionPool.check_connection,
        reconnect_timeout=float("inf"),
        open=False,
        name="oracle-sidecar",
    )
    await pool.open()
    return pool


def blocking_pool(url: str) -> ConnectionPool[Any]:
    """Not open yet. For a process that is not the sidecar: it holds no connection while nobody asks."""
    return ConnectionPool(
        url,
        min_size=0,
        max_size=BLOCKING_POOL_SIZE,
        timeout=POOL_TIMEOUT_SECONDS,
        kwargs={**_OPTIONS, "application_name": "oracle-app"},
        configure=_configure_blocking,
        check=ConnectionPool.check_connection,
        reconnect_timeout=POOL_TIMEOUT_SECONDS,
        open=False,
        name="oracle-app",
    )


def direct_connection(url: str) -> psycopg.Connection[Any]:
    """One connection, for a lock that lives as long as it does. Raises psycopg's errors."""
    return psycopg.connect(url, **_OPTIONS)


def _configure_blocking(connection: psycopg.Connection[Any]) -> None:
    connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MILLISECONDS}")


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    # not a start-up option: pgbouncer refuses those it does not know
    await untraced(connection).execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MILLISECONDS}")


@contextmanager
def _connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        with psycopg.connect(url, **_OPTIONS) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(detail=_one_line(error)) from error
    except psycopg.Error as error:  # waiting would not help: a role without rights, an address that is none
        raise ConfigurationError(
            setting="oracle_url", value="(not shown)", expected=f"PostgreSQL says: {_one_line(error)}"
        ) from error


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
