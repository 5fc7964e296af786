"""The listener on real PostgreSQL: it hears, knows when it cannot, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database.opening import open_pool
from oracle_celery.sidecar.listener import CHANNEL, CONTROL_CHANNEL, Listener, ListenerStatus

DEADLINE_SECONDS = 60.0
FAST_PING_SECONDS = 0.05


@pytest.fixture
async def pool(database: str) -> AsyncIterator[AsyncConnectionPool[Any]]:
    opened = await open_pool(database)
    yield opened
    await opened.close()


async def until(condition: Callable[[], bool]) -> None:
    """Polls; what does not come true within the deadline fails the test."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def _ignore(payload: str) -> None:
    """Hears and does nothing."""


async def _terminate_listeners(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'oracle-listener' AND datname = current_database()"
        )


async def test_a_notification_wakes(database: str, pool: AsyncConnectionPool[Any]) -> None:
    """One committed notification, one call."""
    wakes: list[str] = []
    listener = Listener(database, pool, {CHANNEL: wakes.append})
    await listener.start()
    try:
        before = len(wakes)
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_notify(%s, '{}')", (CHANNEL,))
        await until(lambda: len(wakes) > before)
    finally:
        await listener.stop()


async def test_each_channel_has_its_hearer(database: str, pool: AsyncConnectionPool[Any]) -> None:
    """With the payload; a new connection is told to everybody as nothing in particular."""
    heard: dict[str, list[str]] = {CHANNEL: [], CONTROL_CHANNEL: []}
    listener = Listener(database, pool, {channel: said.append for channel, said in heard.items()})
    await listener.start()
    try:
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_notify(%s, 'one')", (CONTROL_CHANNEL,))
            await connection.execute("SELECT pg_notify(%s, 'two')", (CHANNEL,))
        await until(lambda: len(heard[CHANNEL]) > 1)
    finally:
        await listener.stop()
    assert heard == {CHANNEL: ["", "two"], CONTROL_CHANNEL: ["", "one"]}


async def test_it_knows_that_it_hears(database: str, pool: AsyncConnectionPool[Any]) -> None:
    """Its own ping comes back, and wakes nobody."""
    wakes: list[str] = []
    listener = Listener(database, pool, {CHANNEL: wakes.append})
    await listener.start()
    try:
        await until(lambda: listener.status is ListenerStatus.HEARING)
        assert len(wakes) == 1  # for the connection, not for the ping
    finally:
        await listener.stop()


async def test_it_knows_that_it_is_deaf(
    database: str, empty_database: str, pool: AsyncConnectionPool[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A listen_url to another database connects happily and never hears anything: the status and the log say so."""
    listener = Listener(empty_database, pool, {CHANNEL: _ignore}, ping_interval=FAST_PING_SECONDS, ping_patience=0.2)
    await listener.start()
    try:
        await until(lambda: listener.status is ListenerStatus.DEAF)
        assert "oracle_listen_url" in caplog.text
    finally:
        await listener.stop()


async def test_a_lost_connection_is_made_anew_and_wakes(database: str, pool: AsyncConnectionPool[Any]) -> None:
    """Notifications of the meantime are gone for ever, so the reconnect itself says "look"."""
    wakes: list[str] = []
    listener = Listener(database, pool, {CHANNEL: wakes.append})
    await listener.start()
    try:
        await until(lambda: listener.status is ListenerStatus.HEARING)
        before = len(wakes)
        await _terminate_listeners(database)
        await until(lambda: len(wakes) > before)
        await until(lambda: listener.status is ListenerStatus.HEARING)
    finally:
        await listener.stop()


async def test_no_failure_is_its_end(
    database: str, pool: AsyncConnectionPool[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever hears may fail as nobody has foreseen: it is down meanwhile, says so, and hears again later."""
    is_failing = False
    wakes: list[str] = []

    def hear(payload: str) -> None:
        if is_failing:
            raise ValueError("unforeseen")
        wakes.append(payload)

    listener = Listener(database, pool, {CHANNEL: hear})
    await listener.start()
    try:
        await until(lambda: listener.status is ListenerStatus.HEARING)
        is_failing = True
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_notify(%s, '{}')", (CHANNEL,))
        await until(lambda: listener.status is ListenerStatus.DOWN)
        is_failing = False
        before = len(wakes)
        await until(lambda: listener.status is ListenerStatus.HEARING and len(wakes) > before)
    finally:
        await listener.stop()
    assert caplog.text.count("The listener failed") == 1
    assert "unforeseen" in caplog.text


async def test_an_absent_database_is_down_and_start_returns(pool: AsyncConnectionPool[Any]) -> None:
    """Starting does not wait for a database that is away."""
    listener = Listener("host=127.0.0.1 port=1 dbname=nothing", pool, {CHANNEL: _ignore})
    await listener.start()
    assert listener.status is ListenerStatus.DOWN
    await listener.stop()


async def test_stop_is_safe_twice_and_leaves_no_connection(database: str, pool: AsyncConnectionPool[Any]) -> None:
    """Also when it was never started."""
    await Listener(database, pool, {CHANNEL: _ignore}).stop()
    listener = Listener(database, pool, {CHANNEL: _ignore})
    await listener.start()
    await listener.stop()
    await listener.stop()
    async with pool.connection() as connection:

        async def count() -> int:
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE application_name = 'oracle-listener' AND datname = current_database()"
            )
            row = await cursor.fetchone()
            assert row is not None
            return int(row[0])

        async with asyncio.timeout(DEADLINE_SECONDS):
            while await count():
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("steps", range(4))
async def test_it_stops_while_an_answer_comes_in(
    steps: int, database: str, empty_database: str, pool: AsyncConnectionPool[Any]
) -> None:
    """However many steps of the event loop lie between the answer and the stop: a cancel is never forgotten."""
    listener = Listener(empty_database, pool, {CHANNEL: _ignore}, ping_interval=3_600.0, ping_patience=3_600.0)
    await listener.start()  # it hears another database than the one where its pings are sent
    await until(lambda: bool(listener._heard._waiters))
    listener._heard.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    await _expect_stop(listener)


async def test_it_stops_while_its_ping_is_under_way(empty_database: str) -> None:
    """Also where the connection tells its own end in place of the cancel."""
    began = asyncio.Event()

    class Pool:
        @asynccontextmanager
        async def connection(self, timeout: float) -> AsyncIterator[None]:
            began.set()
            try:
                await asyncio.sleep(timeout)
            except asyncio.CancelledError:
                raise psycopg.OperationalError("terminating connection") from None
            yield

    listener = Listener(empty_database, Pool(), {CHANNEL: _ignore}, ping_interval=3_600.0, ping_patience=3_600.0)  # type: ignore[arg-type]
    await listener.start()
    await began.wait()
    await _expect_stop(listener)


async def _expect_stop(listener: Listener) -> None:
    stopping = asyncio.create_task(listener.stop())
    stopped, _ = await asyncio.wait({stopping}, timeout=DEADLINE_SECONDS)
    if not stopped:  # a second cancel is not forgotten
        stopping.cancel()
        await asyncio.wait({stopping})
    assert stopped
