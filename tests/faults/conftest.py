"""Servers of one test alone, to be killed and restarted, and stations on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from oracle_celery.database import schema
from tests.acceptance.station import Station
from tests.broker_fixtures import RabbitServer, RedisServer
from tests.faults.replicas import Replicas, running_replicas
from tests.postgresql_fixtures import PostgresServer


@pytest.fixture
def station(rabbitmq_url: str, private_postgres: PostgresServer, tmp_path: Path) -> Iterator[Station]:
    """On RabbitMQ and a PostgreSQL of its own; nothing else runs yet."""
    with psycopg.connect(private_postgres.dsn(), autocommit=True) as connection:
        schema.migrate(connection)
    station = Station(rabbitmq_url, private_postgres.dsn(), tmp_path)
    yield station
    station.stop()


@pytest.fixture
def replicas() -> Iterator[Replicas]:
    """A primary and a standby of this test alone, migrated; replication is asynchronous."""
    yield from running_replicas()


@pytest.fixture(params=["rabbitmq", "redis"])
def own_broker(request: pytest.FixtureRequest) -> Iterator[RabbitServer | RedisServer]:
    """The test runs once on each; `restart` keeps what it held."""
    server: RabbitServer | RedisServer = RabbitServer() if request.param == "rabbitmq" else RedisServer(durable=True)
    try:
        server.start()
        yield server
    finally:
        server.dispose()
