"""docs/upgrading.md: a sidecar and workers of different versions. Tasks notice nothing, and no fact is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from oracle_celery.database import schema
from tests.acceptance.station import MODULE, Station
from tests.local_processes import LocalSidecar, LocalWorker

OLDER = "tests.acceptance.older_app"
RESULT_SECONDS = 60


@pytest.fixture
def station(redis_url: str, empty_database: str, tmp_path: Path) -> Iterator[Station]:
    station = Station(redis_url, empty_database, tmp_path)
    yield station
    station.stop()


def start_worker(station: Station, module: str, name: str) -> LocalWorker:
    log_path = station.folder / f"{name}-{len(station.workers)}.log"
    worker = LocalWorker(module, log_path, name=name, env=station.environment, warm=True)
    station.workers.append(worker)
    return worker.start()


def run(station: Station) -> str:
    """A task that has run, as its own result says."""
    task_id = station.send("succeed", "x")
    station.app.AsyncResult(task_id).get(timeout=RESULT_SECONDS)
    return task_id


def test_sidecar_and_workers_of_different_versions(station: Station) -> None:
    """A newer worker waits for the migration; an older one goes on where the schema lets it, and else waits for
    its successor. What waits is in the journal."""
    older_sidecar = LocalSidecar(OLDER, station.folder / "older.log", env=station.environment, warm=True).start()
    try:
        newer = start_worker(station, MODULE, "newer")
        newer.wait_for_log("oracle migrate")
        before = run(station)
        assert recorded(station) == 0
    finally:
        older_sidecar.stop()
    station.start_sidecar()  # which migrates
    station.wait_for(before, "completed")
    newer.stop()

    lock_out(station, schema.REQUIRED_VERSION - 1)  # as a migration does that older code can live with
    older = start_worker(station, OLDER, "older")
    during = run(station)
    station.wait_for(during, "completed")
    older.stop()

    lock_out(station, schema.REQUIRED_VERSION)
    older = start_worker(station, OLDER, "older")
    older.wait_for_log("needs")
    after = run(station)
    older.stop()
    station.wait_for(after, "completed")  # by whoever is of this version on this machine: here who sent it


def recorded(station: Station) -> int:
    with psycopg.connect(station.database) as connection:
        row = connection.execute("SELECT count(*) FROM oracle.task_state_record").fetchone()
    assert row is not None
    return int(row[0])


def lock_out(station: Station, oldest: int) -> None:
    """The oldest version that may write from now on."""
    with psycopg.connect(station.database, autocommit=True) as connection:
        connection.execute("UPDATE oracle.schema_version SET compatible_with = %s", [oldest])
