"""People who act, and a look at what their commands have left in the database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

import psycopg

from oracle_celery.database.store import WorkerRegistration
from oracle_celery.states import Rank, Status
from oracle_celery.viewer import Actor, Viewer
from tests.factories import Feeder
from tests.polling import eventually

ADMIN = Actor(viewer=Viewer(user_id="root", is_admin=True), via="http", address="192.0.2.1")
ALICE = Actor(viewer=Viewer(user_id="alice"), via="http", address="192.0.2.2")
BOB = Actor(viewer=Viewer(user_id="bob"), via="http", address="192.0.2.3")


class Archive:
    """A connection for questions. Statuses are words."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def run(self, query: str, *values: object) -> None:
        self._connection.execute(query, values)  # type: ignore[arg-type]

    def all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()  # type: ignore[arg-type]

    def one(self, query: str, *values: object) -> tuple[Any, ...]:
        [row] = self.all(query, *values)
        return row

    def task(self, task_id: str) -> tuple[str, Rank | int, str | None]:
        """(status, rank, reason)."""
        status, rank, reason = self.one(
            "SELECT status, rank, reason FROM oracle.task_state_record WHERE task_id = %s", task_id
        )
        return Status(status).word, rank, reason

    def counts(self, *tables: str) -> tuple[int, ...]:
        return tuple(self.one(f"SELECT count(*) FROM oracle.{table}")[0] for table in tables)

    def keep_message(self, task_id: str, *, key_id: str | None = None, is_chord_member: bool = False) -> None:
        """As a recorder does, of any content."""
        self.run(
            "INSERT INTO oracle.task_message (task_id, at, is_chord_member, key_id, envelope)"
            " VALUES (%s, now(), %s, %s, %s)",
            *(task_id, is_chord_member, key_id, f"envelope of {task_id}".encode()),
        )

    def report(self, worker_id: str, queue: str, seq: int, state: str) -> None:
        """A worker says what it has done."""
        self.run(
            "INSERT INTO oracle.pause_report VALUES (%s, %s, %s, %s, now())"
            " ON CONFLICT (worker_id, queue) DO UPDATE SET seq = excluded.seq, state = excluded.state",
            *(worker_id, queue, seq, state),
        )

    def wait_for_lock(self, application: str) -> None:
        """Returns when a connection of that name waits for another's lock."""
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND application_name = %s"
        )
        eventually(lambda: self.all(waiting, application), f"{application} waits for a lock")

    def at_once(self, *commands: Callable[[], object]) -> list[object]:
        """What each returns or raises, all of them begun together, each in a thread."""
        barrier = threading.Barrier(len(commands))
        found: list[object] = []

        def act(command: Callable[[], object]) -> None:
            barrier.wait()
            try:
                found.append(command())
            except Exception as error:
                found.append(error)

        threads = [threading.Thread(target=act, args=[command]) for command in commands]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


def register(
    feeder: Feeder,
    worker_id: str,
    node: str = "celery@one",
    *,
    queues: tuple[str, ...] = (),
    interruptible: bool = True,
) -> None:
    """A worker starts."""
    registration = WorkerRegistration(
        worker_id=worker_id, node=node, origin="1@test", pool="prefork", concurrency=1, queues=queues
    )
    feeder.store.register_worker(registration)
    with psycopg.connect(feeder.store._dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE oracle.worker SET interruptible = %s WHERE worker_id = %s", [interruptible, worker_id]
        )
