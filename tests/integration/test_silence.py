"""Connections behind something that acknowledges everything and passes nothing on: no keepalive notices that."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from oracle_celery.database import silence
from oracle_celery.database.opening import open_pool
from oracle_celery.database.silence import impatient
from oracle_celery.database.sql import statement
from oracle_celery.database.store import Store
from oracle_celery.errors import DatabaseUnavailable

#: Milliseconds.
PATIENCE = 300


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
    monkeypatch.setattr(silence, "GRACE_SECONDS", 0.2)
    return make_conninfo(database, host="127.0.0.1", port=wall.port)


def test_an_answer_that_does_not_come_ends_the_connection(dsn: str, wall: Wall) -> None:
    """Whatever was asked, and nothing is asked of it any more, not even to roll back."""
    connection = impatient(psycopg.connect(dsn, autocommit=True), PATIENCE)
    with connection.transaction():
        assert connection.execute("SELECT 1").fetchone() == (1,)
    wall.is_silent.set()
    with pytest.raises(psycopg.OperationalError, match="no answer"), connection.transaction():
        connection.execute("SELECT 1")
    assert connection.closed


def test_a_slow_answer_is_not_silence(database: str) -> None:
    """The server's own limit comes first, and says so."""
    with impatient(psycopg.connect(database, autocommit=True), PATIENCE) as connection:
        connection.execute(f"SET statement_timeout = {PATIENCE}")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(10)")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_recorder_s_connection_does_not_wait_for_ever(
    dsn: str, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that the database is away, as for any other way in which it is."""
    monkeypatch.setattr("oracle_celery.database.store.STATEMENT_TIMEOUT", PATIENCE)
    store = Store(dsn)
    store.connect()
    wall.is_silent.set()
    with pytest.raises(DatabaseUnavailable, match="no answer"):
        store.clock()
    store.close()


async def test_a_pool_leaves_what_is_silent_for_what_is_not(
    dsn: str, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent connection is given up when it is looked at before it is handed out; the next one is new."""
    monkeypatch.setattr("oracle_celery.database.opening.STATEMENT_TIMEOUT_MILLISECONDS", PATIENCE)
    pool = await open_pool(dsn)
    try:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
        wall.is_silent.set()
        with pytest.raises(psycopg.OperationalError):
            async with pool.connection(timeout=PATIENCE / 1000 + 2) as connection:
                await connection.execute("SELECT 1")
        wall.is_silent.clear()
        async with pool.connection() as connection:
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    finally:
        await pool.close()


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
