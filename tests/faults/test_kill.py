"""Something is killed while thousands of tasks run, and comes back: every status is right, and nothing is lost."""

from __future__ import annotations

import os
import signal

import psycopg
import pytest

from tests.acceptance.station import Station
from tests.faults.browser import Browser
from tests.faults.scale import scaled
from tests.faults.witness import Crowd
from tests.postgresql_fixtures import PostgresServer

TASKS = scaled(800, 5_000)
CONCURRENCY = 2
#: Kills of pool children in the one test that makes several.
KILLED_CHILDREN = 3

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def crowd(station: Station) -> Crowd:
    """The tasks, with a worker and a sidecar to watch them."""
    station.start_sidecar()
    station.start_worker(concurrency=CONCURRENCY, name="steady")
    return Crowd(station, TASKS)


def test_pool_children_killed(station: Station, crowd: Crowd) -> None:
    """Only what ran in a killed child is lost, and it is said to be."""
    crowd.start()
    for number in range(1, KILLED_CHILDREN + 1):
        crowd.wait_for_done(number * TASKS // 5)
        os.kill(station.workers[0].pool_children()[0], signal.SIGKILL)
    crowd.check(crowd.settle(), may_lose=KILLED_CHILDREN, reasons={"process_lost"})


def test_worker_killed(station: Station, crowd: Crowd) -> None:
    """What was running is given up after its beats are missing; the broker delivers the rest again."""
    crowd.start()
    crowd.wait_for_done(TASKS // 3)
    worker = station.workers[0]
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    worker.start()
    settled = crowd.settle(may_vanish=CONCURRENCY)
    crowd.check(settled, may_lose=CONCURRENCY, reasons={"worker_lost"}, may_vanish=CONCURRENCY)


def test_postgresql_killed(station: Station, crowd: Crowd, private_postgres: PostgresServer) -> None:
    """Tasks go on while it is away, and everything arrives when it is back."""
    crowd.start()
    crowd.wait_for_done(TASKS // 4)
    private_postgres.kill()
    crowd.wait_for_done(TASKS // 2)
    private_postgres.start()
    crowd.check(crowd.settle(), may_lose=0, reasons=set())


def test_sidecar_killed(station: Station, crowd: Crowd) -> None:
    """A browser that reconnects with its last event id has seen every transition once, in spite of the gap."""
    sidecar = station.sidecar
    assert sidecar is not None
    browser = Browser(station)
    browser.start()
    crowd.start()
    for share in (4, 2):
        crowd.wait_for_done(TASKS // share)
        sidecar.kill()
        sidecar.start()
    settled = crowd.settle()
    crowd.check(settled, may_lose=0, reasons=set())
    with psycopg.connect(station.database) as connection:
        rows = connection.execute("SELECT history_id FROM oracle.task_transition").fetchall()
    history = {history_id for (history_id,) in rows}
    station.poll(lambda: browser.seen() >= history, "the browser has seen the whole history")
    browser.stop()
    assert browser.resyncs == 0
    assert browser.seen() == history
    assert browser.repeated == 0
