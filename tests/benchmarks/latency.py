"""How old a fact is when it can be read, and when a browser has it: publish → committed row → client of the stream.

A producer in a process of its own publishes at a steady, moderate rate; its recorder carries the facts to PostgreSQL;
a real sidecar streams them. This process hears both ends: the notification, which PostgreSQL sends at the commit, and
the event of the stream. All read one monotonic clock. A task counts from just before it is published.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from oracle_celery.settings import Settings
from tests.benchmarks.bench_app import TaskCounter
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.local_processes import LocalSidecar
from tests.postgresql_fixtures import DatabaseServer
from tests.tokens import local_bearer

__all__ = ["measure"]

MODULE = "tests.benchmarks.bench_app"
#: Tasks published in a second, and for how many seconds.
RATE = 200
SECONDS = 10
#: Seconds at the start that do not count: the first message starts the producer's recorder.
WARM_UP_SECONDS = 1
#: Seconds until the last fact must have arrived everywhere.
ARRIVAL_LIMIT = 30.0
#: Seconds between two looks at whether all have.
POLL_SECONDS = 0.02

PRODUCER = f"""
import sys, time
from {MODULE} import app

task = app.tasks["bench.nothing"]
published = []
due = time.monotonic()
for number in range({RATE * SECONDS}):
    due += 1 / {RATE}
    time.sleep(max(0.0, due - time.monotonic()))
    task_id = f"latency-{{number}}"
    published.append((task_id, time.monotonic_ns()))
    task.apply_async((number,), task_id=task_id)
app.oracle.stop()
for task_id, at in published:
    print(task_id, at)
"""


def measure(ground: Ground) -> list[Figure]:
    """From the publishing of a task to its row and to a client."""
    rounds = [_measure(ground.databases) for _ in range(5 if ground.is_full else 1)]
    return [
        Figure(name=f"{name} {percentile}", unit="ms", samples=tuple(found[name][percentile] for found in rounds))
        for name in rounds[0]
        for percentile in ("p50", "p99")
    ]


def _measure(databases: DatabaseServer) -> dict[str, dict[str, float]]:
    """Milliseconds, p50 and p99."""
    folder = Path(tempfile.mkdtemp(prefix="oracle-bench-"))
    database = databases.create()
    environment = _environment(folder, database)
    sidecar = LocalSidecar(MODULE, folder / "sidecar.log", env=environment)
    try:
        sidecar.start()
        row, client = Arrivals(), Arrivals()
        row.listen(lambda: _notified(database))
        client.listen(lambda: _streamed(sidecar.port, folder))
        published = _publish(environment)
        row.wait_for(set(published))
        client.wait_for(set(published))
    finally:
        sidecar.stop()
        databases.drop(database)
        shutil.rmtree(folder, ignore_errors=True)
    counted = dict(list(published.items())[RATE * WARM_UP_SECONDS :])
    return {
        name: _milliseconds(counted, arrivals.times)
        for name, arrivals in (("publish → row", row), ("publish → client", client))
    }


class Arrivals:
    """When each task was first heard of, in ns of the monotonic clock; filled by a thread."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}
        self._ready = threading.Event()

    def listen(self, hear: Callable[[], Iterator[str | None]]) -> None:
        """Returns when it hears: `hear` yields None for that, then ids."""
        threading.Thread(target=self._run, args=(hear,), daemon=True).start()
        assert self._ready.wait(ARRIVAL_LIMIT), "nothing can be heard"

    def wait_for(self, task_ids: set[str]) -> None:
        deadline = time.monotonic() + ARRIVAL_LIMIT
        while missing := task_ids - self.times.keys():
            assert time.monotonic() < deadline, f"{len(missing)} of {len(task_ids)} tasks have not arrived"
            time.sleep(POLL_SECONDS)

    def _run(self, hear: Callable[[], Iterator[str | None]]) -> None:
        try:
            for task_id in hear():
                if task_id is None:
                    self._ready.set()
                else:
                    self.times.setdefault(task_id, time.monotonic_ns())
        except (OSError, http.client.HTTPException, psycopg.OperationalError):
            return  # the measurement is over, or `wait_for` will say what is missing


def _notified(database: str) -> Iterator[str | None]:
    """Until the database is dropped."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("LISTEN oracle_channel")
        yield None
        for notification in connection.notifies():
            yield json.loads(notification.payload).get("task_id")


def _streamed(port: int, folder: Path) -> Iterator[str | None]:
    settings = Settings.from_mapping({"oracle_state_dir": str(folder / "state")}, app_name="bench")
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/api/tasks/subscribe", headers=local_bearer(settings))
    with connection.getresponse() as answer:
        assert answer.status == http.HTTPStatus.OK, answer.read()
        event = b""
        for line in answer:
            if line.startswith(b"event: summary"):
                yield None  # the first thing that a live stream says
            if line.startswith(b"event: "):
                event = line.strip()
            elif line.startswith(b"data: ") and event == b"event: task":
                yield json.loads(line[len(b"data: ") :])["task_id"]


def _publish(environment: dict[str, str]) -> dict[str, int]:
    """When each task was published."""
    done = subprocess.run(
        [sys.executable, "-c", PRODUCER], env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return {task_id: int(at) for task_id, at in (line.split() for line in done.stdout.splitlines())}


def _environment(folder: Path, database: str) -> dict[str, str]:
    """Of the app: nobody takes the messages, so they stay in the producer's memory."""
    counter = TaskCounter(folder / "counter")
    counter.reset()
    return {
        "BENCH_VARIANT": "oracle",
        "BENCH_BROKER_URL": "memory://",
        "BENCH_QUEUE": "latency",
        "BENCH_DATABASE_URL": database,
        "BENCH_STATE_DIR": str(folder / "state"),
        "BENCH_COUNTER": str(counter.path),
    }


def _milliseconds(published: dict[str, int], arrived: dict[str, int]) -> dict[str, float]:
    taken = [(arrived[task_id] - at) / 1e6 for task_id, at in published.items()]
    percentiles = statistics.quantiles(taken, n=100)
    return {"p50": percentiles[49], "p99": percentiles[98]}
