"""What one batch of facts does to the database."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.rows import dict_row

from oracle_celery.database.store import BadBatch, JournalGap, Store, WorkerRegistration
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.records import LogLine, Transition
from oracle_celery.states import Rank, Status
from tests.ledger import DAWN, MICROSECOND, Source, completed, failed, life, received, sent, started
from tests.postgresql_fixtures import PostgresServer


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    store.connect()
    yield store
    store.close()


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
        yield connection


Connection = psycopg.Connection[dict[str, Any]]


def row_of(connection: Connection, task_id: str) -> dict[str, Any]:
    row = connection.execute("SELECT * FROM oracle.task_state_record WHERE task_id = %s", [task_id]).fetchone()
    assert row is not None
    return row


def count(connection: Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) AS n FROM oracle.{table}").fetchone()
    assert row is not None
    return int(row["n"])


def heard(connection: Connection) -> list[dict[str, str]]:
    """What has been said on the channel; all of it is there already when its transaction's answer is."""
    connection.execute("SELECT 1")
    return [json.loads(said.payload) for said in connection.notifies(timeout=0)]


def test_a_life_in_one_batch(store: Store, connection: Connection) -> None:
    """Every step is history, the row has the last, and each of the statuses is announced in order."""
    connection.execute("LISTEN oracle_channel")
    result = store.ingest([Source("w@h").slice(life("a", 0, user_id="ann", arguments=msgspec.Raw(b'{"args":[1]}')))])
    assert (result.applied, result.skipped, result.notified) == (4, (), 3)
    row = row_of(connection, "a")
    assert (row["status"], row["rank"], row["user_id"], row["runtime"]) == (Status.COMPLETED, Rank.REPORTED, "ann", 0.5)
    moments = [row[name].timestamp() for name in ("created_at", "received_at", "started_at", "finished_at")]
    assert moments == pytest.approx([DAWN / 1e9 + n * 1e-5 for n in range(4)], abs=1e-6)
    assert (row["worker"], row["arguments"], row["result_payload"]) == ("w@h", {"args": [1]}, 1)
    assert count(connection, "task_transition") == 4
    assert heard(connection) == [
        {"task_id": "a", "new_status": "pending", "timestamp": "2026-01-01T00:00:00.000000Z"},
        {"task_id": "a", "new_status": "in_progress", "timestamp": "2026-01-01T00:00:00.000020Z"},
        {"task_id": "a", "new_status": "completed", "timestamp": "2026-01-01T00:00:00.000030Z"},
    ]


def test_times_are_exact_to_the_microsecond(store: Store, connection: Connection) -> None:
    """No reading of a clock is rounded into a neighbour's microsecond, whatever the century."""
    source = Source()
    readings = [MICROSECOND * (n * 7_919_317 + n * n) for n in range(2_000)]
    store.ingest([source.slice([sent(f"t{n}", reading) for n, reading in enumerate(readings)])])
    rows = connection.execute(
        "SELECT task_id, (extract(epoch FROM created_at) * 1000000)::bigint AS at FROM oracle.task_state_record"
    ).fetchall()
    assert {row["task_id"]: row["at"] for row in rows} == {
        f"t{n}": (DAWN + reading) // MICROSECOND for n, reading in enumerate(readings)
    }


def test_a_batch_sent_again_applies_nothing(store: Store, connection: Connection) -> None:
    """After an answer that was lost the same slices are sent again: they are reported as in, and change nothing."""
    first, second = Source(), Source("w@h")
    batch = [first.slice([sent("a", 0)]), second.slice([received("a", 10, 10)])]
    assert store.ingest(batch).applied == 2
    again = store.ingest(batch)
    assert (again.applied, set(again.skipped), again.notified) == (0, {first.file_id, second.file_id}, 0)
    assert count(connection, "task_transition") == 2


def test_a_batch_that_is_partly_in_applies_the_rest(store: Store, connection: Connection) -> None:
    """The fence is per file: a slice that is in does not hold up another one."""
    first, second = Source(), Source()
    sent_before = first.slice([sent("a", 0)])
    store.ingest([sent_before])
    result = store.ingest([sent_before, second.slice([sent("b", 0)])])
    assert (result.applied, result.skipped) == (1, (first.file_id,))
    assert store.positions([first.file_id, second.file_id, str(uuid.uuid4())]) == {
        first.file_id: first.position,
        second.file_id: second.position,
    }


