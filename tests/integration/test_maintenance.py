"""The leader's work on real PostgreSQL, with a clock and a broker of the test's own."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Collection

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from oracle_celery.database import upkeep as upkeep_module
from oracle_celery.database.store import WorkerRegistration
from oracle_celery.database.upkeep import SilentWorker, Upkeep
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar.maintenance import GIVE_UP_FRACTION, LOOK_SECONDS, Maintenance
from oracle_celery.states import Status
from tests.factories import Feeder, transition

TIMEOUT_SECONDS = 0.2
#: Of silence, after which a worker that does not answer is given up.
PATIENCE_SECONDS = TIMEOUT_SECONDS * GIVE_UP_FRACTION


class Broker:
    """Which nodes answer, and who was asked."""

    def __init__(self) -> None:
        self.answering: set[str] = set()
        self.asked: list[set[str]] = []
        self.is_away = False

    async def ping(self, nodes: Collection[str]) -> set[str]:
        self.asked.append(set(nodes))
        if self.is_away:
            raise ConnectionRefusedError
        return self.answering & set(nodes)


class Clock:
    """Monotonic time that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """A worker that runs one task and falls silent."""

    def __init__(self, database: str, node: str = "celery@one") -> None:
        self.id = str(uuid.uuid4())
        self.task_id = f"task of {self.id}"
        self._database = database
        self._feeder = Feeder(database, node=node, worker_id=self.id)
        with self._feeder:
            registration = WorkerRegistration(
                worker_id=self.id, node=node, origin="1@test", pool="prefork", concurrency=1
            )
            self._feeder.store.register_worker(registration)
            self.started = transition(self.task_id, Status.IN_PROGRESS)
            self._feeder.tell(self.started)

    def beat(self) -> None:
        with self._feeder:
            self._feeder.store.beat(self.id, active=1)

    def keep_beating(self) -> None:
        """As `beat`, and it is not silent again before the test ends, however slow the machine is."""
        self.beat()
        with psycopg.connect(self._database, autocommit=True) as connection:
            connection.execute(
                "UPDATE oracle.worker SET beat_at = beat_at + interval '1 hour' WHERE worker_id = %s", (self.id,)
            )

    def report(self) -> None:
        """It has completed its task after all."""
        with self._feeder:
            run = self.started
            self._feeder.tell(transition(self.task_id, Status.COMPLETED, run_at=run.run_at, run_id=run.run_id))

    async def silent(self) -> None:
        """Returns when its beats are missing for so long, on the database's clock, that it may be given up."""
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as connection:
            await connection.execute(
                "SELECT pg_sleep(greatest(0, %s - extract(epoch FROM clock_timestamp() - beat_at) + 0.01))"
                " FROM oracle.worker WHERE worker_id = %s",
                (PATIENCE_SECONDS, self.id),
            )

    async def status(self) -> tuple[int, str | None]:
        """Of its task: (status, reason)."""
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as connection:
            cursor = await connection.execute(
                "SELECT status, reason FROM oracle.task_state_record WHERE task_id = %s", (self.task_id,)
            )
            row = await cursor.fetchone()
            assert row is not None
            return row[0], row[1]


LOST = (int(Status.FAILED), "worker_lost")
COMPLETED = (int(Status.COMPLETED), None)
RUNNING = (int(Status.IN_PROGRESS), None)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def maintenance(database: str, broker: Broker, clock: Clock) -> AsyncIterator[Maintenance]:
    """Has been watching for longer than the timeout."""
    made = Maintenance(Upkeep(database), TIMEOUT_SECONDS, broker.ping, clock=clock)
    clock.now += TIMEOUT_SECONDS
    yield made
    await made.stop()


async def test_a_silent_worker_that_does_not_answer_is_given_up(
    database: str, maintenance: Maintenance, broker: Broker
) -> None:
    """Its running task fails with the reason, once."""
    worker = Worker(database)
    await worker.silent()
    await maintenance.round()
    assert await worker.status() == LOST
    await maintenance.round()
    assert broker.asked == [{"celery@one"}]


async def test_a_worker_that_beats_is_not_even_asked(database: str, maintenance: Maintenance, broker: Broker) -> None:
    """Silence is measured from the last beat, not from the start."""
    worker = Worker(database)
    await worker.silent()
    worker.keep_beating()
    await maintenance.round()
    assert not broker.asked
    assert await worker.status() == RUNNING


async def test_a_silent_worker_that_answers_is_alive(
    database: str, maintenance: Maintenance, broker: Broker, clock: Clock
) -> None:
    """Its way to the database is broken, not the worker; it is asked again later, not every second."""
    worker = Worker(database)
    broker.answering = {"celery@one"}
    await worker.silent()
    await maintenance.round()
    await maintenance.round()
    assert len(broker.asked) == 1
    clock.now += TIMEOUT_SECONDS
    await maintenance.round()
    assert len(broker.asked) == 2
    assert await worker.status() == RUNNING


