"""The broadcaster on real PostgreSQL: found without being told, read once, encoded once, handed to the right ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from oracle_celery.database.cursor import Cursor
from oracle_celery.database.fetching import over
from oracle_celery.database.opening import open_pool
from oracle_celery.database.queries import Changes, Queries
from oracle_celery.sidecar.broadcaster import Broadcaster
from oracle_celery.sidecar.subscription import Subscription
from oracle_celery.viewer import LOCAL_ADMIN, Viewer
from tests.factories import Feeder, transition

DEADLINE_SECONDS = 60.0


class CountingQueries(Queries):
    """How often rows were found; a read may fail as nobody has foreseen."""

    finds = 0
    failures = 0
    trouble: Exception | None = None

    async def changes(self, cursor: Cursor, limit: int = 1_000, viewer: Viewer = LOCAL_ADMIN) -> Changes:
        if self.trouble is not None:
            self.failures += 1
            raise self.trouble
        changes = await super().changes(cursor, limit, viewer)
        self.finds += bool(changes.transitions)
        return changes


@pytest.fixture
async def queries(database: str) -> AsyncIterator[CountingQueries]:
    pool = await open_pool(database)
    yield CountingQueries(over(pool))
    await pool.close()


@pytest.fixture
async def broadcaster(queries: CountingQueries) -> AsyncIterator[Broadcaster]:
    """Started, online, and with no listener to wake it."""
    started = Broadcaster(queries)
    await started.start()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not started.is_online:
            await asyncio.sleep(0.01)
    yield started
    await started.stop()


def _joined(broadcaster: Broadcaster, viewer: Viewer) -> Subscription:
    subscription = Subscription(viewer)
    assert broadcaster.join(subscription, None) == []
    return subscription


async def _taken(subscription: Subscription) -> bytes:
    """What waits, as soon as something does."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while subscription.is_drained:
            await asyncio.sleep(0)
    return subscription.take()


async def test_polling_finds_what_nobody_told(database: str, broadcaster: Broadcaster) -> None:
    """A deaf listener makes changes later, not lost."""
    subscription = _joined(broadcaster, LOCAL_ADMIN)
    with Feeder(database) as feeder:
        await asyncio.to_thread(feeder.tell, transition("t"))
    assert b'"task_id":"t"' in await _taken(subscription)


async def test_one_read_and_one_encoding_serve_everybody(
    database: str, broadcaster: Broadcaster, queries: CountingQueries
) -> None:
    """A hundred admins share one piece of memory."""
    admins = [_joined(broadcaster, LOCAL_ADMIN) for _ in range(100)]
    with Feeder(database) as feeder:
        await asyncio.to_thread(feeder.tell, transition("t"))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while admins[0].is_drained:
            await asyncio.sleep(0.01)
    assert queries.finds == 1
    assert len({id(admin.take()) for admin in admins}) == 1


async def test_owners_are_handed_their_own(database: str, broadcaster: Broadcaster) -> None:
    """An admin all, an owner theirs, somebody without tasks nothing; only the last of a read has the cursor."""
    admin, ann, eve = (_joined(broadcaster, viewer) for viewer in (LOCAL_ADMIN, Viewer("ann"), Viewer("eve")))
    with Feeder(database) as feeder:
        await asyncio.to_thread(
            feeder.tell,
            transition("a", user_id="ann"),
            transition("b", user_id="bob"),
            transition("c"),
            transition("d", user_id="ann"),
        )
    everything = await _taken(admin)
    hers = await _taken(ann)
    assert everything.count(b"event: task") == 4
    assert hers.count(b"event: task") == 2
    for chunk in (everything, hers):
        blocks = chunk.split(b"\n\n")[:-1]
        assert [block.startswith(b"id: ") for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert eve.is_drained


async def test_a_large_transaction_overflows_nobody_who_reads(database: str, broadcaster: Broadcaster) -> None:
    """Megabytes at once are handed out in turns, and streams get to send between them."""
    subscription = _joined(broadcaster, LOCAL_ADMIN)
    facts = [transition(f"t-{number}", name="x" * 500) for number in range(2_000)]

    async def read() -> None:
        received = 0
        while received < len(facts):
            chunk = await _taken(subscription)
            assert b"event: resync" not in chunk
            received += chunk.count(b"event: task")

    async with asyncio.TaskGroup() as group:
        group.create_task(read())  # before there is anything: it may all be there before whoever tells it goes on
        with Feeder(database) as feeder:
            await asyncio.to_thread(feeder.tell, *facts)


async def test_no_failure_of_a_read_is_the_end(
    database: str, broadcaster: Broadcaster, queries: CountingQueries, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it is: it is said once and not hidden from /readyz, and all that came meanwhile is handed out later."""
    subscription = _joined(broadcaster, LOCAL_ADMIN)
    queries.trouble = psycopg.DataError("timestamp too large (after year 10K)")
    with Feeder(database) as feeder:
        await asyncio.to_thread(feeder.tell, transition("t"))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while queries.failures < 2:
                await asyncio.sleep(0.01)
        assert not broadcaster.is_online
        queries.trouble = None
        received = await _taken(subscription)
        await asyncio.to_thread(feeder.tell, transition("u"))
        received += await _taken(subscription)
    assert [received.count(b'"task_id":"t"') > 0, received.count(b'"task_id":"u"') > 0] == [True, True]
    assert broadcaster.is_online
    assert caplog.text.count("Please report it") == 1
    assert "after year 10K" in caplog.text


async def test_stop_closes_subscriptions_and_is_safe_twice(queries: CountingQueries) -> None:
    """Also before the first read."""
    broadcaster = Broadcaster(queries)
    await broadcaster.stop()
    await broadcaster.start()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not broadcaster.is_online:
            await asyncio.sleep(0.01)
    subscription = _joined(broadcaster, LOCAL_ADMIN)
    await broadcaster.stop()
    await broadcaster.stop()
    assert subscription.closed
