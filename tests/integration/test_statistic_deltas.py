"""The table of deltas on real PostgreSQL: however large its file once was, it is small again, and each delta counts
once, whoever writes, reads, leads or dies meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest

from oracle_celery.database import statistic_deltas
from oracle_celery.database.statistic_deltas import StatisticDeltas
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.states import Status
from tests.factories import Feeder, transition

#: Deltas of a time without a leader, each of one task: some 12 MB.
LEFT = 100_000
FILE_LIMIT = 1024 * 1024
PATIENCE_SECONDS = 60.0
REST = "SELECT pg_relation_size('oracle.statistic_delta_rest')"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large, how much is folded at once, and how soon it is tried again."""
    monkeypatch.setattr(statistic_deltas, "FILE_LIMIT", FILE_LIMIT)
    monkeypatch.setattr(statistic_deltas, "REST_SECONDS", 0.0)
    monkeypatch.setattr(statistic_deltas, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(statistic_deltas, "LOCK_TRIES", 1)


@pytest.fixture
async def upkeep(database: str) -> AsyncIterator[Upkeep]:
    made = Upkeep(database)
    yield made
    await made.close()


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[tuple[int, ...]]]:
    with psycopg.connect(database, autocommit=True) as made:
        yield made


Asking = psycopg.Connection[tuple[int, ...]]


def leave(connection: Asking) -> None:
    """What recorders have left."""
    connection.execute(
        "INSERT INTO oracle.statistic_delta (minute, runtime, tasks, timed, status, user_id, name, queue)"
        " SELECT date_bin('1 minute', now(), 'epoch'), 1, 1, 1, 2, 'ann', 'left', 'celery' FROM generate_series(1, %s)",
        (LEFT,),
    )


def one(connection: Asking, query: str) -> int:
    row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]


def counted(connection: Asking, name: str = "left") -> int:
    """Tasks of everyone, as whoever asks at this moment counts them: minutes, and what is not folded yet."""
    return one(
        connection,
        "SELECT sum(tasks)::int FROM (SELECT tasks FROM oracle.statistic_minute WHERE everyone AND minute > 'epoch'"
        f" AND name = '{name}' UNION ALL"
        f" SELECT tasks FROM oracle.statistic_delta WHERE minute > 'epoch' AND name = '{name}') AS x",
    )


def size(connection: Asking) -> int:
    """Bytes that whoever counts has to read."""
    return one(
        connection,
        "SELECT pg_relation_size('oracle.statistic_delta') + pg_relation_size('oracle.statistic_delta_rest')",
    )


def folded(connection: Asking) -> int:
    return one(connection, "SELECT coalesce(sum(tasks), 0)::int FROM oracle.statistic_minute WHERE name = 'left'")


async def until(condition: Callable[[], bool], *leaders: Upkeep) -> None:
    """They fold until it is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.gather(*(leader.fold_statistics() for leader in leaders))


async def test_a_large_file_is_small_again_while_recorders_write(
    database: str, connection: Asking, upkeep: Upkeep
) -> None:
    """Whoever counts in between counts all of them, each once, and so it is in the end."""
    leave(connection)
    stop, told = threading.Event(), 0

    def record() -> None:
        nonlocal told
        with Feeder(database) as feeder:
            while not stop.is_set():
                feeder.tell(transition(f"t{told}", Status.COMPLETED, name="written", runtime=1.0))
                told += 1

    seen: set[int] = set()

    def is_small() -> bool:
        seen.add(counted(connection))
        return size(connection) < FILE_LIMIT

    recorder = asyncio.create_task(asyncio.to_thread(record))
    try:
        await until(is_small, upkeep)
        at_once = told
        await until(lambda: told > at_once, upkeep)  # and they go on
    finally:
        stop.set()
        await recorder
    assert seen == {LEFT}
    assert counted(connection, "written") == told
    await upkeep.fold_statistics()
    assert (one(connection, "SELECT count(*) FROM oracle.statistic_delta"), folded(connection)) == (0, 2 * LEFT)


async def test_whoever_reads_for_long_is_waited_for_by_nobody(
    database: str, connection: Asking, upkeep: Upkeep
) -> None:
    """Its file stays as it is, what is in it is folded nevertheless, and later it is small."""
    with psycopg.connect(database) as reader:
        reader.execute("SELECT FROM oracle.statistic_delta LIMIT 1")
        leave(connection)
        await until(lambda: folded(connection) == 2 * LEFT, upkeep)
        assert size(connection) > FILE_LIMIT
        with Feeder(database) as feeder:
            feeder.tell(transition("t", Status.COMPLETED, name="written", runtime=1.0))
    await until(lambda: size(connection) < FILE_LIMIT, upkeep)
    assert (counted(connection), counted(connection, "written")) == (LEFT, 1)


async def test_who_leads_next_goes_on(database: str, connection: Asking, upkeep: Upkeep) -> None:
    """The file has been exchanged and folded in part: the next one knows nothing of that, and folds what is left."""
    leave(connection)
    await until(lambda: one(connection, REST) > 0, upkeep)
    await upkeep.fold_statistics()
    assert 0 < one(connection, "SELECT count(*) FROM oracle.statistic_delta_rest") < LEFT
    await upkeep.close()
    other = Upkeep(database)
    await until(lambda: size(connection) < FILE_LIMIT, other)
    await other.close()
    assert (counted(connection), folded(connection)) == (LEFT, 2 * LEFT)


async def test_two_who_lead_at_once(
    database: str, connection: Asking, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has folded a file and is about to empty it: the other one was faster, and there is another in its place."""
    other = Upkeep(database)
    empty = StatisticDeltas._empty
    was_late = False

    async def late(deltas: StatisticDeltas, its_own: psycopg.AsyncConnection[object]) -> None:
        nonlocal was_late
        if not was_late:
            was_late = True
            await until(lambda: size(connection) < FILE_LIMIT, other)
            leave(connection)
            await until(lambda: one(connection, REST) > 0, other)
        await empty(deltas, its_own)

    monkeypatch.setattr(StatisticDeltas, "_empty", late)
    leave(connection)
    await until(lambda: was_late, upkeep)
    assert counted(connection) == 2 * LEFT
    await until(lambda: size(connection) < FILE_LIMIT, upkeep, other)
    await other.close()
    assert (counted(connection), folded(connection)) == (2 * LEFT, 4 * LEFT)
