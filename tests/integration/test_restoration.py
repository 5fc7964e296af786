"""A dump is restored on another server, by the commands of docs/operating.md: what was is there, and streams go on."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from oracle_celery.database import restoration, schema
from oracle_celery.database.sql import statement
from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from tests.factories import Feeder, transition
from tests.pages import block
from tests.postgresql_fixtures import CARELESS, PostgresServer
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client, Event, Stream
from tests.tokens import TOKEN_SETTINGS

#: Transactions by which the old server is ahead of a new one.
AHEAD = 5_000
BURN = "DO $$ BEGIN FOR i IN 1..{} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"


def url(dsn: str) -> str:
    server = conninfo_to_dict(dsn)
    return f"postgresql://{server['user']}@{server['host']}:{server['port']}/{server['dbname']}"


def burn(dsn: str, count: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(BURN.format(count))


@pytest.fixture
def newcomer() -> Iterator[PostgresServer]:
    """A server that has just begun."""
    server = PostgresServer(settings=CARELESS)
    try:
        server.start()
        yield server
    finally:
        server.dispose()


@pytest.fixture
def restored(database: str, newcomer: PostgresServer, tmp_path: Path) -> str:
    """The test's database, dumped while it had a few tasks, on the newcomer."""
    burn(database, AHEAD)
    with Feeder(database) as feeder:
        for number in range(5):
            feeder.tell(transition(f"old-{number}"), transition(f"old-{number}", Status.FAILED))
            burn(database, 100)
    with psycopg.connect(newcomer.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
    environment = {"DATABASE_URL": url(database), "NEW_DATABASE_URL": url(newcomer.dsn("shop"))}
    for command in (block("operating.md", "sh", "backup"), block("operating.md", "sh", "restore")):
        subprocess.run(["sh", "-ec", command], check=True, cwd=tmp_path, env=os.environ | environment)
    return newcomer.dsn("shop")


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Client]:
    """Of a sidecar that starts there."""
    sidecar = Sidecar(Settings.from_mapping({"oracle_url": dsn, **TOKEN_SETTINGS}), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(session, sidecar.address)
    finally:
        await sidecar.stop()


async def told(stream: Stream) -> list[Event]:
    """The next change; heartbeats do not make it wait for ever."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await stream.tasks(1)


async def test_a_restored_database_is_settled_and_followed(restored: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its rows keep their order, and only the first start has to do something. Streams do not tell again what was
    restored, they tell what happens from then on, and a task's history is there."""
    query = "SELECT task_id FROM oracle.task_transition ORDER BY txid, history_id"
    with psycopg.connect(restored, autocommit=True) as connection:
        before = connection.execute(query).fetchall()
        with caplog.at_level(logging.WARNING):
            schema.migrate(connection)
            schema.migrate(connection)
        assert caplog.text.count("restored from a dump") == 1
        assert connection.execute(query).fetchall() == before
    async with opened(restored) as client:
        page = await client.ok("/api/tasks")
        assert {task["task_id"] for task in page["tasks"]} == {f"old-{number}" for number in range(5)}
        with Feeder(restored) as feeder:
            async with client.subscribe(after=page["cursor"]) as stream:
                await asyncio.to_thread(feeder.tell, transition("new-1"))
                [first] = await told(stream)
                await asyncio.to_thread(feeder.tell, transition("new-2"))
                [second] = await told(stream)
        assert [first.data["task_id"], second.data["task_id"]] == ["new-1", "new-2"]
        assert first.id
        async with client.subscribe(last_event_id=first.id) as stream:  # a cursor of the new server is a good one
            [event] = await told(stream)
            assert event.data["task_id"] == "new-2"
        history = (await client.ok("/api/tasks/old-3"))["history"]
        assert [entry["status"] for entry in history] == ["pending", "failed"]


#: What rows are numbered by, as distances from the new server's next number.
SPREADS = {
    "some are of its past already": [-500, -300, -100, 0, 2_000, 5_000],
    "one is far older than the others": [0, *range(10**9, 10**9 + 50)],
}


@pytest.mark.parametrize("distances", SPREADS.values(), ids=SPREADS)
def test_numbers_keep_their_order_and_stay_apart(database: str, distances: list[int]) -> None:
    """Those of transitions and of lines alike: a page of lines goes by them, and a leader who folds the history takes
    them one by one."""
    with psycopg.connect(database, autocommit=True) as connection:
        burn(database, 600)
        [(upcoming,)] = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchall()
        numbers = [[str(upcoming + distance)] for distance in distances]
        cursor = connection.cursor()
        with connection.transaction():
            cursor.executemany(
                "INSERT INTO oracle.task_transition (txid, at, run_at, retries, status, rank, task_id)"
                " VALUES (%s::text::xid8, now(), now(), 0, 0, 0, 't')",
                numbers,
            )
            cursor.executemany(
                "INSERT INTO oracle.task_log (txid, at, level, number, task_id)"
                " VALUES (%s::text::xid8, now(), 20, 1, 't')",
                numbers,
            )
        with connection.transaction():
            assert restoration.settle(connection) == 2 * len(distances)
        for table, key in (("task_transition", "history_id"), ("task_log", "line_id")):
            query = f"SELECT txid::text::bigint FROM oracle.{table} ORDER BY {key}"
            settled = [number for (number,) in connection.execute(query).fetchall()]
            assert settled == sorted(set(settled))
            assert settled[-1] < upcoming
        with connection.transaction():
            assert restoration.settle(connection) == 0


def test_more_numbers_than_the_past_has_share_them_evenly(database: str) -> None:
    """A new server's first hundreds, for a long history."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO oracle.task_transition (txid, at, run_at, retries, status, rank, task_id)"
            " SELECT n::text::xid8, now(), now(), 0, 0, 0, n::text FROM generate_series(1000, 10999) AS n"
        )
        parameters = {"from": "1000", "next": 104}
        query = statement("renumber_rows").format(table="task_transition", unlisted="")
        connection.execute(query, parameters)
        shares = connection.execute(
            "SELECT txid::text::bigint, count(*), min(task_id::bigint) FROM oracle.task_transition"
            " GROUP BY 1 ORDER BY 1"
        ).fetchall()
        assert shares == [(3 + place, 100, 1_000 + 100 * place) for place in range(100)]
