"""What the leader does to tasks on real PostgreSQL: what expired in the broker is cancelled, and nothing else is."""

from __future__ import annotations

import asyncio
import base64
import random
import re
import time
import uuid
from collections.abc import AsyncIterator

import msgspec
import psycopg
import pytest

from oracle_celery.database import store as store_module
from oracle_celery.database import upkeep as upkeep_module
from oracle_celery.database.store import Slice, WorkerRegistration
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.payload import identifier
from oracle_celery.records import KeptMessage, Transition
from oracle_celery.states import Rank, Status
from tests.factories import Feeder, transition

#: Longer than a test takes.
GRACE_SECONDS = 300.0
WORKER_ID = "2c8ba9a8-61b0-4d23-9c26-2a8a64b5c4f1"
CANCELLED = (int(Status.CANCELLED), int(Rank.LOST), "expired")


@pytest.fixture
async def upkeep(database: str) -> AsyncIterator[Upkeep]:
    made = Upkeep(database)
    yield made
    await made.close()


def sent(task_id: str, *, overdue: float = 2 * GRACE_SECONDS, **fields: object) -> Transition:
    """Published with a last moment `overdue` seconds ago."""
    return transition(task_id, expires=time.time() - overdue, name="shop.offer", **fields)


def received(task_id: str) -> Transition:
    """By a worker, just now."""
    return transition(task_id, rank=int(Rank.RECEIVED), run_at=time.monotonic_ns(), run_id="r1", reason="received")


