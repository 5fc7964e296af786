"""A message that its broker gives out again while the first run is under way: two runs, and both are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest

from tests.acceptance.station import Station
from tests.broker_fixtures import RabbitServer
from tests.faults.scale import is_full
from tests.faults.stamps import Stamps

#: Which can run it twice at once. Before Celery 5.7 its prefork pool does not begin what comes again after a lost
#: connection while the first run goes on; a worker without Oracle does the same.
POOLS = {"rabbitmq": "prefork" if celery.VERSION >= (5, 7) else "threads", "redis": "gevent"}
#: Seconds after which Redis gives a message to somebody else: its client looks after every tenth poll, which is every
#: ten seconds without an event loop and much later with one.
VISIBILITY = 1
#: Seconds that a run waits for its end, which the test tells: beyond all patience of the test's.
RUN_SECONDS = 600.0
BROKERS = ["rabbitmq", "redis"] if is_full() else ["rabbitmq"]


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def station(broker: str, request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[Station]:
    """With a sidecar and a worker that can run a task twice at once."""
    station = Station(request.getfixturevalue(f"{broker}_url"), database, tmp_path)
    if broker == "redis":
        station.environment["SIGNALS_SETTINGS"] = json.dumps(
            {"broker_transport_options": {"visibility_timeout": VISIBILITY}}
        )
    station.start_sidecar()
    station.start_worker(concurrency=2, pool=POOLS[broker])
    yield station
    station.stop()


def test_a_task_that_runs_twice_at_once(station: Station, broker: str, request: pytest.FixtureRequest) -> None:
    """Its connection is lost, or its time is up: the history has both runs, the later one as delivered again, begun
    before the earlier one has ended, and the page's attempts are told from exactly that (test_attempts.py)."""
    stamps = Stamps(station.folder / "stamps")
    may_end = Path(station.witness("may end"))
    task_id = station.send("stamp_late", str(stamps.path), RUN_SECONDS, str(may_end))
    station.poll(lambda: task_id in stamps.started(), "it runs")
    if broker == "rabbitmq":
        server: RabbitServer = request.getfixturevalue("rabbitmq_server")
        server.close_connections()
    station.poll(lambda: _events(stamps).count("started") > 1, "it has begun again")
    assert "ended" not in _events(stamps), "the first run was over: nothing is proven"
    may_end.touch()
    station.poll(
        lambda: len(_ends(station, task_id)) >= _events(stamps).count("started"),
        "the end of each run is told",
        lambda: station.detail(task_id),
    )

    detail = station.detail(task_id)
    history = detail["history"]
    runs = {entry["run_id"]: entry["at"] for entry in reversed(history) if entry["status"] == "in_progress"}
    first, second = sorted(runs, key=lambda run: runs[run])[:2]
    assert detail["task"]["status"] == "completed"
    assert "redelivered" in [entry["reason"] for entry in history if entry["run_id"] == second]
    assert "redelivered" not in [entry["reason"] for entry in history if entry["run_id"] == first]
    [end] = [entry["at"] for entry in history if entry["run_id"] == first and entry["status"] == "completed"]
    assert runs[first] < runs[second] < end


def _events(stamps: Stamps) -> list[str]:
    return [stamp.event for stamp in stamps.read()]


def _ends(station: Station, task_id: str) -> list[Any]:
    return [entry for entry in station.detail(task_id).get("history", []) if entry["status"] == "completed"]