def test_a_gap_is_refused_by_name(store: Store, connection: Connection) -> None:
    """A range that does not follow the last one would lose facts: nothing of the batch is applied."""
    source, other = Source(), Source()
    store.ingest([source.slice([sent("a", 0)])])
    source.position += 1
    with pytest.raises(JournalGap, match=source.file_id):
        store.ingest([other.slice([sent("b", 0)]), source.slice([sent("c", 0)])])
    assert count(connection, "task_state_record") == 1


def test_a_range_that_overlaps_is_refused(store: Store) -> None:
    """A range that begins inside what is in and ends after it would tell facts twice."""
    source = Source()
    whole = source.slice([sent("a", 0), sent("b", 0)])
    store.ingest([whole])
    with pytest.raises(JournalGap):
        store.ingest([msgspec.structs.replace(whole, start=whole.start + 5, end=whole.end + 5)])


def test_an_empty_body_passes_the_range_over(store: Store) -> None:
    """What cannot be stored is skipped without blocking what follows."""
    source = Source()
    assert store.ingest([source.raw(b"")]).applied == 0
    assert store.ingest([source.slice([sent("a", 0)])]).applied == 1


def test_forgotten_files_are_unknown(store: Store) -> None:
    """A deleted file leaves no row behind."""
    source = Source()
    store.ingest([source.slice([sent("a", 0)])])
    store.forget([source.file_id])
    assert store.positions([source.file_id]) == {}


