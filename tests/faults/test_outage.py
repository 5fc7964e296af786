"""PostgreSQL is away for long while tasks keep coming: they notice nothing, the worker does not grow, all is caught up.

What tasks noticed is told by the tasks: each writes down when it started. The figures are printed; what is asserted
about time and memory is what would be a fault on any machine.
"""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.station import Station
from tests.faults.scale import is_full, scaled
from tests.faults.stamps import Stamps
from tests.local_processes import LocalWorker
from tests.postgresql_fixtures import PostgresServer

#: Seconds before, and of, the outage.
STEADY_SECONDS = scaled(3, 30)
OUTAGE_SECONDS = scaled(6, 600)
#: Seconds between two tasks.
SEND_SECONDS = 0.02 if is_full() else 0.06
#: Bytes by which the worker's main process may grow.
GROWTH_LIMIT = 32 * 1024 * 1024
#: Seconds in which all must be caught up: of the long form's 30,000 tasks on a quiet machine.
CATCH_UP_SECONDS = scaled(60, 30)
#: Seconds by which the slowest hundredth of the tasks may start later; one that waited for PostgreSQL would be over it.
DELAY_LIMIT = 3.0

pytestmark = pytest.mark.timeout(OUTAGE_SECONDS + STEADY_SECONDS + 180)


def test_nobody_notices_a_long_outage(station: Station, private_postgres: PostgresServer) -> None:
    """0 failed and 0 delayed tasks; every final status is right afterwards."""
    worker = station.start_worker(concurrency=2)
    load = Load(station)
    load.start()
    time.sleep(STEADY_SECONDS)
    memory = _resident(worker)
    began = time.time()
    private_postgres.kill()
    time.sleep(OUTAGE_SECONDS)
    ended = time.time()
    growth = _resident(worker) - memory
    private_postgres.start()
    back = time.monotonic()
    load.stop()
    station.app.oracle.stop()
    ids = set(load.sent)
    station.poll(lambda: load.stamps.ended() >= ids, "every task has run")
    station.poll(lambda: _final(station) >= len(ids), "every final status is there", timeout=CATCH_UP_SECONDS)
    caught_up = time.monotonic() - back
    delays = {task_id: at - load.sent[task_id] for task_id, at in load.stamps.started().items()}
    before = [delay for task_id, delay in delays.items() if load.sent[task_id] < began]
    during = [delay for task_id, delay in delays.items() if began <= load.sent[task_id] < ended]
    p99 = [statistics.quantiles(some, n=100)[98] * 1000 for some in (before, during)]
    print(
        f"{len(during)} tasks in {ended - began:.0f} s without PostgreSQL: the start's p99 {p99[0]:.1f} ms before and"
        f" {p99[1]:.1f} ms during it, main process {growth / 1024 / 1024:+.1f} MB, caught up {caught_up:.1f} s after"
    )
    with psycopg.connect(station.database) as connection:
        statuses = connection.execute(
            "SELECT oracle.status_word(status), count(*) FROM oracle.task_state_record GROUP BY 1"
        ).fetchall()
    assert statuses == [("completed", len(ids))]
    assert p99[1] - p99[0] < DELAY_LIMIT * 1000
    assert growth < GROWTH_LIMIT


class Load(threading.Thread):
    """Sends at a steady rate until it is stopped."""

    def __init__(self, station: Station) -> None:
        super().__init__(name="load", daemon=True)
        self.stamps = Stamps(Path(station.folder, "stamps"))
        #: When each task was sent, in seconds since the epoch.
        self.sent: dict[str, float] = {}
        self._station = station
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(SEND_SECONDS):
            at = time.time()
            self.sent[self._station.send("stamp", str(self.stamps.path), ignore_result=True)] = at

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def _resident(worker: LocalWorker) -> int:
    """Bytes of the main process."""
    pages = int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1])
    return pages * 4096


def _final(station: Station) -> int:
    try:
        with psycopg.connect(station.database) as connection:
            row = connection.execute("SELECT count(*) FROM oracle.task_state_record WHERE status > 1").fetchone()
    except psycopg.OperationalError:
        return 0
    return row[0] if row else 0
