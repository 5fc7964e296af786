"""A paused queue stays paused whatever is started again, under load: judged by the times that tasks wrote down."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.station import Station
from tests.broker_fixtures import RabbitServer, RedisServer
from tests.faults.scale import is_full, scaled
from tests.faults.stamps import Stamps
from tests.local_processes import LocalWorker

PAUSED, STEADY = "mail", "signals"
#: Restarts in all, of worker, broker and sidecar in random order.
RESTARTS = scaled(3, 20)
#: The bar is of a machine that does nothing else.
RESUME_SECONDS = scaled(60, 2)
#: What a supervisor gives a worker to end by itself.
SUPERVISOR_SECONDS = 8.0
#: Between two messages of the load, each time one to either queue.
SEND_SECONDS = 0.02 if is_full() else 0.05

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def station(own_broker: RabbitServer | RedisServer, database: str, tmp_path: Path) -> Iterator[Station]:
    """On a broker of its own; nothing runs yet."""
    station = Station(own_broker.new_url(), database, tmp_path)
    yield station
    station.stop()


class Load(threading.Thread):
    """Sends to both queues until it is stopped; a broker that is away is waited for."""

    def __init__(self, station: Station, stamps: Stamps) -> None:
        super().__init__(name="load", daemon=True)
        self.station = station
        self.stamps = stamps
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(SEND_SECONDS):
            for queue in (PAUSED, STEADY):
                try:
                    self.station.send("stamp", str(self.stamps.path), 0.001, queue=queue, retry=False)
                except Exception:  # the broker is away
                    self.stopping.wait(0.1)

    def stop(self) -> None:
        self.stopping.set()
        self.join(30)


def test_a_pause_outlives_every_restart(station: Station, own_broker: RabbitServer | RedisServer) -> None:
    """After the confirmation no task of the queue starts; the other queue never stops; a resume is heard in time."""
    seed = int(os.environ.get("ORACLE_SEED", time.time()))
    order = random.Random(seed)
    print(f"ORACLE_SEED={seed}")  # shown where the test fails
    stamps = Stamps(station.folder / "stamps")
    station.start_sidecar()
    worker = station.start_worker(queues=(PAUSED, STEADY), options=("--prefetch-multiplier", "8"))
    load = Load(station, stamps)
    load.start()
    station.poll(lambda: len(stamps.started(PAUSED)) > 20, "the queue is busy")

    station.app.oracle.pause(PAUSED, reason="storm")
    station.poll(
        lambda: _is_confirmed(station), "the worker has confirmed the pause"
    )  # the call waits for seconds only
    paused_at = time.time()

    kinds = ["worker", "broker", "sidecar"] * -(-RESTARTS // 3)
    order.shuffle(kinds)
    for number, kind in enumerate(kinds[:RESTARTS]):
        if kind == "broker":
            own_broker.restart()
        elif kind == "worker":
            if order.random() < 0.5:
                worker.kill()
            else:
                _stop_as_supervisors_do(worker)
            worker.start()
        else:
            assert station.sidecar is not None
            station.sidecar.kill()
            station.sidecar.start()
        before = time.time()
        station.poll(
            lambda since=before: _supervised(worker) and any(at > since for at in stamps.started(STEADY).values()),  # type: ignore[misc]
            f"the other queue goes on after restart {number} ({kind}, seed {seed})",
            timeout=60,
        )
    late = {task_id: at - paused_at for task_id, at in stamps.started(PAUSED).items() if at > paused_at}
    assert late == {}, f"tasks started after the confirmed pause (seed {seed})"

    resumed_at = time.time()
    station.app.oracle.resume(PAUSED)
    station.poll(lambda: any(at > resumed_at for at in stamps.started(PAUSED).values()), "the queue goes on")
    first = min(at for at in stamps.started(PAUSED).values() if at > resumed_at)
    assert first - resumed_at < RESUME_SECONDS
    load.stop()
    _stop_as_supervisors_do(worker)
    with psycopg.connect(station.database) as connection:
        entries = connection.execute("SELECT action, queues FROM oracle.audit_entry ORDER BY entry_id").fetchall()
    assert entries == [("pause", [PAUSED]), ("resume", [PAUSED])]


def _is_confirmed(station: Station) -> bool:
    with psycopg.connect(station.database) as connection:
        query = "SELECT state FROM oracle.pause_report WHERE queue = %s"
        return connection.execute(query, [PAUSED]).fetchall() == [("paused",)]


def _supervised(worker: LocalWorker) -> bool:
    """Starts a worker that has ended: some lose their broker in a way that Celery's client does not outlive."""
    if not worker.is_alive:
        worker.start()
    return True


def _stop_as_supervisors_do(worker: LocalWorker) -> None:
    """SIGTERM and, after a while, SIGKILL: a worker whose broker was restarted may hang in its warm shutdown, with
    Oracle and without."""
    worker.send_signal(signal.SIGTERM)
    try:
        worker.wait(SUPERVISOR_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
