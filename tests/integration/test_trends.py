"""Numbers over time on real PostgreSQL: right after late and corrected facts, and of one's own tasks only."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database import upkeep as upkeep_module
from oracle_celery.database.fetching import over
from oracle_celery.database.queries import Queries
from oracle_celery.database.trend_facts import Statistics
from oracle_celery.database.trends import RANGES, RELATIVE_ERROR, Trends
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.records import Transition
from oracle_celery.states import Rank, Status
from oracle_celery.viewer import LOCAL_ADMIN, Viewer
from tests.factories import Feeder, transition

ANN, BOB = Viewer("ann"), Viewer("bob")
HOUR = 3_600.0
SECOND_NS = 1_000_000_000


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database, node="celery@one") as opened:
        yield opened


@pytest.fixture
async def upkeep(database: str) -> AsyncIterator[Upkeep]:
    made = Upkeep(database)
    yield made
    await made.close()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    async with AsyncConnectionPool(database, kwargs={"autocommit": True}, open=False) as opened:
        yield opened


@pytest.fixture
def trends(pool: AsyncConnectionPool[Any]) -> Trends:
    return Trends(over(pool))


def ended(task_id: str, ago: float, status: Status = Status.COMPLETED, **fields: Any) -> Transition:
    """`ago` seconds before now."""
    fields = {"name": "shop.pay", "queue": "mail", "user_id": "ann", "runtime": 1.0} | fields
    return transition(task_id, status, at=time.monotonic_ns() - int(ago * SECOND_NS), **fields)


def totals(statistics: Statistics) -> tuple[int, int, int]:
    return sum(statistics.completed), sum(statistics.failed), sum(statistics.cancelled)


def execute(database: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database, autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def _minute(database: str) -> str:
    """The database's: what tells of its current minute is asked again where another one has begun meanwhile."""
    [(minute,)] = execute(database, "SELECT date_bin('1 minute', now(), 'epoch')")
    return str(minute)


async def test_every_range_tells_what_finished_in_it(feeder: Feeder, upkeep: Upkeep, trends: Trends) -> None:
    """Folded or not, for everybody and for an owner: the same sums in the same places, and what came before."""
    feeder.tell(
        ended("now", 0),
        ended("failed", 10 * 60, Status.FAILED, runtime=3.0),
        ended("hours ago", 5 * HOUR),
        ended("bob's", 5 * HOUR, user_id="bob"),
        ended("nobody's", 5 * HOUR, Status.CANCELLED, user_id=None),
        ended("yesterday", 26 * HOUR),
        ended("last week", 5 * 24 * HOUR),
        ended("before", 9 * 24 * HOUR),
        ended("month", 25 * 24 * HOUR),
    )
    expected = {
        (LOCAL_ADMIN.user_id, "1h"): (1, 1, 0),
        (LOCAL_ADMIN.user_id, "24h"): (3, 1, 1),
        (LOCAL_ADMIN.user_id, "7d"): (5, 1, 1),
        (LOCAL_ADMIN.user_id, "30d"): (7, 1, 1),
        ("ann", "1h"): (1, 1, 0),
        ("ann", "24h"): (2, 1, 0),
        ("ann", "7d"): (4, 1, 0),
        ("ann", "30d"): (6, 1, 0),
        ("bob", "24h"): (1, 0, 0),
        ("bob", "30d"): (1, 0, 0),
        ("", "30d"): (0, 0, 0),  # '' stands for tasks without an owner: nobody's own
    }
    for _ in range(2):
        for (user_id, wanted), sums in expected.items():
            viewer = LOCAL_ADMIN if user_id == LOCAL_ADMIN.user_id else Viewer(user_id)
            told = await trends.statistics(viewer, wanted)
            assert totals(told) == sums, (user_id, wanted)
            assert len(told.completed) == len(told.mean_runtime) == RANGES[wanted].buckets
        told = await trends.statistics(LOCAL_ADMIN, "24h")
        assert told.previous is not None
        assert (told.previous.completed, told.previous.failed, told.previous.failure_percent) == (1, 0, 0.0)
        assert told.mean_runtime[100] is None
        assert (await trends.statistics(ANN, "7d")).previous is not None
        assert (await trends.statistics(ANN, "30d")).previous is None
        await upkeep.fold_statistics()