class ShortSilence(Upkeep):
    """Says of every silent worker that it has been so for `silence` seconds."""

    silence = TIMEOUT_SECONDS

    async def silent_workers(self, timeout: float) -> list[SilentWorker]:
        found = await super().silent_workers(timeout)
        return [msgspec.structs.replace(worker, silence=self.silence) for worker in found]


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_worker_that_was_stopped_before_its_beat_has_time_to_come_back(
    database: str, broker: Broker, clock: Clock, is_replaced: bool
) -> None:
    """Silent for hardly longer than the timeout, it is asked again at every round, and not given up before a fifth of
    the timeout has passed in vain."""
    upkeep = ShortSilence(database)
    maintenance = Maintenance(upkeep, TIMEOUT_SECONDS, broker.ping, clock=clock)
    clock.now += TIMEOUT_SECONDS
    worker = Worker(database)
    await worker.silent()
    if is_replaced:
        Worker(database).keep_beating()
    try:
        for _ in range(3):
            clock.now += TIMEOUT_SECONDS / 10
            await maintenance.round()
        assert len(broker.asked) == (0 if is_replaced else 3)
        assert await worker.status() == RUNNING
        upkeep.silence = PATIENCE_SECONDS
        clock.now += TIMEOUT_SECONDS / 10
        await maintenance.round()
        assert await worker.status() == LOST
    finally:
        await maintenance.stop()


async def test_where_the_broker_is_away_nobody_is_given_up(
    database: str, maintenance: Maintenance, broker: Broker
) -> None:
    """A question that could not be asked has no answer."""
    worker = Worker(database)
    broker.is_away = True
    await worker.silent()
    await maintenance.round()
    assert len(broker.asked) == 1
    assert await worker.status() == RUNNING


async def test_a_restarted_workers_answer_is_not_its_predecessors(
    database: str, maintenance: Maintenance, broker: Broker
) -> None:
    """The old incarnation is given up without a ping; the new one under the same name is alive."""
    old = Worker(database)
    await old.silent()
    new = Worker(database)
    new.keep_beating()
    broker.answering = {"celery@one"}
    await maintenance.round()
    assert await old.status() == LOST
    assert await new.status() == RUNNING
    assert not broker.asked


async def test_a_sidecar_that_has_just_started_waits(database: str, broker: Broker, clock: Clock) -> None:
    """It cannot know yet whether it was the worker or the whole system that was away."""
    worker = Worker(database)
    maintenance = Maintenance(Upkeep(database), TIMEOUT_SECONDS, broker.ping, clock=clock)
    try:
        await worker.silent()
        await maintenance.round()
        assert not broker.asked
        clock.now += TIMEOUT_SECONDS
        await maintenance.round()
        assert await worker.status() == LOST
    finally:
        await maintenance.stop()


async def test_a_suspended_machine_waits_again(
    database: str, maintenance: Maintenance, broker: Broker, clock: Clock
) -> None:
    """Everything was silent while the lid was closed."""
    worker = Worker(database)
    await worker.silent()
    clock.now += 3600.0
    await maintenance.round()
    assert not broker.asked
    clock.now += 2 * TIMEOUT_SECONDS
    await maintenance.round()
    assert await worker.status() == LOST


class InterruptedUpkeep(Upkeep):
    """Its first round finds the database away; `rounds` counts those that did not."""

    rounds = -1

    async def fold_statistics(self) -> int:
        self.rounds += 1
        if self.rounds == 0:
            await self.close()
            raise DatabaseUnavailable(detail="for a moment")
        return await super().fold_statistics()


async def test_an_interrupted_connection_waits_again(database: str, broker: Broker, clock: Clock) -> None:
    """While the database was away no beat could be seen."""
    upkeep = InterruptedUpkeep(database)
    maintenance = Maintenance(upkeep, TIMEOUT_SECONDS, broker.ping, round_seconds=0.01, clock=clock)
    clock.now += TIMEOUT_SECONDS
    worker = Worker(database)
    await worker.silent()
    await maintenance.start()
    try:
        async with asyncio.timeout(30):
            while upkeep.rounds < 3:
                await asyncio.sleep(0.01)
        assert not broker.asked
        assert await worker.status() == RUNNING
    finally:
        await maintenance.stop()
        await maintenance.stop()


