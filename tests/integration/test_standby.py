"""Reads from a real standby are never older than what was true when they began, and leave no gap to the stream."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import psycopg
import pytest

from oracle_celery.database import silence
from oracle_celery.database import standby as standby_module
from oracle_celery.database.cursor import Cursor
from oracle_celery.database.examination import examine_standby
from oracle_celery.database.fetching import over
from oracle_celery.database.listing import TaskFilter
from oracle_celery.database.opening import open_pool
from oracle_celery.database.queries import EVERYBODYS, Queries
from oracle_celery.database.standby import Standby, StandbyStatus
from oracle_celery.errors import QueryTooBroad
from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from tests import scaling_page
from tests.factories import Feeder, transition
from tests.faults.replicas import Replicas, running_replicas
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client, until
from tests.tokens import TOKEN_SETTINGS

WRITERS = 3
TASKS = 120  # of each writer
LISTS = 25
EVERY = TaskFilter()
#: Seconds for which a read waits for a standby that replays nothing.
SHORT_PATIENCE_SECONDS = 0.1
#: That a read may take; until the standby has caught up it has its place to tell, again and again.
SHORT_PATIENCE_MILLISECONDS = 1_000


@pytest.fixture(scope="module")
def shared_replicas() -> Iterator[Replicas]:
    """A standby whose queries yield at once to what is replayed; tests leave both as they were."""
    yield from running_replicas(max_standby_streaming_delay="0")


@pytest.fixture
def replicas(shared_replicas: Replicas) -> Replicas:
    with psycopg.connect(shared_replicas.primary.dsn(), autocommit=True) as connection:
        connection.execute("TRUNCATE oracle.task_state_record, oracle.task_transition")
    shared_replicas.wait_until_equal()
    return shared_replicas


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a standby that replays is in time."""
    monkeypatch.setattr(standby_module, "PATIENCE_SECONDS", DEADLINE_SECONDS)
    monkeypatch.setattr(standby_module, "CONNECTION_SECONDS", DEADLINE_SECONDS)


@contextmanager
def _paused(replicas: Replicas) -> Iterator[None]:
    """The standby replays nothing meanwhile, and nobody waits for it for long."""
    replicas.ask(replicas.standby, "SELECT pg_wal_replay_pause()::text")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(standby_module, "PATIENCE_SECONDS", SHORT_PATIENCE_SECONDS)
            yield
    finally:
        replicas.ask(replicas.standby, "SELECT pg_wal_replay_resume()::text")


@asynccontextmanager
async def _standby(primary: str, standby: str) -> AsyncIterator[tuple[Standby, Queries]]:
    """With a reader of the primary for the stream."""
    pool, other = await open_pool(primary), await open_pool(standby)
    reads = Standby(other, pool)
    await reads.start()
    try:
        yield reads, Queries(over(pool))
    finally:
        await reads.stop()
        await other.close()
        await pool.close()


