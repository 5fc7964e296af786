"""PostgreSQL that is there and does not serve: facts wait in the journal, one line says why, and it heals by itself.

Each trouble is a real one of a real server. What a task sees of it is nothing: appending goes on, which is tested here
by appending, and with whole workers in test_kill.py.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest

from oracle_celery.database import schema
from oracle_celery.database.examination import examine_database
from oracle_celery.database_findings import database_findings, unreachable
from oracle_celery.errors import OracleError
from oracle_celery.journal import Journal
from oracle_celery.recorder import Recorder
from oracle_celery.records import encode_line
from oracle_celery.settings import Settings
from tests.faults.scale import scaled
from tests.ledger import sent
from tests.polling import eventually
from tests.postgresql_fixtures import PostgresServer

DATABASE = "shop"
FACTS = 1_000
#: Bytes of a fact's arguments: enough that tables have to grow.
FACT_SIZE = 500
#: Seconds for which a table is locked: longer than a batch waits for a lock.
LOCKED_SECONDS = scaled(6, 60)
#: Of the file system that fills up; a fresh database with the schema takes a third.
SMALL_DISK = "size=48m"
QUOTA = 64 * 1024 * 1024

pytestmark = pytest.mark.timeout(300)

Trouble = Callable[[PostgresServer], AbstractContextManager[None]]


@contextmanager
def no_connections_left(server: PostgresServer) -> Iterator[None]:
    """All slots are taken, that of the recorder, too."""
    with contextlib.ExitStack() as held:
        first = held.enter_context(psycopg.connect(server.dsn(DATABASE), autocommit=True))
        is_full, wants_more = False, True
        while not is_full or wants_more:
            try:
                held.enter_context(psycopg.connect(server.dsn(DATABASE)))
                is_full = False
            except psycopg.OperationalError:
                is_full = True
                ended = first.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oracle-recorder'"
                ).fetchall()
                wants_more = ended != []
        yield


@contextmanager
def table_locked(server: PostgresServer) -> Iterator[None]:
    """As by a migration of somebody else's that takes its time."""
    with psycopg.connect(server.dsn(DATABASE)) as connection:
        connection.execute("LOCK TABLE oracle.task_state_record IN ACCESS EXCLUSIVE MODE")
        yield
        time.sleep(LOCKED_SECONDS)
        connection.rollback()


@contextmanager
def read_only(server: PostgresServer) -> Iterator[None]:
    """As a primary that has become a standby."""
    _set(server, "default_transaction_read_only", "on")
    yield
    _set(server, "default_transaction_read_only", "off")


@contextmanager
def disk_full(server: PostgresServer) -> Iterator[None]:
    with psycopg.connect(server.dsn(DATABASE), autocommit=True) as connection:
        # nothing of it is given back meanwhile
        connection.execute("CREATE TABLE public.filler (x text) WITH (autovacuum_enabled = off)")
        with contextlib.suppress(psycopg.errors.DiskFull):
            while True:
                connection.execute("INSERT INTO public.filler SELECT repeat('x', 2000) FROM generate_series(1, 500)")
        yield
        connection.execute("DROP TABLE public.filler")


TROUBLES: dict[str, Trouble] = {
    "too many clients": no_connections_left,
    "lock timeout": table_locked,
    "read-only transaction": read_only,
    "No space left on device": disk_full,
}
#: What the doctor calls them.
CODES = {
    "too many clients": "database/connections-exhausted",
    "lock timeout": "database/blocked",
    "read-only transaction": "database/read-only",
    "No space left on device": "database/disk-full",
}


