"""What workers read of desired states and report about them, in a real database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from oracle_celery.database.store import PauseReport, PauseWord, Store, WorkerRegistration

#: Only a failure takes so long.
DEADLINE_SECONDS = 60.0


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database, "oracle-test")
    yield store
    store.close()


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def cancel(connection: psycopg.Connection, task_id: str, seq: int, settled: str | None = None, days: int = 0) -> None:
    connection.execute(
        "INSERT INTO oracle.cancellation (task_id, seq, asked_at, entry_id, was_status, settled_at, settled_as)"
        " VALUES (%(id)s, %(seq)s, now(), 0, 0,"
        " CASE WHEN %(settled)s::text IS NOT NULL THEN now() - make_interval(days => %(days)s) END, %(settled)s)",
        {"id": task_id, "seq": seq, "settled": settled, "days": days},
    )


def pause(connection: psycopg.Connection, queue: str, seq: int, seconds: float | None = None) -> None:
    connection.execute(
        "INSERT INTO oracle.queue_pause (queue, seq, is_paused, changed_at, changed_by, entry_id, until)"
        " VALUES (%s, %s, true, now(), 'test', 0, now() + make_interval(secs => %s))",
        [queue, seq, seconds],
    )


def test_nothing(store: Store) -> None:
    """An empty database has an answer too."""
    changes = store.control_changes(None)
    assert (changes.seq, changes.is_whole, changes.cancelled, changes.pauses) == (0, True, (), ())


def test_all_and_what_is_new(store: Store, connection: psycopg.Connection) -> None:
    """By number; what was settled too late or long ago is wanted no more."""
    cancel(connection, "open", 1)
    cancel(connection, "dropped", 2, "cancelled")
    cancel(connection, "dropped long ago", 3, "cancelled", days=2)
    cancel(connection, "completed", 4, "too_late")
    pause(connection, "a", 5)
    pause(connection, "", 6, seconds=3_600)
    everything = store.control_changes(None)
    assert everything.is_whole
    assert everything.seq == 6
    assert everything.cancelled == ("open", "dropped")
    assert everything.pauses[0] == PauseWord(queue="a", seq=5, is_paused=True)
    assert everything.pauses[1].remaining == pytest.approx(3_600, abs=DEADLINE_SECONDS)
    cancel(connection, "new", 7)
    news = store.control_changes(6)
    assert (news.is_whole, news.seq, news.cancelled, news.pauses) == (False, 7, ("new",), ())
    assert store.control_changes(7).cancelled == ()


def test_database_that_went_back(store: Store, connection: psycopg.Connection) -> None:
    """Restored from a backup: a number that it never gave is answered with everything."""
    cancel(connection, "one", 1)
    changes = store.control_changes(99)
    assert (changes.is_whole, changes.seq, changes.cancelled) == (True, 1, ("one",))


def test_report(store: Store, connection: psycopg.Connection) -> None:
    """Noted with the worker, the newest one per queue; sidecars hear of it. An unknown worker's is not noted."""
    worker_id = str(uuid.uuid4())
    told = [PauseReport(queue="a", seq=3, state="paused")]
    assert not store.report_control(worker_id, seq=3, consuming=["b"], reports=told)
    assert connection.execute("SELECT count(*) FROM oracle.pause_report").fetchone() == (0,)
    store.register_worker(
        WorkerRegistration(worker_id=worker_id, node="w@h", origin="1@h", pool="prefork", concurrency=1)
    )
    connection.execute("LISTEN oracle_control")
    assert store.report_control(worker_id, seq=3, consuming=["b"], reports=told)
    assert store.report_control(
        worker_id, seq=4, consuming=["a", "b"], reports=[PauseReport(queue="a", seq=4, state="consuming")]
    )
    assert connection.execute("SELECT queue, seq, state FROM oracle.pause_report").fetchall() == [("a", 4, "consuming")]
    assert connection.execute("SELECT control_seq, consuming FROM oracle.worker").fetchone() == (4, ["a", "b"])
    heard = [notice.payload for notice in connection.notifies(timeout=DEADLINE_SECONDS, stop_after=2)]
    assert all(worker_id in payload and '"report"' in payload for payload in heard)
    assert len(heard) == 2
