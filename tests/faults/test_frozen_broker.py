"""A broker, and a result backend, that neither answer nor refuse: what the leading sidecar does for all goes on."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from oracle_celery.database.control import ControlStore
from tests.acceptance.station import Station
from tests.broker_fixtures import RabbitServer, RedisServer
from tests.control_commands import ADMIN, register
from tests.factories import Feeder, transition
from tests.faults.scale import is_full
from tests.polling import eventually

SETTINGS = {"oracle_beat_interval": 0.5, "oracle_worker_timeout": 1.0}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["redis", "rabbitmq"] if is_full() else ["redis"])
def frozen_broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server of its own, which is stopped with SIGSTOP."""
    server: RabbitServer | RedisServer = RedisServer() if request.param == "redis" else RabbitServer()
    try:
        server.start()
        url = server.new_url()
        server.freeze()
        yield url
        server.thaw()
    finally:
        server.dispose()


@pytest.fixture
def station(frozen_broker: str, database: str, tmp_path: Path) -> Iterator[Station]:
    backend = frozen_broker if frozen_broker.startswith("redis") else None
    station = Station(frozen_broker, database, tmp_path, backend=backend, settings=SETTINGS)
    yield station
    station.stop()


def test_a_leader_whose_broker_hangs_goes_on_and_ends(station: Station, database: str) -> None:
    """A worker has fallen silent, which cannot be asked, and whoever waits for a cancelled task cannot be told; pauses
    still end at their time, nobody is said to be lost, and SIGTERM ends the sidecar as ever."""
    with Feeder(database) as feeder, ControlStore(database) as store:
        feeder.tell(transition("t"))
        store.cancel(ADMIN, "t")
        register(feeder, str(uuid.uuid4()), "celery@silent")
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("UPDATE oracle.worker SET beat_at = now() - interval '1 hour', control_seq = 1000")
        sidecar = station.start_sidecar()
        # again and again
        sidecar.wait_until(lambda: sidecar.log.count("Silent workers cannot be asked") > 1, "the worker is asked", 60)
        store.pause(ADMIN, ["mail"], until=datetime.now(UTC) + timedelta(hours=1))
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("UPDATE oracle.queue_pause SET until = now() + interval '1 second'")
        eventually(lambda: not store.pauses(), "the pause is over")
        due = ["t"] if "redis" in station.broker else []
        eventually(lambda: store.revoked_results_due() == due, "who can be told of the cancel has been told")
        assert [worker["state"] for worker in station.get("/api/workers")["workers"]] == ["silent"]
        assert sidecar.terminate() == 0


def test_the_doctor_says_that_the_broker_hangs(station: Station) -> None:
    """It ends, within the half minute that it promises for an installation that is down, and examines all the rest."""
    found = [one["code"] for one in station.doctor()]
    assert "broker/away" in found
    assert "workers/none" in found
