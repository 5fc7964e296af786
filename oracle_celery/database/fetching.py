"""How a reader's statement reaches PostgreSQL: over the sidecar's pool, or blocking, for whoever has no event loop.

Readers are written once, as coroutines over a `Fetch`. Driven by `Blocking` they never suspend, so they need no loop
and may be called in a shell, in a thread of a web process and in a test. What bites: a reader that awaits anything but
its fetch cannot be driven like that; `Blocking.answer` says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database.opening import blocking_pool
from oracle_celery.database.pooler import BoundedConnection, patience_of
from oracle_celery.errors import DatabaseUnavailable, QueryTooBroad

__all__ = ["Blocking", "Fetch", "Rows", "hurried", "over", "translated"]

Rows = list[tuple[Any, ...]]
#: Rows of a statement with its parameters. Raises psycopg.DataError, `QueryTooBroad` where it took too long, and
#: `DatabaseUnavailable` for all else.
Fetch = Callable[[str, dict[str, Any]], Awaitable[Rows]]

Answer = TypeVar("Answer")


def over(pool: AsyncConnectionPool[Any], patience: int | None = None) -> Fetch:
    """Fetches over a pool of the caller's. `patience`: milliseconds that a statement may take, else the pool's."""

    async def fetch(query: str, parameters: dict[str, Any]) -> Rows:
        with translated():
            async with pool.connection() as connection, hurried(connection, patience):
                cursor = connection.cursor(binary=True)
                await cursor.execute(query, parameters)
                rows: Rows = await cursor.fetchall()
                return rows

    return fetch


class Blocking:
    """A pool of its own, opened at the first question. Threads may share it; a forked child must make another."""

    def __init__(self, dsn: str) -> None:
        self._pool = blocking_pool(dsn)

    def close(self) -> None:
        self._pool.close()

    async def fetch(self, query: str, parameters: dict[str, Any]) -> Rows:
        """A `Fetch` that never suspends."""
        with translated():
            self._pool.open()
            with self._pool.connection() as connection, _bounded(connection):
                cursor = connection.cursor(binary=True)
                cursor.execute(query, parameters)
                rows: Rows = cursor.fetchall()
                return rows

    def answer(self, question: Coroutine[Any, Any, Answer]) -> Answer:
        """What a reader over `fetch` says."""
        try:
            question.send(None)
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer
        question.close()
        raise RuntimeError(f"{question!r} waits for something other than its fetch")


@asynccontextmanager
async def hurried(connection: AsyncConnection[Any], patience: int | None) -> AsyncIterator[None]:
    """Within it a statement may take `patience` milliseconds; None: what the connection was told."""
    if patience is None:
        patience = patience_of(connection)
    if patience is None:
        yield
        return
    async with connection.transaction():
        await connection.execute(f"SET LOCAL statement_timeout = {patience}")
        yield


@contextmanager
def _bounded(connection: BoundedConnection) -> Iterator[None]:
    patience = patience_of(connection)
    if patience is None:
        yield
        return
    with connection.transaction():
        connection.execute(f"SET LOCAL statement_timeout = {patience}")
        yield


@contextmanager
def translated() -> Iterator[None]:
    """psycopg's errors in the words of a `Fetch`."""
    try:
        yield
    except psycopg.DataError:
        raise
    except psycopg.errors.QueryCanceled as error:
        raise QueryTooBroad from error
    except psycopg.Error as error:  # a schema that is not there (any more) included: readers wait for it
        raise DatabaseUnavailable(detail=" ".join(str(error).split())) from error