@pytest.mark.parametrize("said", TROUBLES)
def test_it_is_said_waited_for_and_heals(
    said: str, private_postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every fact of before, during and after arrives, once; and the doctor finds it meanwhile."""
    with _database(private_postgres, tmp_path, is_small=said == "No space left on device"):
        settings = Settings(app_name="trouble", url=private_postgres.dsn(DATABASE), state_dir=str(tmp_path / "state"))
        folder = settings.journal_path / "worker"
        recorder = Recorder(settings, folder)
        journal = Journal(folder, node="a@host", quota=QUOTA)
        recorder.start()
        try:
            ids = _tell(journal, "before")
            eventually(lambda: len(_facts(private_postgres)) == len(ids), "the first facts have arrived")
            with TROUBLES[said](private_postgres):
                earlier = len(caplog.records)  # until now it may have come and gone
                ids += _tell(journal, "during")
                eventually(lambda: said in caplog.text, "it says what the matter is")
                ids += _tell(journal, "on")
                eventually(lambda: CODES[said] in _diagnosis(settings), "the doctor says so, too")
                thread = recorder._thread
                assert thread is not None
                assert thread.is_alive()
            ids += _tell(journal, "after")
            eventually(lambda: len(_facts(private_postgres)) >= len(ids), "every fact has arrived")
            assert sorted(_facts(private_postgres)) == sorted(ids)
            assert recorder.counts.quarantined == recorder.counts.dropped == 0
            eventually(lambda: not recorder.is_away, "it knows that all is well")
            eventually(lambda: _diagnosis(settings) == set(), "the doctor finds nothing any more")
        finally:
            recorder.stop(10)
    complaints = [record.getMessage() for record in caplog.records[earlier:] if record.levelname == "WARNING"]
    assert len(complaints) == len(set(complaints)), "said once, however often it is tried"


def test_a_server_that_hangs_is_left_for_one_that_answers(private_postgres: PostgresServer, tmp_path: Path) -> None:
    """A backend that is stopped in the middle holds the recorder only; nothing is lost when it goes on."""
    with _database(private_postgres, tmp_path):
        settings = Settings(app_name="hang", url=private_postgres.dsn(DATABASE), state_dir=str(tmp_path / "state"))
        folder = settings.journal_path / "worker"
        recorder, journal = Recorder(settings, folder), Journal(folder, node="a@host", quota=QUOTA)
        recorder.start()
        try:
            ids = _tell(journal, "before")
            eventually(lambda: len(_facts(private_postgres)) == len(ids), "the first facts have arrived")
            with psycopg.connect(private_postgres.dsn(DATABASE)) as connection:
                [(pid,)] = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'oracle-recorder'"
                ).fetchall()
            os.kill(pid, 19)
            waking = threading.Timer(2.0, os.kill, (pid, 18))
            try:
                ids += _tell(journal, "during")
            finally:
                waking.start()
            eventually(lambda: len(_facts(private_postgres)) >= len(ids), "every fact has arrived")
            waking.join()
            assert sorted(_facts(private_postgres)) == sorted(ids)
        finally:
            recorder.stop(10)


def _diagnosis(settings: Settings) -> set[str]:
    """Codes of what is wrong with the database."""
    assert settings.url is not None
    try:
        found = list(database_findings(examine_database(settings.url, None), settings))
    except OracleError as error:
        found = [unreachable(error)]
    return {finding.code for finding in found if finding.grade == "wrong"}


@contextmanager
def _database(server: PostgresServer, folder: Path, *, is_small: bool = False) -> Iterator[None]:
    """With the schema; a small one is on a file system of its own."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        if not is_small:
            connection.execute(f"CREATE DATABASE {DATABASE}")
            _migrate(server)
            yield
            return
        disk = server.base / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", SMALL_DISK, "tmpfs", str(disk)], capture_output=True, text=True
        )
        if mounted.returncode != 0:
            pytest.skip(f"A full disk needs the right to mount a small one: run as root ({mounted.stderr.strip()}).")
        try:
            server.give(disk)
            connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            connection.execute(f"CREATE DATABASE {DATABASE} TABLESPACE small")
            _migrate(server)
            yield
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                server.stop("immediate")
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _migrate(server: PostgresServer) -> None:
    with psycopg.connect(server.dsn(DATABASE), autocommit=True) as connection:
        schema.migrate(connection)


def _set(server: PostgresServer, name: str, value: str) -> None:
    options = "-c default_transaction_read_only=off"
    with psycopg.connect(server.dsn(), options=options, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET {name} = {value}")
        connection.execute("SELECT pg_reload_conf()")


def _tell(journal: Journal, word: str) -> list[str]:
    ids = [f"{word}-{number}" for number in range(FACTS)]
    for task_id in ids:
        assert (
            journal.append(encode_line(sent(task_id, time.monotonic_ns(), arguments=f'"{"x" * FACT_SIZE}"')))
            is not None
        )
    return ids


def _facts(server: PostgresServer) -> list[str]:
    """The task of every fact in the history; nothing where nobody may ask."""
    try:
        with psycopg.connect(server.dsn(DATABASE)) as connection:
            rows = connection.execute("SELECT task_id FROM oracle.task_transition").fetchall()
    except psycopg.OperationalError:
        return []
    return [task_id for (task_id,) in rows]
