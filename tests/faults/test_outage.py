"""PostgreSQL is away for long while tasks keep coming: they notice nothing, the worker does not grow, all is caught up.

What tasks noticed is told by the tasks: each writes down when it started. The figures are printed; what is asserted
about time and memory is what would be a fault on any machine.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from pathlib import Path

import aiohttp
import psycopg
import pytest
from psycopg_pool.base import AttemptWithBackoff

from oracle_celery.database import schema
from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from tests.acceptance.station import Station
from tests.faults.scale import is_full, scaled
from tests.faults.stamps import Stamps
from tests.local_processes import LocalWorker
from tests.postgresql_fixtures import PostgresServer
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client
from tests.tokens import TOKEN_SETTINGS

#: Seconds before, and of, the outage.
STEADY_SECONDS = scaled(3, 30)
OUTAGE_SECONDS = scaled(6, 600)
#: Seconds between two tasks.
SEND_SECONDS = 0.02 if is_full() else 0.06
#: Tasks of which a median is taken, at least, before and during the outage.
LEAST_TASKS = 20
#: Bytes by which the worker's main process may grow.
GROWTH_LIMIT = 32 * 1024 * 1024
#: Seconds in which all must be caught up: of the long form's 30,000 tasks on a quiet machine.
CATCH_UP_SECONDS = scaled(60, 30)
#: Seconds by which the slowest hundredth of the tasks may start later; one that waited for PostgreSQL would be over it.
DELAY_LIMIT = 3.0
#: The same for half of them. The short form's slowest hundredth is one task, which a busy machine may keep waiting.
MEDIAN_LIMIT = 1.5

#: How long the sidecar's database is away in the long form, which a pool's growing pauses must be seen in; and seconds
#: within which the sidecar serves everybody again.
AWAY_SECONDS = scaled(0, 40)
BACK_SECONDS = scaled(40, 20)
#: What the short form has for the first of a pool's pauses, as if it had tried in vain for ten minutes already.
LONG_PAUSE_SECONDS = 600.0

pytestmark = pytest.mark.timeout(OUTAGE_SECONDS + STEADY_SECONDS + 180)


def test_nobody_notices_a_long_outage(station: Station, private_postgres: PostgresServer) -> None:
    """0 failed and 0 delayed tasks; every final status is right afterwards."""
    worker = station.start_worker(concurrency=2)
    load = Load(station)
    load.start()
    time.sleep(STEADY_SECONDS)
    station.poll(lambda: len(load.stamps.started()) >= LEAST_TASKS, "the worker is at work")
    memory = _resident(worker)
    began = time.time()
    already = len(load.sent)
    private_postgres.kill()
    time.sleep(OUTAGE_SECONDS)
    station.poll(lambda: len(load.sent) > already + LEAST_TASKS, "tasks are sent meanwhile")
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
    medians = [statistics.median(some) for some in (before, during)]
    print(
        f"{len(during)} tasks in {ended - began:.0f} s without PostgreSQL: the start's p99 {p99[0]:.1f} ms before and"
        f" {p99[1]:.1f} ms during it, main process {growth / 1024 / 1024:+.1f} MB, caught up {caught_up:.1f} s after"
    )
    with psycopg.connect(station.database) as connection:
        statuses = connection.execute(
            "SELECT oracle.status_word(status), count(*) FROM oracle.task_state_record GROUP BY 1"
        ).fetchall()
    assert statuses == [("completed", len(ids))]
    assert medians[1] - medians[0] < MEDIAN_LIMIT
    if is_full():
        assert p99[1] - p99[0] < DELAY_LIMIT * 1000
    assert growth < GROWTH_LIMIT


async def test_a_sidecar_is_back_soon_after_its_database(
    private_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it was away: pages and streams are served again within seconds, by the pools they had before."""
    if not is_full():
        monkeypatch.setattr(AttemptWithBackoff, "INITIAL_DELAY", LONG_PAUSE_SECONDS)
    with psycopg.connect(private_postgres.dsn(), autocommit=True) as connection:
        schema.migrate(connection)
    sidecar = Sidecar(Settings.from_mapping({"oracle_url": private_postgres.dsn(), **TOKEN_SETTINGS}), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, sidecar.address)

            async def answers(status: int, within: float) -> None:
                async with asyncio.timeout(within):
                    for path in ("/api/tasks", "/readyz"):
                        while (await client.get(path))[0] != status:
                            await asyncio.sleep(0.1)

            await answers(200, DEADLINE_SECONDS)
            await asyncio.to_thread(private_postgres.kill)
            await answers(503, DEADLINE_SECONDS)
            await asyncio.sleep(AWAY_SECONDS)
            await asyncio.to_thread(private_postgres.start)
            began = time.monotonic()
            await answers(200, BACK_SECONDS)
            print(f"The sidecar was back {time.monotonic() - began:.1f} s after its database")
    finally:
        await sidecar.stop()


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