async def rows(database: str, query: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        return await (await connection.execute(query)).fetchall()  # type: ignore[arg-type]


async def outcome(database: str) -> tuple[object, ...]:
    """(status, rank, reason) of the only task."""
    [row] = await rows(database, "SELECT status, rank, reason FROM oracle.task_state_record")
    return row


async def test_a_task_that_expired_in_the_broker_is_cancelled_once(database: str, upkeep: Upkeep) -> None:
    """One transition, one notification, and a second call finds nothing to do."""
    with Feeder(database) as feeder:
        feeder.tell(sent("t"))
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as listening:
        await listening.execute("LISTEN oracle_channel")
        assert await upkeep.expire_overdue(GRACE_SECONDS) == 1
        [heard] = [note async for note in listening.notifies(timeout=30, stop_after=1)]
    assert '"new_status":"cancelled"' in heard.payload
    assert await outcome(database) == CANCELLED
    assert await upkeep.expire_overdue(GRACE_SECONDS) == 0
    assert await rows(database, "SELECT status FROM oracle.task_transition ORDER BY history_id") == [(0,), (4,)]
    assert await rows(database, "SELECT file_id FROM oracle.journal_fence WHERE range_start = position") == []
    [(finished,)] = await rows(database, "SELECT finished_at >= created_at FROM oracle.task_state_record")
    assert finished


async def test_statistics_follow(database: str, upkeep: Upkeep) -> None:
    """The gauge of waiting tasks goes down by one."""
    with Feeder(database) as feeder:
        feeder.tell(sent("t"))
    await upkeep.expire_overdue(GRACE_SECONDS)
    counted = "SELECT status, sum(tasks)::int FROM oracle.statistic_delta GROUP BY status ORDER BY status"
    assert await rows(database, counted) == [(int(Status.PENDING), 0), (int(Status.CANCELLED), 1)]


async def test_the_longest_identifiers_are_counted(database: str, upkeep: Upkeep) -> None:
    """Together they are a key, which must fit into an index, however badly it can be compressed."""
    dice = random.Random(7)
    name, queue, user_id = (
        identifier("".join(chr(dice.randrange(0x10000, 0x10FFFF)) for _ in range(255))) for _ in range(3)
    )
    with Feeder(database) as feeder:
        feeder.tell(transition("t", name=name, queue=queue, user_id=user_id))
    assert await upkeep.try_lead()
    await upkeep.fold_statistics()
    assert await rows(database, "SELECT name, queue, user_id FROM oracle.statistic_minute WHERE user_id <> ''") == [
        (name, queue, user_id)
    ]


async def test_who_is_not_overdue_is_left_alone(database: str, upkeep: Upkeep) -> None:
    """Within the grace, without a last moment, held by a worker, running, or done."""
    with Feeder(database, node="celery@one", worker_id=WORKER_ID) as feeder:
        feeder.store.register_worker(_registration())
        feeder.tell(sent("within the grace", overdue=0.5 * GRACE_SECONDS), transition("without"))
        feeder.tell(*(sent(name) for name in ("held", "running", "done")))
        feeder.tell(received("held"))
        feeder.tell(transition("running", Status.IN_PROGRESS), transition("done", Status.COMPLETED))
    assert await upkeep.expire_overdue(GRACE_SECONDS) == 0


async def test_a_worker_that_is_gone_holds_nothing(database: str, upkeep: Upkeep) -> None:
    """It gave its message back to the broker, which has dropped it by now."""
    with Feeder(database, node="celery@one", worker_id=WORKER_ID) as feeder:
        feeder.store.register_worker(_registration())
        feeder.tell(sent("t"))
        feeder.tell(received("t"))
        assert await upkeep.expire_overdue(GRACE_SECONDS) == 0
        feeder.store.retire(WORKER_ID)
        assert await upkeep.expire_overdue(GRACE_SECONDS) == 0  # it may have given it to another worker just now
    await rows(database, "UPDATE oracle.worker SET stopped_at = stopped_at - interval '10 minutes' RETURNING 1")
    assert await upkeep.expire_overdue(GRACE_SECONDS) == 1
    assert await outcome(database) == CANCELLED


async def test_a_retry_expires_as_the_first_try_does(database: str, upkeep: Upkeep) -> None:
    """Its version is its own: nothing is told of an earlier run."""
    with Feeder(database, node="celery@one") as feeder:
        feeder.tell(transition("t", Status.IN_PROGRESS))
        feeder.tell(sent("t", retries=1, reason="retry_scheduled"))
    assert await upkeep.expire_overdue(GRACE_SECONDS) == 1
    assert await outcome(database) == CANCELLED
    assert await rows(database, "SELECT retries FROM oracle.task_state_record") == [(1,)]


async def test_a_later_run_wins(database: str, upkeep: Upkeep) -> None:
    """A worker that had it all the time reports late: its word counts, and so does the late word of the sender not."""
    with Feeder(database, node="celery@one") as feeder:
        feeder.tell(sent("t"))
        assert await upkeep.expire_overdue(GRACE_SECONDS) == 1
        feeder.tell(sent("t"))
        assert await outcome(database) == CANCELLED
        feeder.tell(transition("t", Status.COMPLETED))
    assert await outcome(database) == (int(Status.COMPLETED), int(Rank.REPORTED), None)
    assert await upkeep.expire_overdue(GRACE_SECONDS) == 0


async def test_a_task_that_is_received_in_the_meantime(
    database: str, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is being changed: the call neither waits for it nor cancels it, then or afterwards."""
    for bound in ("LOCK_TIMEOUT", "STATEMENT_TIMEOUT"):  # the recorder waits as long as this takes
        monkeypatch.setattr(store_module, bound, 60_000)
    with Feeder(database, node="celery@one", worker_id=WORKER_ID) as feeder:
        feeder.tell(sent("t"), sent("other"))
        async with await psycopg.AsyncConnection.connect(database) as blocker:
            await blocker.execute("SELECT FROM oracle.task_state_record WHERE task_id = 't' FOR UPDATE")
            receiving = asyncio.create_task(asyncio.to_thread(feeder.tell, received("t")))
            await _waits_for_lock(database)
            assert await upkeep.expire_overdue(GRACE_SECONDS) == 1  # the other
        await receiving
    assert await upkeep.expire_overdue(GRACE_SECONDS) == 0
    [held] = await rows(database, "SELECT status, rank FROM oracle.task_state_record WHERE task_id = 't'")
    assert held == (int(Status.PENDING), int(Rank.RECEIVED))


async def test_one_call_is_bounded(database: str, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest overdue first, the rest with the next call."""
    monkeypatch.setattr(upkeep_module, "EXPIRY_LIMIT", 2)
    with Feeder(database) as feeder:
        feeder.tell(*(sent(str(number), overdue=2 * GRACE_SECONDS + number) for number in range(3)))
    assert await upkeep.expire_overdue(GRACE_SECONDS) == 2
    left = "SELECT task_id FROM oracle.task_state_record WHERE status = 0"
    assert await rows(database, left) == [("0",)]
    assert await upkeep.expire_overdue(GRACE_SECONDS) == 1


async def test_waiting_tasks_are_not_scanned(database: str) -> None:
    """However long the queue is, only overdue tasks are read."""
    from oracle_celery.database.sql import statement

    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO oracle.task_state_record (task_id, created_at, changed_at, run_at, retries, status, rank)"
            " SELECT n::text, now(), now(), 'epoch', 0, 0, 0 FROM generate_series(1, 2000) AS n"
        )
        await connection.execute("ANALYZE oracle.task_state_record")
        explained = await connection.execute(
            "EXPLAIN " + statement("expire_overdue"), {"grace": GRACE_SECONDS, "limit": 1000, "file": WORKER_ID}
        )
        plan = "\n".join(line for (line,) in await explained.fetchall())
    assert "Index Scan using task_expiring" in plan, plan


def _registration() -> WorkerRegistration:
    return WorkerRegistration(worker_id=WORKER_ID, node="celery@one", origin="1@test", pool="prefork", concurrency=1)


async def _waits_for_lock(database: str) -> None:
    """Returns when some connection to this database waits for another's row."""
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND application_name = 'oracle-test-feeder'"
    )
    async with asyncio.timeout(30):
        while not await rows(database, waiting):
            await asyncio.sleep(0.01)


