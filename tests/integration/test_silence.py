"""Connections behind something that acknowledges everything and passes nothing on: no keepalive notices that."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import psycopg
import psycopg_pool
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from oracle_celery.database import silence
from oracle_celery.database.opening import blocking_pool, direct_connection, open_pool
from oracle_celery.database.partitions import _unhurried
from oracle_celery.database.silence import impatient
from oracle_celery.database.sql import statement
from oracle_celery.database.store import Store
from oracle_celery.database.transactions import CommandStore
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar.listener import Listener

#: Milliseconds, where nothing has to be answered in time.
SHORT = 300
#: Milliseconds: a busy machine takes some until a good answer is through the wall.
PATIENCE = 1_500
#: Milliseconds, beyond all patience of a test's.
LONG = 3_600_000


#: Seconds in which a good answer comes, however busy the machine is.
DEADLINE_SECONDS = 60.0

Answer = TypeVar("Answer")
GIVEN_UP = (psycopg.OperationalError, DatabaseUnavailable)


def answered(ask: Callable[[], Answer]) -> Answer:
    """What is asked through the wall before it falls silent: a busy machine's answer may be given up as well, and then
    it is asked again, as everybody does who asks in earnest."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return ask()
        except GIVEN_UP:
            if time.monotonic() > deadline:
                raise


