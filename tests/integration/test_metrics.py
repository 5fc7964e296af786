"""What Prometheus is told, from real PostgreSQL, in words that it can read."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import psycopg

from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from tests.factories import Feeder, transition
from tests.postgresql_fixtures import PostgresServer
from tests.sidecar_fixtures import Client
from tests.tokens import TOKEN_SETTINGS

SAMPLE = re.compile(r'([a-z_0-9]+)(\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"\})? (-?[0-9.e+-]+)')
HOSTILE = 'a"} 1\nforged 7\\'


async def _samples(client: Client) -> dict[str, float]:
    """Every sample by name and labels; each has its HELP and TYPE before it."""
    async with client.raw("/metrics") as response:
        assert response.status == 200
        lines = (await response.text()).split("\n")
    assert lines.pop() == ""
    found: dict[str, float] = {}
    described: set[str] = set()
    for line in lines:
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert kind in {"gauge", "counter"}
            assert name not in described
            described.add(name)
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match[1] in described
            key = match[1] + (match[2] or "")
            assert key not in found
            found[key] = float(match[3])
    return found


async def test_it_tells_of_tasks_and_queues(client: Client, database: str) -> None:
    """The header's numbers and every queue's; a queue's name forges no line."""
    with Feeder(database) as feeder:
        for number in range(3):
            await asyncio.to_thread(feeder.tell, transition(f"p{number}", queue="mail"))
        await asyncio.to_thread(feeder.tell, transition("h", queue=HOSTILE))
        await asyncio.to_thread(feeder.tell, transition("f", Status.FAILED, queue="mail"))
    async with client.subscribe() as stream:
        await stream.until("summary")
        told = await _samples(client)
    assert told["oracle_database_up"] == 1
    assert told['oracle_tasks{status="pending"}'] == 4
    assert told['oracle_tasks_24h{status="failed"}'] == 1
    assert told['oracle_queue_tasks{queue="mail"}'] == 3
    assert told['oracle_queue_stranded{queue="mail"}'] == 1
    assert told['oracle_queue_tasks{queue="a\\"} 1\\nforged 7\\\\"}'] == 1
    assert told["oracle_streams"] == 1
    assert told["oracle_connections"] >= 2
    assert sum(value for name, value in told.items() if name.startswith("oracle_listener_status")) == 1


async def test_it_tells_what_recorders_lost(client: Client, database: str) -> None:
    """Of workers that live."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO oracle.worker (worker_id, node, origin, pool, concurrency, queues, versions,"
            " started_at, beat_at, counts)"
            " VALUES (gen_random_uuid(), 'w', '1@h', 'prefork', 1, '{}', '{}', now(), now(), %s)",
            ('{"dropped": 5, "quarantined": 2}',),
        )
    told = await _samples(client)
    assert (told["oracle_workers"], told["oracle_dropped_records"], told["oracle_quarantined_records"]) == (1, 5, 2)


async def test_a_database_that_is_away_is_a_fact(private_postgres: PostgresServer) -> None:
    """The scrape succeeds and tells that; an alert can be made of it."""
    private_postgres.stop()
    sidecar = Sidecar(Settings.from_mapping({"oracle_url": private_postgres.dsn(), **TOKEN_SETTINGS}), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            told = await _samples(Client(session, sidecar.address))
        assert told["oracle_database_up"] == 0
        assert told["oracle_broadcaster_online"] == 0
        assert told['oracle_listener_status{status="starting"}'] == 1
        assert "oracle_workers" not in told
    finally:
        await sidecar.stop()