def keep_message(feeder: Feeder, task_id: str) -> None:
    """As the worker that runs it does."""
    message = KeptMessage(task_id=task_id, at=time.monotonic_ns(), envelope=base64.b64encode(b"message"))
    body = msgspec.json.encode(message) + b"\n"
    offset_ns = time.time_ns() - time.monotonic_ns()
    file_id = str(uuid.uuid4())
    told = Slice(file_id=file_id, start=0, end=len(body), offset_ns=offset_ns, body=body, origin="1@test")
    feeder.store.ingest_messages([told])


async def test_messages_of_what_completed_are_forgotten(database: str, upkeep: Upkeep) -> None:
    """A long run's message is kept in case its worker dies; a failed task's is kept for its retry, and not looked at
    again until another run of the task brings it anew."""
    awaiting = "SELECT task_id FROM oracle.task_message WHERE awaits_end ORDER BY 1"
    with Feeder(database) as feeder:
        feeder.tell(transition("well", status=int(Status.COMPLETED), rank=int(Rank.REPORTED), run_at=1))
        feeder.tell(transition("ill", status=int(Status.FAILED), rank=int(Rank.REPORTED), run_at=1))
        feeder.tell(transition("under way", status=int(Status.IN_PROGRESS), rank=int(Rank.STARTED), run_at=1))
        for task_id in ("well", "ill", "under way", "unheard of"):
            keep_message(feeder, task_id)
        assert await upkeep.forget_messages() == 1
        kept = "SELECT task_id FROM oracle.task_message ORDER BY 1"
        assert await rows(database, kept) == [("ill",), ("under way",), ("unheard of",)]
        assert await rows(database, awaiting) == [("under way",), ("unheard of",)]
        keep_message(feeder, "ill")
        feeder.tell(transition("ill", status=int(Status.COMPLETED), rank=int(Rank.REPORTED), run_at=10**9))
        assert await upkeep.forget_messages() == 1
        assert await rows(database, kept) == [("under way",), ("unheard of",)]


