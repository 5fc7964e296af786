"""A station without a sidecar, and a hand that writes into the database what people want of tasks and queues."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.acceptance.station import DEADLINE, Station
from tests.polling import eventually

__all__ = ["Desk"]

#: As statement "lock_control" takes it: numbers become visible in their order.
LOCK = "SELECT pg_advisory_xact_lock(x'636F6E74726F6C'::bigint)"


class Desk:
    """Cancels and pauses by plain SQL, rings the workers' doorbell, and reads what came of it."""

    def __init__(self, broker: str, database: str, folder: Path, **settings: Any) -> None:
        self.station = Station(broker, database, folder)
        self._settings: dict[str, Any] = {"oracle_cancel_grace": 1.0}
        self.set(**settings)
        self.connection = psycopg.connect(database, autocommit=True)
        self.path = folder / "said"
        self.path.touch()

    def stop(self) -> None:
        self.connection.close()
        for worker in self.station.workers:
            if worker.is_alive:
                worker.kill()  # a kind end takes seconds where there is no event loop, and is tested elsewhere
        self.station.stop()

    def set(self, **settings: Any) -> None:
        """For those that start from now on."""
        self._settings |= settings
        self.station.environment["SIGNALS_SETTINGS"] = json.dumps(self._settings)

    def start_worker(self, **options: Any) -> Any:
        return self.station.start_worker(**options)

    def send(self, name: str, *args: Any, **options: Any) -> str:
        """Sends ``signals.<name>`` whose first argument is the file that tasks write to."""
        return self.station.send(name, str(self.path), *args, **options)

    def ring(self) -> None:
        self.station.app.control.broadcast("oracle_look")

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """Nobody can connect to it, and whoever was connected is not any more."""
        name = sql.Identifier(self.connection.info.dbname)
        dsn = make_conninfo(self.station.database, dbname="postgres")
        self.connection.close()
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [name.as_string(other).strip('"')],
            )
            try:
                yield
            finally:
                other.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
                self.connection = psycopg.connect(self.station.database, autocommit=True)

    # -- what people want ----------------------------------------------------------------------------------------

    def cancel(self, *task_ids: str, ring: bool = True) -> None:
        with self.connection.transaction():
            self.connection.execute(LOCK)
            self.connection.execute(
                "INSERT INTO oracle.cancellation (task_id, seq, asked_at, entry_id, was_status)"
                " SELECT id, nextval('oracle.control_seq'), clock_timestamp(), 0, 0 FROM unnest(%s::text[]) AS id",
                [list(task_ids)],
            )
        if ring:
            self.ring()

    def pause(self, queue: str, *, seconds: float | None = None, is_paused: bool = True) -> int:
        """The number of this word; '' means all queues."""
        with self.connection.transaction():
            self.connection.execute(LOCK)
            row = self.connection.execute(
                "INSERT INTO oracle.queue_pause AS q (queue, seq, is_paused, changed_at, changed_by, entry_id, until)"
                " VALUES (%(queue)s, nextval('oracle.control_seq'), %(is_paused)s, clock_timestamp(), 'test', 0,"
                " clock_timestamp() + make_interval(secs => %(seconds)s))"
                " ON CONFLICT (queue) DO UPDATE SET seq = excluded.seq, is_paused = excluded.is_paused,"
                " until = excluded.until RETURNING seq",
                {"queue": queue, "is_paused": is_paused, "seconds": seconds},
            ).fetchone()
        assert row is not None
        self.ring()
        return int(row[0])

    def resume(self, queue: str) -> int:
        return self.pause(queue, is_paused=False)

    # -- what came of it -----------------------------------------------------------------------------------------

    def said(self) -> list[str]:
        """The lines that tasks have written."""
        return self.path.read_text().splitlines()

    def row(self, task_id: str) -> tuple[str, str | None]:
        """(status, reason) of the task's record."""
        found = self.connection.execute(
            "SELECT oracle.status_word(status), reason FROM oracle.task_state_record WHERE task_id = %s", [task_id]
        ).fetchone()
        return ("", None) if found is None else found

    def reasons(self, task_id: str) -> list[str | None]:
        """Of the task's facts, in the order of their versions."""
        found = self.connection.execute(
            "SELECT reason FROM oracle.task_transition WHERE task_id = %s ORDER BY retries, run_at, rank", [task_id]
        )
        return [reason for (reason,) in found]

    def is_kept(self, task_id: str) -> bool:
        """Its message is stored for a retry."""
        found = self.connection.execute(
            "SELECT envelope IS NOT NULL FROM oracle.task_message WHERE task_id = %s", [task_id]
        ).fetchone()
        return found == (True,)

    def result_state(self, task_id: str) -> str:
        return str(self.station.app.AsyncResult(task_id).state)

    def report(self, queue: str) -> tuple[int, str] | None:
        """(number, state) of what the newest worker has reported of a queue."""
        return self.connection.execute(
            "SELECT seq, state FROM oracle.pause_report JOIN oracle.worker USING (worker_id)"
            " WHERE queue = %s ORDER BY started_at DESC LIMIT 1",
            [queue],
        ).fetchone()

    def worker_says(self, column: str) -> Any:
        """Of itself, in its record."""
        statement = sql.SQL("SELECT {} FROM oracle.worker ORDER BY started_at DESC LIMIT 1")
        found = self.connection.execute(statement.format(sql.Identifier(column))).fetchone()
        return None if found is None else found[0]

    def wait_for_row(self, task_id: str, status: str, reason: str | None = None, timeout: float = DEADLINE) -> None:
        self.wait(lambda: self.row(task_id) == (status, reason), lambda: self.row(task_id), timeout)

    def wait_for_line(self, line: str, timeout: float = DEADLINE) -> None:
        self.wait(lambda: line in self.said(), self.said, timeout)

    def wait_for_report(self, queue: str, seq: int, state: str, timeout: float = DEADLINE) -> None:
        self.wait(lambda: self.report(queue) == (seq, state), lambda: self.report(queue), timeout)

    def wait_for_seq(self, timeout: float = DEADLINE) -> None:
        """The newest worker knows all desired states."""
        statement = (
            "SELECT control_seq >= greatest((SELECT max(seq) FROM oracle.cancellation),"
            " (SELECT max(seq) FROM oracle.queue_pause)) FROM oracle.worker ORDER BY started_at DESC LIMIT 1"
        )
        self.wait(lambda: (self.connection.execute(statement).fetchone() or [False])[0], lambda: None, timeout)

    def wait(self, look: Callable[[], Any], evidence: Callable[[], Any], timeout: float = DEADLINE) -> None:
        try:
            eventually(look, "it is so", timeout)
        except AssertionError as error:
            logs = "\n".join(worker.log[-3000:] for worker in self.station.workers)
            raise AssertionError(f"{error}: {evidence()}\n{logs}") from None

    def stays(self, look: Callable[[], Any], seconds: float) -> None:
        """It is so the whole time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert look(), self.said()
            time.sleep(0.05)