async def test_the_newest_numbers_are_those_of_now(
    database: str, feeder: Feeder, upkeep: Upkeep, trends: Trends
) -> None:
    """What has just finished is in the last bucket and in the minute that has begun, folded or not."""
    for is_folded in (False, True):
        while True:
            minute = _minute(database)
            before = await trends.statistics(LOCAL_ADMIN, "24h")
            viewer = Viewer(f"{minute}, {is_folded}")
            feeder.tell(ended(viewer.user_id, 0, user_id=viewer.user_id))
            if is_folded:
                await upkeep.fold_statistics()
            own, told = await trends.statistics(viewer, "24h"), await trends.statistics(LOCAL_ADMIN, "24h")
            if _minute(database) == minute:
                break
        assert (own.completed[-1], own.minute.completed, own.mean_runtime[-1]) == (1, 1, 1.0)
        assert told.completed[-1] == before.completed[-1] + 1
        assert told.minute.completed == before.minute.completed + 1


async def test_a_correction_moves_what_it_corrects(
    database: str, feeder: Feeder, upkeep: Upkeep, trends: Trends
) -> None:
    """A task that counted as failed had completed in another hour; its user becomes known late; folded in between."""
    lost = ended("t", 30, Status.FAILED, rank=int(Rank.LOST), runtime=None, user_id=None, reason="worker_lost")
    feeder.tell(lost)
    await upkeep.fold_statistics()
    assert totals(await trends.statistics(LOCAL_ADMIN, "24h")) == (0, 1, 0)
    report = ended("t", 2 * HOUR, run_at=lost.run_at, run_id=lost.run_id, runtime=7.0)
    feeder.tell(report)
    for _ in range(2):
        for viewer in (LOCAL_ADMIN, ANN):
            for wanted in RANGES:
                told = await trends.statistics(viewer, wanted)
                count = 0 if wanted == "1h" else 1
                assert totals(told) == (count, 0, 0), (viewer.user_id, wanted)
                assert [mean for mean in told.mean_runtime if mean is not None] == [7.0] * count
        [listed] = (await trends.task_types(LOCAL_ADMIN)).types
        assert (listed.completed, listed.failed, listed.mean_runtime) == (1, 0, 7.0)
        await upkeep.fold_statistics()
    sums = "SELECT sum(tasks)::int FROM oracle.{} WHERE status = 3"
    assert execute(database, sums.format("statistic_total")) == [(0,)]
    assert execute(
        database, sums.format("statistic_half_hour WHERE everyone").replace("WHERE status", "AND status")
    ) == [(0,)]


