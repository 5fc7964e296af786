"""A `Station` for tests that want one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.station import Station


@pytest.fixture
def rabbitmq_station(rabbitmq_url: str, database: str, tmp_path: Path) -> Iterator[Station]:
    """On RabbitMQ, with a database of this test alone; nothing runs yet."""
    station = Station(rabbitmq_url, database, tmp_path)
    yield station
    station.stop()
