"""A peer that says nothing counts as gone, however it fell silent.

A network that drops packets tells nobody: a connection over it looks open for ever, and on the server's side too, where
it holds the session's locks. So the kernel asks (`KEEPALIVES`, and the statement of that name for the server's end):
whoever does not answer for some ten seconds is gone. That does not help where something in between, a proxy or a pooler
that hangs, goes on acknowledging what it never passes on. There only a missing answer tells, and `impatient` gives a
connection up that has waited longer for one than the server itself would take.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import psycopg

__all__ = ["GRACE_SECONDS", "KEEPALIVES", "answers_within", "impatient"]

#: libpq's, for all connections of ours: seconds until it asks and between two questions, and how many may be in vain.
KEEPALIVES: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    # milliseconds that what was sent may stay unacknowledged
    "tcp_user_timeout": 10_000,
}
#: Seconds by which a server's own limit on a statement comes first: it says what took so long.
GRACE_SECONDS = 2.0

Connection = TypeVar("Connection", psycopg.Connection[Any], psycopg.AsyncConnection[Any])


def impatient(connection: Connection, statement_timeout: float) -> Connection:
    """The same connection, which closes itself and raises OperationalError where an answer does not come.

    `statement_timeout`: milliseconds that the server gives the longest of its statements. It is a mark on the
    connection, not a class of its own: where psycopg is traced, its instrumentation makes plain connections.
    """
    marked, plain = cast("Any", connection), connection.wait

    def wait(answer: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        return plain(_bounded(connection, answer, marked.answer_seconds), *arguments, **options)

    marked.answer_seconds = statement_timeout / 1000 + GRACE_SECONDS
    marked.wait = wait
    return connection


@contextmanager
def answers_within(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], seconds: float | None
) -> Iterator[None]:
    """Within it an impatient connection waits so long for each answer; None: as long as ever. Others do not change."""
    marked = cast("Any", connection)
    usual = getattr(marked, "answer_seconds", None)
    if seconds is None or usual is None:
        yield
        return
    marked.answer_seconds = seconds
    try:
        yield
    finally:
        marked.answer_seconds = usual


def _bounded(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
    answer: Generator[Any, Any, Any],
    seconds: float,
) -> Generator[Any, Any, Any]:
    """psycopg resumes what waits for an answer several times a second, whether there is something or not."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(answer)
        while True:
            ready = yield wanted
            if time.monotonic() > deadline and not ready:
                connection.pgconn.finish()  # asking it for anything more, such as a rollback, would wait again
                raise psycopg.OperationalError(f"no answer from PostgreSQL within {seconds:g} s")
            wanted = answer.send(ready)
    except StopIteration as end:
        return end.value