@asynccontextmanager
async def _sidecar(replicas: Replicas, read_url: str) -> AsyncIterator[Client]:
    settings = {
        "oracle_url": replicas.primary.dsn(),
        **scaling_page.settings("standby", db2=read_url),
        **TOKEN_SETTINGS,
    }
    sidecar = Sidecar(Settings.from_mapping(settings), port=0)
    await sidecar.start()
    timeout = aiohttp.ClientTimeout(total=None, connect=DEADLINE_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield Client(session, sidecar.address)
    finally:
        await sidecar.stop()


async def test_a_list_and_the_stream_after_it_have_no_gap(replicas: Replicas) -> None:
    """Writers at random, one transaction open all the while, the standby late now and then: whatever a list of the
    standby lacks comes after its cursor, which stands no further back than the primary's own would."""
    dice = random.Random(20261126)
    ended = threading.Event()
    writers = [
        threading.Thread(target=_write, args=(replicas, n, random.Random(dice.random()))) for n in range(WRITERS)
    ]
    async with _standby(replicas.primary.dsn(), replicas.standby.dsn()) as (reads, stream):
        lister = Queries(reads.fetch, reads.marked)
        with psycopg.connect(replicas.primary.dsn()) as long:
            long.execute("SELECT pg_current_xact_id()")  # everything else is of later transactions
            for writer in writers:
                writer.start()
            lists: list[tuple[Cursor, dict[str, str]]] = []
            while any(writer.is_alive() for writer in writers) or len(lists) < LISTS:
                before = await stream.start_cursor()
                found = await lister.list_tasks(EVERYBODYS, EVERY, limit=1_000)
                cursor = Cursor.parse(found.cursor)
                assert max(cursor.xmax, 1) >= before.xmax, "it would repeat what came since the long transaction began"
                lists.append((cursor, {task.task_id: task.status for task in found.tasks}))
                await asyncio.sleep(0.02)
        for writer in writers:
            writer.join()
        ended.set()
        truth = {task.task_id: task.status for task in (await stream.list_tasks(EVERYBODYS, EVERY, limit=1_000)).tasks}
        assert len(truth) == WRITERS * TASKS
        for cursor, known in lists:
            changes = await stream.changes(cursor, 10_000)
            for change in changes.transitions:
                known[change.public.task_id] = change.public.task.status
            assert known == truth
        assert reads.reads > LISTS // 2, "the standby has served too little: this run has proved nothing"


def _write(replicas: Replicas, number: int, dice: random.Random) -> None:
    with Feeder(replicas.primary.dsn()) as feeder:
        for task in range(TASKS):
            feeder.tell(transition(f"{number}-{task}"))
            if dice.random() < 0.8:
                feeder.tell(transition(f"{number}-{task}", Status.COMPLETED))
            if dice.random() < 0.05:
                time.sleep(dice.uniform(0, 0.05))


async def test_nobody_reads_what_was_true_before(replicas: Replicas) -> None:
    """While the standby replays nothing, what is committed is in every read, by the primary; then it is the standby's
    turn again."""
    async with _standby(replicas.primary.dsn(), replicas.standby.dsn()) as (reads, _):
        lister = Queries(reads.fetch, reads.marked)
        assert reads.status is StandbyStatus.FOLLOWING
        with Feeder(replicas.primary.dsn()) as feeder:
            with _paused(replicas):
                for number in range(3):
                    feeder.tell(transition("t", Status.COMPLETED if number else Status.PENDING, retries=number))
                    detail = await lister.task(EVERYBODYS, "t")
                    assert detail.task.retries == number
                assert reads.fallbacks >= 3
                await until(lambda: reads.status is StandbyStatus.BEHIND)  # a look from before may say otherwise
                assert examine_standby_in_thread_is(replicas, StandbyStatus.BEHIND)
            await until(lambda: reads.status is StandbyStatus.FOLLOWING)
            served = reads.reads
            feeder.tell(transition("t", Status.COMPLETED, retries=9))
            assert (await lister.task(EVERYBODYS, "t")).task.retries == 9
            assert reads.reads > served
            assert reads.lag < DEADLINE_SECONDS


def examine_standby_in_thread_is(replicas: Replicas, status: StandbyStatus) -> bool:
    """The doctor has a loop of its own."""
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(examine_standby(replicas.primary.dsn(), replicas.standby.dsn()))
    )
    thread.start()
    thread.join()
    return bool(found[0].status is status)