async def answered_soon(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The same in an event loop."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return await ask()
        except GIVEN_UP:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


class Wall:
    """A proxy that may fall silent."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.is_silent = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()
        except OSError:
            pass

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while block := source.recv(65_536):
                if not self.is_silent.is_set():
                    target.sendall(block)
        except OSError:
            pass
        finally:
            source.close()
            target.close()


@pytest.fixture
def wall(database: str) -> Iterator[Wall]:
    parts: dict[str, Any] = conninfo_to_dict(database)
    wall = Wall(parts["host"], int(parts["port"]))
    yield wall
    wall.close()


@pytest.fixture
def dsn(database: str, wall: Wall, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the database, through the wall."""
    monkeypatch.setattr(silence, "GRACE_SECONDS", 1.0)
    return make_conninfo(database, host="127.0.0.1", port=wall.port)


def test_an_answer_that_does_not_come_ends_the_connection(dsn: str, wall: Wall) -> None:
    """Whatever was asked, and nothing is asked of it any more, not even to roll back."""

    def opened() -> psycopg.Connection[Any]:
        connection = impatient(psycopg.connect(dsn, autocommit=True), PATIENCE)
        with connection.transaction():
            assert connection.execute("SELECT 1").fetchone() == (1,)
        return connection

    connection = answered(opened)
    wall.is_silent.set()
    with pytest.raises(psycopg.OperationalError, match="no answer"), connection.transaction():
        connection.execute("SELECT 1")
    assert connection.closed


def test_a_slow_answer_is_not_silence(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own limit comes first, and says so."""
    monkeypatch.setattr(silence, "GRACE_SECONDS", DEADLINE_SECONDS)
    with impatient(psycopg.connect(database, autocommit=True), SHORT) as connection:
        connection.execute("BEGIN")
        connection.execute(f"SET LOCAL statement_timeout = {SHORT}")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(600)")
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_recorder_s_connection_does_not_wait_for_ever(
    dsn: str, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that the database is away, as for any other way in which it is."""
    monkeypatch.setattr("oracle_celery.database.store.STATEMENT_TIMEOUT", PATIENCE)
    store = Store(dsn)
    answered(store.connect)
    wall.is_silent.set()
    with pytest.raises(DatabaseUnavailable, match="no answer"):
        store.clock()
    store.close()


def test_who_holds_a_bulks_lock_does_not_wait_for_ever(dsn: str, wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection whose life is the lock's asks little, and gives up when it is not answered."""
    monkeypatch.setattr("oracle_celery.database.opening.STATEMENT_TIMEOUT_MILLISECONDS", PATIENCE)
    with answered(lambda: direct_connection(dsn)) as connection:
        wall.is_silent.set()
        with pytest.raises(psycopg.OperationalError, match="no answer"):
            connection.execute("SELECT 1")


async def test_a_pool_leaves_what_is_silent_for_what_is_not(
    dsn: str, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent connection is given up when it is looked at before it is handed out; the next one is new."""
    monkeypatch.setattr("oracle_celery.database.opening.STATEMENT_TIMEOUT_MILLISECONDS", PATIENCE)
    pool = await open_pool(dsn)

    async def ask(seconds: float = DEADLINE_SECONDS) -> Any:
        async with pool.connection(timeout=seconds) as connection:
            return await (await connection.execute("SELECT 1")).fetchone()

    try:
        await answered_soon(ask)
        wall.is_silent.set()
        with pytest.raises(psycopg.OperationalError):
            await ask(PATIENCE / 1000 + 1)
        wall.is_silent.clear()
        assert await answered_soon(ask) == (1,)
    finally:
        await pool.close()


def test_an_application_s_command_does_not_wait_for_ever(dsn: str, wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the server would take for what was asked, and no longer."""
    monkeypatch.setattr("oracle_celery.database.opening.STATEMENT_TIMEOUT_MILLISECONDS", PATIENCE)
    with CommandStore(dsn) as store:

        def ask() -> None:
            with store._transaction(LONG) as transaction:
                transaction._connection.execute("SELECT pg_sleep(%s)", (2 * PATIENCE / 1000,))  # it may take so long

        answered(ask)
        monkeypatch.setattr(store._pool, "_check", None)  # silent from then on
        wall.is_silent.set()
        with pytest.raises(DatabaseUnavailable, match="no answer"), store._transaction():
            pass


def test_a_blocking_pool_leaves_what_is_silent(dsn: str, wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at before it is handed out, however long a question may take."""
    monkeypatch.setattr("oracle_celery.database.opening.STATEMENT_TIMEOUT_MILLISECONDS", LONG)
    monkeypatch.setattr("oracle_celery.database.opening.CHECK_SECONDS", PATIENCE / 1000)
    with blocking_pool(dsn) as pool:

        def ask() -> Any:
            with pool.connection(timeout=DEADLINE_SECONDS) as connection:
                return connection.execute("SELECT 1").fetchone()

        answered(ask)
        wall.is_silent.set()
        with pytest.raises(psycopg_pool.PoolTimeout), pool.connection(timeout=1):
            pass
        wall.is_silent.clear()
        assert answered(ask) == (1,)


async def test_a_lead_does_not_wait_for_ever(dsn: str, wall: Wall, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, and taken again over a new connection."""
    monkeypatch.setattr("oracle_celery.database.upkeep.STATEMENT_TIMEOUT", PATIENCE)
    upkeep = Upkeep(dsn)
    try:
        await _leads(upkeep)
        wall.is_silent.set()
        with pytest.raises(DatabaseUnavailable, match="no answer"):
            await upkeep.silent_workers(1)
        wall.is_silent.clear()
        await _leads(upkeep)
    finally:
        await upkeep.close()


async def _leads(upkeep: Upkeep) -> None:
    """It does in the end: of a lead that was lost the server may not have noticed yet."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await answered_soon(upkeep.try_lead):
            await asyncio.sleep(0.02)


async def test_what_reads_a_whole_partition_may_take_its_time(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There an answer may come as late as it likes."""
    grace = 3.0  # seconds that a busy machine may take for all that is not to take its time
    monkeypatch.setattr(silence, "GRACE_SECONDS", grace)
    async with impatient(await psycopg.AsyncConnection.connect(dsn, autocommit=True), PATIENCE) as connection:
        await connection.execute(f"SET statement_timeout = {PATIENCE}")
        async with _unhurried(connection):
            await connection.execute("SELECT pg_sleep(%s)", (PATIENCE / 1000 + grace + 0.5,))
        with pytest.raises(psycopg.errors.QueryCanceled):
            await connection.execute("SELECT pg_sleep(600)")


async def test_a_listener_does_not_wait_for_ever_until_it_listens(
    dsn: str, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards it does: no news is no silence."""
    monkeypatch.setattr("oracle_celery.sidecar.listener.LISTEN_PATIENCE_SECONDS", PATIENCE / 1000)
    async with await open_pool(dsn) as pool:
        listener = Listener(dsn, pool, {})
        async with await answered_soon(listener._connect) as connection:
            assert [news async for news in connection.notifies(timeout=2 * PATIENCE / 1000)] == []
            await connection.execute("SELECT pg_notify('oracle_ping', 'here')")
            assert [news.payload async for news in connection.notifies(timeout=30, stop_after=1)] == ["here"]

        def fall_silent(name: str) -> str:
            wall.is_silent.set()
            return statement(name)

        monkeypatch.setattr("oracle_celery.sidecar.listener.statement", fall_silent)
        with pytest.raises(psycopg.OperationalError, match="no answer"):
            await listener._connect()


def test_the_server_asks_too(database: str) -> None:
    """What a vanished client's session holds, it holds for seconds, not for hours."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(statement("keepalives"))
        [(idle, interval, count, limit)] = connection.execute(
            "SELECT current_setting('tcp_keepalives_idle')::int, current_setting('tcp_keepalives_interval')::int,"
            " current_setting('tcp_keepalives_count')::int, current_setting('tcp_user_timeout')"
        ).fetchall()
    assert idle + interval * count <= 15
    assert limit in ("10s", "10000")
