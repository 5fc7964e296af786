"""A whole Oracle behind a real pgbouncer in transaction mode: worker, producer, sidecar and commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import scaling_page
from tests.acceptance.station import Station
from tests.pgbouncer_fixtures import POOL_SIZE, Pgbouncer


@pytest.fixture
def station(rabbitmq_url: str, database: str, pgbouncer: Pgbouncer, tmp_path: Path) -> Iterator[Station]:
    """docs/scaling.md's configuration: `oracle_url` through the pooler, `oracle_listen_url` past it."""
    settings = scaling_page.settings("pgbouncer", pooler=pgbouncer.address(database), db1=database)
    station = Station(rabbitmq_url, settings["oracle_url"], tmp_path)
    station.environment["SIGNALS_SETTINGS"] = json.dumps(settings)
    yield station
    station.stop()


def test_everything_works_behind_it(station: Station, database: str, pgbouncer: Pgbouncer) -> None:
    """Facts, log lines, kept messages and their retry, pause and resume, cancel, `app.oracle` and the live stream; and
    the pooler's connections are as if Oracle had never been there."""
    station.start_sidecar()
    station.start_worker(concurrency=2)
    station.poll(lambda: station.get("/readyz")["listener"] == "hearing", "the sidecar hears")
    with station.stream() as events:
        good = station.send("succeed", 1)
        assert next(data for event, data, _ in events if event == "task")["task_id"] == good
    station.wait_for(good, "completed")

    bad = station.send("fail")
    station.wait_for(bad, "failed")
    station.poll(lambda: _has(database, "task_message", task_id=bad), "its message is kept")
    status, again = station.ask("POST", f"/api/tasks/{bad}/retry", {})
    assert status == 201, again
    station.wait_for(again["new_task_id"], "failed")

    assert station.ask("POST", "/api/admin/queue/pause", {"queue": "signals"})[0] < 300
    station.poll(lambda: _has(database, "pause_report", queue="signals", state="paused"), "the pause is confirmed")
    waiting = station.send("succeed", 2)
    station.wait_for(waiting, "pending")
    assert station.ask("DELETE", f"/api/tasks/{waiting}")[0] < 300
    station.wait_for(waiting, "cancelled")
    last = station.send("succeed", 3)
    assert station.ask("POST", "/api/admin/queue/resume", {"queue": "signals"})[0] < 300
    station.wait_for(last, "completed")

    assert {task.task_id for task in station.app.oracle.tasks(status="completed").tasks} == {good, last}
    assert pgbouncer.leftovers(database) == [("0", [], 0)] * POOL_SIZE


def _has(database: str, table: str, **wanted: str) -> bool:
    where = " AND ".join(f"{column} = %({column})s" for column in wanted)
    with psycopg.connect(database) as connection:
        query = f"SELECT count(*) FROM oracle.{table} WHERE {where}"
        [(rows,)] = connection.execute(query, wanted).fetchall()  # type: ignore[arg-type]
    return bool(rows)