async def test_a_read_that_conflicts_with_the_replay_is_the_primarys(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standby cancels it, because a lock of the primary's must be replayed; whoever asked does not notice."""
    monkeypatch.setattr(silence, "GRACE_SECONDS", DEADLINE_SECONDS)
    async with _standby(replicas.primary.dsn(), replicas.standby.dsn()) as (reads, _):
        seconds = "CASE WHEN pg_is_in_recovery() THEN %(seconds)s ELSE 0 END"
        slow = f"SELECT count(*) FROM oracle.task_state_record, pg_sleep({seconds})"
        fetch = reads.over(int(DEADLINE_SECONDS * 1000))  # longer than the lock may take to come
        reading = asyncio.create_task(fetch(slow, {"seconds": int(DEADLINE_SECONDS)}))
        active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep%%' AND state = 'active'"
        await until(lambda: replicas.ask(replicas.standby, active.replace("%%", "%")) > 1)
        with psycopg.connect(replicas.primary.dsn()) as connection:
            connection.execute("LOCK TABLE oracle.task_state_record IN ACCESS EXCLUSIVE MODE")
            connection.execute("SELECT pg_current_xact_id()")
        assert await reading == [(0,)]
        assert reads.fallbacks == 1


async def test_a_read_that_takes_too_long_there_is_not_repeated_here(replicas: Replicas) -> None:
    """Whoever asked for too much is told so by the standby; the primary, which is to be spared, hears nothing of it."""
    async with _standby(replicas.primary.dsn(), replicas.standby.dsn()) as (reads, _):
        slow = "SELECT pg_sleep(CASE WHEN pg_is_in_recovery() THEN %(seconds)s ELSE 0 END)::text"
        with pytest.raises(QueryTooBroad):
            await reads.over(SHORT_PATIENCE_MILLISECONDS)(slow, {"seconds": int(DEADLINE_SECONDS)})
        assert reads.fallbacks == 0
        assert reads.status is StandbyStatus.FOLLOWING


async def test_another_server_and_one_that_is_away_are_not_read(
    replicas: Replicas, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is no standby of this primary, and one that does not answer."""
    async with _standby(replicas.primary.dsn(), database) as (reads, _):
        assert reads.status is StandbyStatus.FOREIGN
        await Queries(reads.fetch, reads.marked).list_tasks(EVERYBODYS, EVERY)
        assert (reads.reads, reads.fallbacks > 0) == (0, True)
    monkeypatch.setattr(standby_module, "CONNECTION_SECONDS", SHORT_PATIENCE_SECONDS)
    async with _standby(replicas.primary.dsn(), "host=127.0.0.1 port=1 user=nobody") as (reads, _):
        assert reads.status is StandbyStatus.AWAY
        await Queries(reads.fetch, reads.marked).list_tasks(EVERYBODYS, EVERY)
        assert (reads.reads, reads.fallbacks > 0) == (0, True)


async def test_a_sidecar_reads_there_and_commands_here(replicas: Replicas) -> None:
    """With docs/scaling.md's settings: pages come from the standby, a command's answer is in the next page however late
    the standby is, and the metrics tell."""
    async with _sidecar(replicas, replicas.standby.dsn()) as client:
        with Feeder(replicas.primary.dsn()) as feeder:
            feeder.tell(*(transition(f"t{number}") for number in range(3)))
            page = await client.ok("/api/tasks")
            assert len(page["tasks"]) == 3
            async with client.subscribe(after=page["cursor"]) as stream:
                feeder.tell(transition("t0", Status.IN_PROGRESS))
                assert (await stream.until("task")).data["task_id"] == "t0"
            for path in ("/api/summary", "/api/tasks/t1", "/api/tasks/t1/logs", "/api/workers", "/api/queues"):
                await client.ok(path)
            told = await _metrics(client)
            assert _figure(told, "oracle_standby_reads_total") > 0
            before = _figure(told, "oracle_standby_fallbacks_total")
            with _paused(replicas):
                status, _ = await client.send("DELETE", "/api/tasks/t1")
                assert status == 200
                assert (await client.ok("/api/tasks/t1"))["task"]["status"] == "cancelled"
                async with asyncio.timeout(DEADLINE_SECONDS):  # a look from before may say otherwise
                    while 'oracle_standby_status{status="behind"} 1.0' not in await _metrics(client):
                        await asyncio.sleep(0.05)
            told = await _metrics(client)
            assert _figure(told, "oracle_standby_fallbacks_total") > before
            assert "oracle_standby_lag_seconds" in told


async def _metrics(client: Client) -> str:
    async with client.raw("/metrics") as response:
        return await response.text()


def _figure(told: str, name: str) -> float:
    [figure] = [float(line.split()[1]) for line in told.splitlines() if line.startswith(f"{name} ")]
    return figure


def test_a_promoted_standby_is_another_timeline() -> None:
    """It holds what its old primary never did: nothing of it is shown beside that one's stream."""
    for replicas in running_replicas():
        replicas.standby.promote()

        async def look(replicas: Replicas = replicas) -> StandbyStatus:
            async with _standby(replicas.primary.dsn(), replicas.standby.dsn()) as (reads, _):
                return reads.status

        assert asyncio.run(look()) is StandbyStatus.FOREIGN


async def test_no_failure_of_a_look_is_the_last(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the primary's answer fails with: it is said once, the standby is left alone, and looked at again."""
    pool = await open_pool(database)
    try:
        looked_at = Standby(pool, pool)
        with monkeypatch.context() as patch:
            patch.setattr(looked_at, "_ask_primary", _fail)
            for _ in range(2):
                await looked_at.look()
                assert looked_at.status is StandbyStatus.AWAY
        await looked_at.look()
        assert looked_at.status is not StandbyStatus.AWAY
    finally:
        await pool.close()
    assert caplog.text.count("Looking at the standby failed") == 1


async def _fail(query: str, parameters: dict[str, Any]) -> Any:
    raise psycopg.DataError("unforeseen")
