"""A command's transaction: all of it is committed, or nothing has happened.

What bites: whoever holds the lock of control must wait for nobody, so a command locks the tasks it changes first
(`Transaction.lock_tasks`) and control last (`Transaction.lock_control`). What a statement reads besides the rows that
it locks may be older than them: rules are read in a statement of their own, after the lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self

import msgspec
import psycopg
from psycopg_pool import PoolClosed

from oracle_celery.database.opening import blocking_pool
from oracle_celery.database.pooler import patience_of
from oracle_celery.database.silence import GRACE_SECONDS, answers_within
from oracle_celery.database.sql import statement
from oracle_celery.database.visibility import controllable
from oracle_celery.errors import AdminsOnly, BadQuery, DatabaseUnavailable, QueryTooBroad, ReadOnly
from oracle_celery.redaction import USUAL, Redaction
from oracle_celery.viewer import Actor, Viewer

__all__ = ["LONG_TIMEOUT", "CommandStore", "Transaction"]

#: The advisory lock under which desired states are numbered ("control"), arbitrary but for ever.
CONTROL_KEY = 0x636F6E74726F6C
#: Milliseconds for a statement that may read every task there is.
LONG_TIMEOUT = 120_000

Rows = list[tuple[Any, ...]]


class Transaction:
    """One transaction on one connection of the pool."""

    def __init__(self, connection: psycopg.Connection[Any], redaction: Redaction) -> None:
        self._connection = connection
        #: By which is masked what people write.
        self.redaction = redaction

    def fetch(self, name: str, parameters: Mapping[str, Any] | None = None, /, **parts: str) -> Rows:
        """The rows of a named statement; `parts` fill its braces."""
        return self._run(name, parameters, parts).fetchall()

    def execute(self, name: str, parameters: Mapping[str, Any] | None = None, /, **parts: str) -> None:
        self._run(name, parameters, parts)

    def lock_tasks(self, viewer: Viewer, ids: Sequence[str]) -> set[str]:
        """Those of the tasks that the viewer may act on: nobody else changes them until the end of the transaction."""
        parameters: dict[str, Any] = {"ids": list(ids)}
        rows = self.fetch("lock_tasks", parameters, controllable=controllable(viewer, parameters))
        return {task_id for (task_id,) in rows}

    def lock_control(self) -> None:
        """From here to the end of the transaction nobody else numbers a desired state."""
        self.execute("lock_control", {"key": CONTROL_KEY})

    def ring(self, kind: Literal["cancel", "pause", "bulk", "report"], subject: object) -> None:
        """Tells sidecars, once this is committed, what to look at."""
        payload = msgspec.json.encode({"kind": kind, "id": subject}).decode()
        self.execute("ring_control", {"payload": payload})

    def masked(self, text: str | None) -> str | None:
        """What somebody wrote, as it may be stored and shown; masking what is masked changes nothing."""
        return None if text is None else self.redaction.text(text)

    def _run(self, name: str, parameters: Mapping[str, Any] | None, parts: Mapping[str, str]) -> psycopg.Cursor[Any]:
        query = statement(name)
        return self._connection.execute(query.format(**parts) if parts else query, parameters or {})


class CommandStore:
    """A small pool of connections, opened when it is first needed. Thread-safe; a forked child must make another."""

    def __init__(self, dsn: str, redaction: Redaction = USUAL) -> None:
        self._dsn = dsn
        self._redaction = redaction
        self._pool = blocking_pool(dsn)

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self, statement_timeout: int | None = None) -> Iterator[Transaction]:
        """`statement_timeout` is in milliseconds, of a statement that may read many tasks: what takes longer raises
        QueryTooBroad. None leaves the pool's."""
        with translated_errors(reads_many=statement_timeout is not None):
            self._pool.open()
            seconds = None if statement_timeout is None else statement_timeout / 1000 + GRACE_SECONDS
            with (
                self._pool.connection() as connection,
                answers_within(connection, seconds),
                connection.transaction(),
            ):
                patience = patience_of(connection)
                if patience is not None:  # a pooler's session is told nothing
                    bounds = {"statement_timeout": str(patience), "lock_timeout": "0"}
                    connection.execute(statement("bound_transaction"), bounds)
                if statement_timeout is not None:
                    connection.execute(f"SET LOCAL statement_timeout = {statement_timeout}")
                yield Transaction(connection, self._redaction)

    @contextmanager
    def _command(
        self, actor: Actor, statement_timeout: int | None = None, *, is_for_admins: bool = False
    ) -> Iterator[Transaction]:
        """A transaction in which `actor` changes something, or is told what would change. Raises ReadOnly or
        AdminsOnly before it begins; which tasks they may act on is up to its statements."""
        if not actor.viewer.may_control:
            raise ReadOnly
        if is_for_admins and not actor.viewer.is_admin:
            raise AdminsOnly
        with self._transaction(statement_timeout) as transaction:
            yield transaction


@contextmanager
def translated_errors(*, reads_many: bool = False) -> Iterator[None]:
    """psycopg's errors in the words of this project."""
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise QueryTooBroad() if reads_many else _unavailable(error) from error
    except (psycopg.DataError, UnicodeEncodeError) as error:
        raise BadQuery(parameter="text", value="(not shown)", allowed="text that PostgreSQL can store") from error
    except (psycopg.Error, PoolClosed) as error:  # a schema that is not there (any more) included
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> DatabaseUnavailable:
    return DatabaseUnavailable(detail=" ".join(str(error).split()))