async def test_what_one_round_leaves_to_be_trimmed_is_for_the_next(
    database: str, maintenance: Maintenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for the next hour: after a long absence as much is due as in all the time before."""
    monkeypatch.setattr(upkeep_module, "TRIM_LIMIT", 2)
    monkeypatch.setattr(upkeep_module, "TRIM_SECONDS", 0.0)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO oracle.statistic_minute"
            " SELECT now() - interval '1 year', 1, 1, 1, 2, true, '', n::text, '' FROM generate_series(1, 5) AS n"
        )
        for left in (3, 1, 0, 0):
            await maintenance.round()
            assert connection.execute("SELECT count(*) FROM oracle.statistic_minute").fetchone() == (left,)


async def test_a_step_that_always_fails_stops_no_other(
    database: str, maintenance: Maintenance, broker: Broker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Lost workers are given up nevertheless, after no longer a watch; what fails is said, and not all the time."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE oracle.failure_cursor RENAME TO out_of_reach")
    worker = Worker(database)
    await worker.silent()
    for _ in range(3):
        await maintenance.round()
        clock.now += 1
    assert await worker.status() == LOST
    assert caplog.text.count("folding failures fails") == 1


async def test_where_nobody_can_write_it_waits_again(database: str, broker: Broker, clock: Clock) -> None:
    """Workers could not say anything either: no step goes on."""
    read_only = make_conninfo(database, options="-c default_transaction_read_only=on")
    maintenance = Maintenance(Upkeep(read_only), TIMEOUT_SECONDS, broker.ping, clock=clock)
    clock.now += TIMEOUT_SECONDS
    worker = Worker(database)
    await worker.silent()
    try:
        with pytest.raises(DatabaseUnavailable):
            await maintenance.round()
    finally:
        await maintenance.stop()
    assert not broker.asked


async def test_only_one_of_two_leads(database: str, maintenance: Maintenance, broker: Broker, clock: Clock) -> None:
    """The other takes over when the leader stops."""
    await maintenance.round()
    worker = Worker(database)  # not before: on a busy machine a round may take longer than the timeout
    other = Maintenance(Upkeep(database), TIMEOUT_SECONDS, broker.ping, clock=clock)
    clock.now += TIMEOUT_SECONDS
    try:
        await worker.silent()
        await other.round()
        assert await worker.status() == RUNNING
        await maintenance.stop()
        async with asyncio.timeout(30):
            while await worker.status() == RUNNING:
                await other.round()
    finally:
        await other.stop()
    assert await worker.status() == LOST


@pytest.mark.parametrize("gone", ["given up", "goodbye", "never known"])
async def test_what_a_gone_worker_is_said_to_run_later_is_failed(
    database: str, maintenance: Maintenance, clock: Clock, gone: str
) -> None:
    """Its journal was found after it was given up; a whole timeout is left for the rest of it."""
    worker = Worker(database)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        if gone == "never known":
            await connection.execute("DELETE FROM oracle.worker")
        else:
            column = "lost_at" if gone == "given up" else "stopped_at"
            await connection.execute(f"UPDATE oracle.worker SET {column} = now()")  # type: ignore[arg-type]
    await maintenance.round()
    assert await worker.status() == RUNNING
    clock.now += LOOK_SECONDS
    await maintenance.round()
    assert await worker.status() == LOST
    worker.report()
    assert await worker.status() == COMPLETED


async def test_a_gone_worker_that_is_back_is_left_alone(database: str, maintenance: Maintenance, clock: Clock) -> None:
    """It beats again before its time is over."""
    worker = Worker(database)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("UPDATE oracle.worker SET lost_at = now()")
    await maintenance.round()
    worker.keep_beating()
    clock.now += LOOK_SECONDS
    await maintenance.round()
    assert await worker.status() == RUNNING


async def test_tasks_that_expired_in_the_broker_are_cancelled(
    database: str, maintenance: Maintenance, clock: Clock
) -> None:
    """At the first round, and again some seconds later, not every second."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:

        async def expired() -> set[str]:
            cursor = await connection.execute(
                "SELECT task_id FROM oracle.task_state_record WHERE status = 4 AND reason = 'expired'"
            )
            return {task_id for (task_id,) in await cursor.fetchall()}

        with Feeder(database) as feeder:
            overdue = time.time() - 60
            feeder.tell(transition("first", expires=overdue))
            await maintenance.round()
            assert await expired() == {"first"}
            feeder.tell(transition("second", expires=overdue))
            await maintenance.round()
            assert await expired() == {"first"}
            clock.now += LOOK_SECONDS
            await maintenance.round()
            assert await expired() == {"first", "second"}


async def test_statistics_are_folded(database: str, maintenance: Maintenance) -> None:
    """What ingest left as deltas is in minutes after a round."""
    with Feeder(database) as feeder:
        feeder.tell(transition("t", Status.COMPLETED, runtime=1.0))
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:

        async def count(table: str) -> int:
            row = await (await connection.execute(f"SELECT count(*) FROM oracle.{table}")).fetchone()  # type: ignore[arg-type]
            assert row is not None
            return int(row[0])

        assert await count("statistic_delta") > 0
        await maintenance.round()
        assert await count("statistic_delta") == 0
        assert await count("statistic_minute") > 0
