"""A station whose PostgreSQL is this test's own, to be killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from oracle_celery.database import schema
from tests.acceptance.station import Station
from tests.postgresql_fixtures import PostgresServer


@pytest.fixture
def station(rabbitmq_url: str, private_postgres: PostgresServer, tmp_path: Path) -> Iterator[Station]:
    """On RabbitMQ and a PostgreSQL of its own; nothing else runs yet."""
    with psycopg.connect(private_postgres.dsn(), autocommit=True) as connection:
        schema.migrate(connection)
    station = Station(rabbitmq_url, private_postgres.dsn(), tmp_path)
    yield station
    station.stop()
