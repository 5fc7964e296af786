"""What stands between us and PostgreSQL: nothing, or a pooler such as pgbouncer.

In transaction mode a pooler gives each transaction whichever of its connections is free, and shares them with everybody
else who comes with the same user and database. What a session is told then belongs to nobody and to all: a
`statement_timeout` bounds the application's own statements, a LISTEN hears for whoever comes by, and an advisory lock
outlives its owner by an hour. So a connection is asked first what it is (`is_pooled`), and what a session would be told
is told to each transaction instead; where a session is needed, the address is tried (`shares_sessions`).

What makes it sure: a server tells each connection the process id of its backend when it begins, and a pooler tells
one that it made up. The pooler's own answer to unknown start-up options is no proof: it can be told to ignore them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

__all__ = [
    "AsyncBoundedConnection",
    "BoundedConnection",
    "is_pooled",
    "is_pooled_async",
    "patience_of",
    "shares_sessions",
]

#: Transactions of two sessions that are compared: in between a pooler's free connection may go to somebody else.
LOOKS = 10
#: Seconds for all of them. A pooler in session mode that has one connection only lets the second session wait.
LOOKING_SECONDS = 5.0

_BACKEND = "SELECT pg_backend_pid()"


class BoundedConnection(psycopg.Connection[Any]):
    """`patience`: milliseconds that each transaction must set for itself; None: the session has been told."""

    patience: int | None = None


class AsyncBoundedConnection(psycopg.AsyncConnection[Any]):
    """The same, for an event loop."""

    patience: int | None = None


def patience_of(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> int | None:
    """Where psycopg is traced, its instrumentation makes plain connections, whatever class was asked for."""
    return getattr(connection, "patience", None)


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether somebody else's transactions run in the same session."""
    found = connection.execute(_BACKEND).fetchone()
    return found is None or found[0] != connection.info.backend_pid


async def is_pooled_async(connection: psycopg.AsyncConnection[Any]) -> bool:
    """The same."""
    return await _backend(connection) != connection.info.backend_pid


async def shares_sessions(url: str, options: dict[str, Any]) -> bool:
    """Whether two connections to `url` get the same session, one after the other: as in pgbouncer's transaction mode,
    not in its session mode. `options` are psycopg's. Raises psycopg's errors."""
    async with await psycopg.AsyncConnection.connect(url, **options) as one:
        if not await is_pooled_async(one):
            return False
        try:
            async with asyncio.timeout(LOOKING_SECONDS), await psycopg.AsyncConnection.connect(url, **options) as other:
                for _ in range(LOOKS):
                    if await _backend(one) == await _backend(other):
                        return True
        except TimeoutError:
            pass
    return False


async def _backend(connection: psycopg.AsyncConnection[Any]) -> int | None:
    found = await (await connection.execute(_BACKEND)).fetchone()
    return None if found is None else int(found[0])