BAD_BODIES = {
    "no JSON": b'{"i":"x"',
    "not an object": b"[1]",
    "no time": b'{"i":"x","s":0,"k":0}',
    "a word for a number": b'{"i":"x","s":"zero","k":0,"m":1}',
    "an unknown status": b'{"i":"x","s":7,"k":0,"m":1}',
    "a number out of range": b'{"i":"x","s":0,"k":0,"m":99999999999999999999}',
    "a NUL escape": b'{"i":"x\\u0000","s":0,"k":0,"m":1}',
    "a NUL escape inside of a result": b'{"i":"x","s":0,"k":0,"m":1,"p":["\\u0000"]}',
    "a lone surrogate": b'{"i":"x\\ud800","s":0,"k":0,"m":1}',
    "a NUL byte": b'{"i":"x\x00","s":0,"k":0,"m":1}',
    "no UTF-8": b'{"i":"x\xff","s":0,"k":0,"m":1}',
    "a second array": b'{"i":"x","s":0,"k":0,"m":1}]\x1e[',
    "a user_id that no index takes": b'{"i":"x","s":0,"k":0,"m":1,"o":"%s"}'
    % "".join(chr(0x10000 + n * 37 % 9_000) for n in range(4_000)).encode(),
    "JSON too deep": b'{"i":"x","s":0,"k":0,"m":1,"p":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_line_is_the_batchs_own_fault(store: Store, connection: Connection, body: bytes) -> None:
    """It is told apart from a lost connection, names what is wrong, and leaves no trace; the next batch works."""
    source = Source()
    good = Source().slice([sent("good", 0)])
    with pytest.raises(BadBatch) as caught:
        store.ingest([good, source.raw(body)])
    assert type(caught.value.fields["detail"]) is str or isinstance(caught.value.fields["detail"], UnicodeDecodeError)
    assert count(connection, "task_state_record") == 0
    assert store.ingest([good]).applied == 1


def test_odd_but_legal_values_survive(store: Store, connection: Connection) -> None:
    """Ids of any characters and 255 of them, exact numbers, and large errors come out as they went in."""
    task_id = '"\\{}[],\n\t\x1f' + "é€😀\u2028" + "x" * 240
    result = b'{"big":123456789012345678901234567890,"small":1.10}'
    error = "\x1e" + "tr\na\\ceback" * 1_500
    source = Source("wörker@höst")
    store.ingest(
        [
            source.slice(
                [
                    completed(task_id, 20, 10, result_payload=msgspec.Raw(result)),
                    failed("f", 20, 10, error_message=error, traceback=error, reason="'; DROP TABLE x; --"),
                ]
            )
        ]
    )
    text = connection.execute(
        "SELECT result_payload::text AS result FROM oracle.task_state_record WHERE task_id = %s", [task_id]
    ).fetchone()
    assert text == {"result": result.decode()}
    row = row_of(connection, "f")
    assert (row["error_message"], row["traceback"], row["worker"]) == (error, error, "wörker@höst")


def test_five_thousand_lines_at_once(store: Store, connection: Connection) -> None:
    """A recorder that comes back from a long absence may send a great deal."""
    facts = [fact for n in range(1_250) for fact in life(f"task-{n}", n * 1000)]
    result = store.ingest([Source("w@h").slice(facts)])
    assert (result.applied, result.notified) == (5_000, 3_750)
    assert count(connection, "task_state_record") == 1_250


def test_a_late_fact_changes_no_status_and_announces_none(store: Store, connection: Connection) -> None:
    """What is older than the row still brings what only it knows, and rings once so that readers look."""
    connection.execute("LISTEN oracle_channel")
    worker = Source("w@h")
    store.ingest([worker.slice([completed("a", 30, 10)])])
    assert [said["new_status"] for said in heard(connection)] == ["completed"]
    store.ingest([Source().slice([sent("a", 0, user_id="ann", trace_id="f" * 32)])])
    store.ingest([worker.slice([received("a", 10, 10), started("a", 20, 10)])])
    assert [said["new_status"] for said in heard(connection)] == ["completed", "completed"]
    row = row_of(connection, "a")
    assert (row["status"], row["user_id"], row["trace_id"]) == (Status.COMPLETED, "ann", "f" * 32)
    assert row["received_at"] is not None
    assert row["started_at"] is not None


def test_a_retry_begins_anew(store: Store, connection: Connection) -> None:
    """The next attempt's row shows none of the last one's times, error or worker."""
    store.ingest([Source("w@h").slice([*life("a", 0)[:3], failed("a", 40_000, 10_000, reason="retry_scheduled")])])
    assert row_of(connection, "a")["error_type"] == "ValueError"
    store.ingest([Source().slice([sent("a", 50_000, retries=1)])])
    row = row_of(connection, "a")
    assert (row["status"], row["retries"], row["error_type"], row["worker"]) == (Status.PENDING, 1, None, None)
    assert (row["received_at"], row["started_at"], row["finished_at"], row["runtime"]) == (None, None, None, None)
    assert count(connection, "task_transition") == 5


def test_what_was_reported_beats_what_was_inferred(store: Store, connection: Connection) -> None:
    """A lost worker's task that reports after all is completed, and the statistics say so."""
    worker = Source("w@h")
    lost = Transition(
        task_id="a", status=Status.FAILED, rank=Rank.LOST, at=99, run_at=10, reason="worker_lost", error_type="Lost"
    )
    store.ingest([worker.slice([started("a", 20, 10), lost])])
    assert row_of(connection, "a")["status"] == Status.FAILED
    store.ingest([worker.slice([completed("a", 50, 10)])])
    row = row_of(connection, "a")
    assert (row["status"], row["error_type"], row["reason"]) == (Status.COMPLETED, None, None)
    sums = connection.execute(
        "SELECT status, sum(tasks) AS n FROM oracle.statistic_delta GROUP BY status HAVING sum(tasks) <> 0"
    ).fetchall()
    assert sums == [{"status": Status.COMPLETED, "n": 1}]


def test_notifications_after_the_commit(store: Store, connection: Connection) -> None:
    """The setting for large fleets says the same things, in a transaction of their own."""
    connection.execute("LISTEN oracle_channel")
    result = store.ingest([Source("w@h").slice(life("a", 0))], "after_commit")
    assert result.notified == 3
    assert [said["new_status"] for said in heard(connection)] == ["pending", "in_progress", "completed"]


def test_no_notifications(store: Store, connection: Connection) -> None:
    """Where PostgreSQL's queue of notifications is full, facts go in without."""
    connection.execute("LISTEN oracle_channel")
    assert store.ingest([Source("w@h").slice(life("a", 0))], "never").notified == 0
    assert heard(connection) == []


def test_a_full_queue_of_notifications_stops_no_facts(store: Store, connection: Connection) -> None:
    """PostgreSQL refuses to notify: the batch goes in without, and says so."""
    connection.execute(
        """CREATE OR REPLACE FUNCTION oracle.notification(task_id text, status smallint, at timestamptz) RETURNS text
        LANGUAGE plpgsql AS $$ BEGIN RAISE program_limit_exceeded; END $$"""
    )
    result = store.ingest([Source("w@h").slice(life("a", 0))])
    assert (result.applied, result.notified) == (4, 0)
    assert count(connection, "task_transition") == 4


def test_the_longest_id_fits_a_notification(store: Store, connection: Connection) -> None:
    """PostgreSQL takes less than 8,000 bytes."""
    connection.execute("LISTEN oracle_channel")
    task_id = "\x01" * 254 + "😀"  # six bytes each in JSON
    store.ingest([Source().slice([sent(task_id, 0)])])
    assert [said["task_id"] for said in heard(connection)] == [task_id]


def test_log_lines(store: Store, connection: Connection) -> None:
    """Lines go in behind the same fence and ring once for all."""
    connection.execute("LISTEN oracle_channel")
    store.ingest([Source().slice([sent("a", 0)])])
    heard(connection)
    lines = Source("w@h")
    batch = [
        lines.slice(
            [LogLine(task_id="a", at=n, number=n, level=20, logger="shop", message=f"line {n}") for n in (1, 2)]
        )
    ]
    assert store.ingest_logs(batch).applied == 2
    assert store.ingest_logs(batch).skipped == (lines.file_id,)
    assert len(heard(connection)) == 1
    assert count(connection, "task_log") == 2


def test_the_clock_is_the_databases(store: Store, connection: Connection) -> None:
    """Its time and this host's monotonic clock belong to the same moment."""
    import time

    database_ns, monotonic_ns = store.clock()
    assert abs((time.time_ns() - database_ns) - (time.monotonic_ns() - monotonic_ns)) < 5_000_000_000


def test_the_first_recorder_of_a_boot_says_its_offset(store: Store, database: str) -> None:
    """All others order runs by the same one, so that facts of one run stay together."""
    assert store.pin_clock("boot", 17) == 17
    other = Store(database)
    assert other.pin_clock("boot", 18) == 17
    assert other.pin_clock("another", 18) == 18
    other.close()


def test_a_workers_presence(store: Store, connection: Connection) -> None:
    """It registers, beats, says goodbye; an unknown worker is told to register."""
    worker_id = str(uuid.uuid4())
    assert store.beat(worker_id) is False
    store.register_worker(
        WorkerRegistration(
            worker_id=worker_id, node="w@h", origin="1@h", pool="prefork", concurrency=2, versions={"celery": "5"}
        )
    )
    connection.execute("UPDATE oracle.worker SET lost_at = now()")
    assert store.beat(worker_id, active=2, reserved=3, queues=["q"], counts={"applied": 4}) is True
    [row] = connection.execute("SELECT * FROM oracle.worker").fetchall()
    assert (row["active"], row["reserved"], row["queues"], row["counts"]) == (2, 3, ["q"], {"applied": 4})
    assert (row["lost_at"], row["stopped_at"], row["versions"]) == (None, None, {"celery": "5"})
    store.retire(worker_id)
    [row] = connection.execute("SELECT * FROM oracle.worker").fetchall()
    assert row["stopped_at"] is not None


def test_a_lost_connection_is_no_bad_batch(store: Store, connection: Connection) -> None:
    """The same slices go in when the database is back, over a new connection."""
    batch = [Source().slice([sent("a", 0)])]
    store.positions([])
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oracle-recorder'"
        " AND datname = current_database()"
    )
    with pytest.raises(DatabaseUnavailable):
        store.ingest(batch)
    assert store.ingest(batch).applied == 1


def test_nobody_listens_there(postgres_server: PostgresServer | None) -> None:
    """An address where no PostgreSQL is says so in our own words."""
    with pytest.raises(DatabaseUnavailable):
        Store("host=127.0.0.1 port=1 dbname=x user=x").connect()