async def test_gauges_are_written_down(
    database: str, feeder: Feeder, upkeep: Upkeep, trends: Trends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of everybody, of each queue, and of users: one without tasks had none; one beyond the limit is not known. A queue
    that is not among the samples of a minute was empty in it."""
    feeder.tell(
        *(transition(f"a{number}", user_id="ann", queue="mail") for number in range(3)),
        transition("b", Status.IN_PROGRESS, user_id="bob", queue="mail"),
        transition("n", queue="other"),
    )
    while True:
        minute = _minute(database)
        execute(database, "DELETE FROM oracle.gauge_sample; DELETE FROM oracle.queue_sample")
        await upkeep.sample_gauges()
        await upkeep.fold_statistics()
        await upkeep.sample_gauges()
        if _minute(database) == minute:
            break
    for viewer, last in ((LOCAL_ADMIN, (4, 1)), (ANN, (3, 0)), (BOB, (0, 1)), (Viewer("zoe"), (0, 0))):
        for wanted in ("1h", "24h"):
            told = await trends.statistics(viewer, wanted)
            assert told.queued is not None
            assert told.active is not None
            assert max((value for value in told.queued if value is not None), default=None) == last[0], viewer
            assert max((value for value in told.active if value is not None), default=None) == last[1], viewer
            assert told.queued[0] is None
        assert (await trends.statistics(viewer, "7d")).queued is None
    queues = {series.queue: series for series in (await trends.queues("1h")).queues}
    assert {name: max(filter(None, one.waiting), default=0) for name, one in queues.items()} == {"mail": 3, "other": 1}
    assert max(filter(None, queues["mail"].active)) == 1
    execute(database, "UPDATE oracle.queue_sample SET at = at - interval '10 minutes' WHERE queue = 'other'")
    [seen] = [series.waiting for series in (await trends.queues("1h")).queues if series.queue == "other"]
    known = [value for value in seen if value is not None]
    assert (known[0], set(known[1:])) == (1, {0})  # the minutes between are not known
    monkeypatch.setattr(upkeep_module, "SAMPLED_USERS", 1)
    execute(database, "DELETE FROM oracle.gauge_sample")
    await upkeep.sample_gauges()
    assert set((await trends.statistics(BOB, "1h")).queued or ()) == {None}
    assert 3 in ((await trends.statistics(ANN, "1h")).queued or ())


async def test_percentiles_are_within_their_error(
    feeder: Feeder, upkeep: Upkeep, trends: Trends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of runtimes from a millisecond to an hour, against the sorted truth; each run counts once, in whatever pieces the
    history is folded; an owner's are exact."""
    monkeypatch.setattr(upkeep_module, "DURATIONS_LIMIT", 100)
    dice = random.Random(5)
    runtimes = {
        "fast": [dice.lognormvariate(-4, 1) for _ in range(400)],
        "slow": [dice.paretovariate(0.7) for _ in range(400)],
    }
    for name, values in runtimes.items():
        for start in range(0, len(values), 40):
            chunk = values[start : start + 40]
            feeder.tell(
                *(ended(f"{name}-{start}-{at}", 60, name=name, runtime=value) for at, value in enumerate(chunk))
            )
    looked_at = 0
    while (count := await upkeep.fold_durations()) > 0:
        looked_at += count
    assert looked_at == 800
    await upkeep.fold_statistics()
    everybody = {one.name: one for one in (await trends.task_types(LOCAL_ADMIN)).types}
    own = {one.name: one for one in (await trends.task_types(ANN)).types}
    for name, values in runtimes.items():
        truth = sorted(values)
        found, exact = everybody[name].runtime, own[name].runtime
        assert found is not None
        assert exact is not None
        assert found.counted == exact.counted == 400
        for wanted, estimate, sorted_one in ((0.5, found.p50, exact.p50), (0.95, found.p95, exact.p95)):
            right = truth[int(wanted * 400) - 1]
            assert abs(estimate / right - 1) <= RELATIVE_ERROR + 1e-9, (name, wanted)
            assert sorted_one == pytest.approx(right)
    assert await upkeep.fold_durations() == 0
    assert (await trends.task_types(BOB)).types == []


async def test_a_wait_is_for_the_first_run(feeder: Feeder, upkeep: Upkeep, trends: Trends) -> None:
    """From when the task was sent, or was to begin; what was written while a fold was under way comes with the next."""
    now = time.monotonic_ns()
    sent_at, started_at = now - 100 * SECOND_NS, now - 60 * SECOND_NS
    late = {"eta": (now + feeder._offset_ns) / SECOND_NS - 70, "name": "shop.late", "user_id": "ann"}
    for task_id, fields in (("plain", {"name": "shop.pay", "user_id": "ann"}), ("late", late)):
        feeder.tell(transition(task_id, at=sent_at, **fields))
        run = {"run_at": started_at, "run_id": task_id}
        feeder.tell(transition(task_id, Status.IN_PROGRESS, at=started_at, **run))
        feeder.tell(transition(task_id, Status.COMPLETED, at=now, runtime=60.0, **run))
        await upkeep.fold_durations()
    await upkeep.fold_statistics()
    for viewer, error in ((LOCAL_ADMIN, RELATIVE_ERROR), (ANN, 0.02)):
        types = {one.name: one for one in (await trends.task_types(viewer)).types}
        for name, wait in (("shop.pay", 40.0), ("shop.late", 10.0)):
            found = types[name].wait
            assert found is not None
            assert found.counted == 1
            assert found.p50 == pytest.approx(wait, rel=error + 0.02)


async def test_task_types_are_of_ones_own(feeder: Feeder, upkeep: Upkeep, trends: Trends) -> None:
    """Names, counts, half-hours and percentiles: nothing of others, folded or not."""
    feeder.tell(
        ended("a", 3 * 60),
        ended("a-old", 3 * HOUR, Status.FAILED),
        ended("b", 3 * 60, user_id="bob", name="shop.secret"),
        ended("n", 3 * 60, user_id=None, name="shop.secret"),
        ended("too old", 30 * HOUR),
    )
    for _ in range(2):
        everybody = await trends.task_types(LOCAL_ADMIN)
        assert [(one.name, one.finished) for one in everybody.types] == [("shop.pay", 2), ("shop.secret", 2)]
        own = await trends.task_types(ANN)
        [one] = own.types
        assert (one.name, one.completed, one.failed, one.failure_percent, own.total) == ("shop.pay", 1, 1, 50.0, 1)
        assert (sum(one.half_hours), len(one.half_hours), one.per_minute) == (2, 48, 0.1)
        await upkeep.fold_statistics()
        await upkeep.fold_durations()


async def test_the_history_of_another_database_is_not_folded_twice(
    database: str, feeder: Feeder, upkeep: Upkeep, trends: Trends
) -> None:
    """A restored database's cursor is another one's: what is folded already is left alone, and it goes on from now."""
    feeder.tell(ended("before", 60))
    await upkeep.fold_durations()
    execute(database, "UPDATE oracle.duration_cursor SET cursor = '1.4711.1.5.'")
    await upkeep.fold_durations()
    feeder.tell(ended("after", 60))
    await upkeep.fold_durations()
    await upkeep.fold_statistics()
    [one] = (await trends.task_types(LOCAL_ADMIN)).types
    assert one.runtime is not None
    assert one.runtime.counted == 2


async def test_what_nobody_looks_at_is_forgotten(database: str, feeder: Feeder, upkeep: Upkeep) -> None:
    """Minutes after their age, samples and histograms after a day and a little; gauges at zero are not read again."""
    new = ended("new", 60)
    feeder.tell(ended("old", 40 * 24 * HOUR), ended("aging", 28 * HOUR), new, transition("t", user_id="ann"))
    feeder.tell(msgspec.structs.replace(new, task_id="t", run_id="run of t"))  # in the same minute
    await upkeep.fold_statistics()
    await upkeep.fold_durations()
    await upkeep.sample_gauges()
    execute(database, "UPDATE oracle.gauge_sample SET at = at - interval '26 hours'")
    execute(database, "UPDATE oracle.queue_sample SET at = at - interval '26 hours'")
    await upkeep.trim_statistics()
    left = {
        table: execute(database, f"SELECT count(*) FROM oracle.{table}")[0][0]
        for table in ("statistic_total", "gauge_sample", "queue_sample")
    }
    assert left == {"statistic_total": 4, "gauge_sample": 0, "queue_sample": 0}
    gauges = "SELECT count(*) FROM oracle.statistic_minute WHERE minute = 'epoch'"
    assert execute(database, gauges) == [(0,)]


async def test_the_summary_counts_the_minute_and_the_slots(
    database: str, feeder: Feeder, upkeep: Upkeep, pool: AsyncConnectionPool[Any]
) -> None:
    """What finished since the minute began, and how many tasks can run at once, which is for those who see all."""
    execute(
        database,
        "INSERT INTO oracle.worker (worker_id, node, origin, pool, concurrency, queues, versions, started_at, beat_at)"
        " VALUES (gen_random_uuid(), 'celery@one', '1@one', 'prefork', 8, '{}', '{}', now(), now())",
    )
    queries = Queries(over(pool))
    while True:
        minute = _minute(database)
        task_id = f"of {minute}"
        feeder.tell(ended(task_id, 0), ended(f"{task_id}, failed", 0, Status.FAILED))
        await upkeep.fold_statistics()
        own, everybody = await queries.summary(ANN), await queries.summary(LOCAL_ADMIN)
        if _minute(database) == minute:
            break
    assert (own.completed_minute, own.failed_minute, own.slots) == (1, 1, None)
    assert (everybody.completed_minute, everybody.failed_minute, everybody.slots) == (1, 1, 8)
