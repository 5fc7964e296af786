"""What the leader does to tasks on real PostgreSQL: what expired in the broker is cancelled, and nothing else is."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import psycopg
import pytest

from oracle_celery.database import upkeep as upkeep_module
from oracle_celery.database.store import WorkerRegistration
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.payload import identifier
from oracle_celery.records import Transition
from oracle_celery.states import Rank, Status
from tests.factories import Feeder, transition

GRACE_SECONDS = 5.0
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
    await rows(database, "UPDATE oracle.worker SET stopped_at = stopped_at - interval '1 minute' RETURNING 1")
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


async def test_a_task_that_is_received_in_the_meantime(database: str, upkeep: Upkeep) -> None:
    """Its row is being changed: the call neither waits for it nor cancels it, then or afterwards."""
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
        feeder.tell(*(sent(str(number), overdue=100 + number) for number in range(3)))
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


async def test_messages_of_what_completed_are_forgotten(database: str, upkeep: Upkeep) -> None:
    """A long run's message is kept in case its worker dies; a failed task's is kept for its retry."""
    with Feeder(database) as feeder:
        feeder.tell(transition("well", status=int(Status.COMPLETED), rank=int(Rank.REPORTED), run_at=1))
        feeder.tell(transition("ill", status=int(Status.FAILED), rank=int(Rank.REPORTED), run_at=1))
        feeder.tell(transition("under way", status=int(Status.IN_PROGRESS), rank=int(Rank.STARTED), run_at=1))
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO oracle.task_message (task_id, at, is_chord_member, envelope)"
            " SELECT task_id, now(), false, '' FROM oracle.task_state_record"
        )
    assert await upkeep.forget_messages() == 1
    assert await rows(database, "SELECT task_id FROM oracle.task_message ORDER BY 1") == [("ill",), ("under way",)]


async def test_a_connection_that_was_not_made_ready_is_not_used(
    database: str, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its days would be the server's, and partitions would begin at another hour."""

    def fail(connection: psycopg.AsyncConnection[object]) -> psycopg.AsyncConnection[object]:
        raise psycopg.OperationalError("in the middle of it")

    with monkeypatch.context() as patch:
        patch.setattr(upkeep_module, "untraced", fail)
        with pytest.raises(DatabaseUnavailable, match="in the middle"):
            await upkeep.try_lead()
    assert await upkeep.try_lead()
    connection = await upkeep._connect()
    assert await (await connection.execute("SHOW TimeZone")).fetchone() == ("UTC",)
    mine = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    assert await rows(database, f"{mine} AND application_name = 'oracle-upkeep'") == [(1,)]