async def test_messages_are_forgotten_however_many_wait(
    database: str, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a long absence: so many in one transaction, and all of them at once."""
    monkeypatch.setattr(upkeep_module, "MESSAGES_LIMIT", 2)
    monkeypatch.setattr(upkeep_module, "TRIM_SECONDS", 3_600.0)
    with Feeder(database) as feeder:
        for number in range(5):
            feeder.tell(transition(str(number), Status.COMPLETED))
            keep_message(feeder, str(number))
    assert await upkeep.forget_messages() == 5


async def test_who_looks_for_messages_reads_what_is_under_way(database: str) -> None:
    """Not those of a week of failures."""
    from oracle_celery.database.sql import statement

    plan = await explained(
        database,
        statement("forget_messages"),
        {"limit": 10_000},
        "INSERT INTO oracle.task_state_record (task_id, created_at, changed_at, run_at, retries, status, rank)"
        " SELECT n::text, now(), now(), 'epoch', 0, 3, 40 FROM generate_series(1, 5000) AS n",
        "INSERT INTO oracle.task_message (task_id, at, is_chord_member, envelope, awaits_end)"
        " SELECT n::text, now(), false, 'message', n > 4990 FROM generate_series(1, 5000) AS n",
        "ANALYZE oracle.task_state_record, oracle.task_message",
    )
    assert "Seq Scan" not in plan, plan
    assert "message_awaiting" in plan, plan


#: Of each table that goes by age, how 20,000 rows of it are made, few of them old: n is 1 and more, `at` its moment.
AGING = {
    "statistic_minute": "SELECT at, 1, 1, 1, 2, n % 2 = 0, 'u', n::text, 'q'",
    "statistic_half_hour": "SELECT at, 1, 1, 1, 2, n % 2 = 0, 'u', n::text",
    "gauge_sample": "SELECT at, 1, 1, false, true, n::text",
    "queue_sample": "SELECT at, 1, 1, n::text",
    "duration_histogram": "SELECT at, 1, 1, false, n::text",
    "failure_count": "SELECT at, 1, true, '', n::text",
    "task_failure": "SELECT at, at, 0, 40, 'f', n::text, ''",
    "schedule_run": "SELECT n::text, at, n::text",
}


async def test_what_goes_by_age_is_found_by_an_index(database: str) -> None:
    """However old the tables are, and wherever in them rows are: few go, few are read."""
    from oracle_celery.database.sql import statement

    filling = [
        f"INSERT INTO oracle.{table} {row}"
        " FROM (SELECT n, now() - CASE WHEN n % 1000 = 0 THEN interval '1 year' ELSE interval '1 minute' END AS at"
        " FROM generate_series(1, 20000) AS n) AS x"
        for table, row in AGING.items()
    ]
    old = {"age": 86_400.0, "day": 3_600.0, "limit": 1_000}
    plan = await explained(
        database, statement("trim_statistics"), old, *filling, *(f"ANALYZE oracle.{table}" for table in AGING)
    )
    for name in ("trim_failure_counts", "trim_failures", "trim_schedule"):
        plan += await explained(database, statement(name), old)
    assert [table for table in AGING if f"Seq Scan on {table}" in plan] == [], plan
    assert re.findall(r"Filter:.*\b(?:minute|hour|at|slot|ran_at) <", plan) == [], plan
    assert await rows(database, "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%USING brin%'") == []


async def test_statistics_are_trimmed_part_by_part(
    database: str, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction and one call are bounded; what is left is for the next."""
    monkeypatch.setattr(upkeep_module, "TRIM_LIMIT", 2)
    monkeypatch.setattr(upkeep_module, "TRIM_SECONDS", 0.0)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO oracle.statistic_minute"
            " SELECT now() - interval '1 year', 1, 1, 1, 2, true, '', n::text, '' FROM generate_series(1, 5) AS n"
        )
    left = []
    while await upkeep.trim_statistics():
        left += await rows(database, "SELECT count(*) FROM oracle.statistic_minute")
    assert left == [(3,), (1,)]
    assert await rows(database, "SELECT FROM oracle.statistic_minute") == []


async def explained(database: str, query: str, parameters: dict[str, object], *first: str) -> str:
    """How the database would do it."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        for one in first:
            await connection.execute(one)  # type: ignore[arg-type]
        plan = await connection.execute("EXPLAIN " + query, parameters)  # type: ignore[arg-type]
        return "\n".join(line for (line,) in await plan.fetchall())
