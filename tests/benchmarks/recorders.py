"""Many recorders into one PostgreSQL whose commit takes 2 ms, as on a network's disk: rate and latency of both settings
of `oracle_notify`.

Each recorder is a connection of its own that hands over one small batch after another, or one every 50 ms as a real one
does where little happens. Latency is from handing a batch over to its commit being known, and to its first notification
being heard by a client. The commit's 2 ms are PostgreSQL's own ``commit_delay``: the process that writes the log for
all that wait sleeps first. That is the kind side of a slow disk: who comes while it sleeps still goes with it.

``python -m tests.benchmarks.recorders <database url> <recorders> <facts> <setting> <pause> <seconds>`` is one process
of them: it prints, as JSON, a list of [first task's id, monotonic ns of handing over, of the known commit].
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import threading
import time
import uuid
from typing import NamedTuple

import msgspec
import psycopg

from oracle_celery.database.store import Store
from oracle_celery.records import Transition
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import POSTGRESQL_SETTINGS, Ground
from tests.ledger import Source, completed, sent, started
from tests.postgresql_fixtures import DatabaseServer, PostgresServer

__all__ = ["measure"]

FLUSH_SETTINGS = {"commit_delay": "2000", "commit_siblings": "0", "max_connections": "100"}  # µs
RECORDERS = 50
PROCESSES = 2
SETTINGS = ("transactional", "after_commit")
#: Seconds between two batches of a recorder that has little to tell.
INTERVAL = 0.05
SECONDS = {False: 4.0, True: 10.0}  # by whether it is the full form
ROUNDS = {False: 1, True: 3}
#: Of a process's time, before it counts and after.
WARM_UP = 0.25


class Load(NamedTuple):
    """What each recorder does."""

    name: str
    facts: int  # of one batch
    pause: float  # seconds from one batch to the next, at least


LOADS = (
    Load("one fact every 50 ms each", 1, INTERVAL),
    Load("10 facts every 50 ms each", 10, INTERVAL),
    Load("one fact at a time, without a pause", 1, 0.0),
    Load("10 facts at a time, without a pause", 10, 0.0),
    Load("100 facts at a time, without a pause", 100, 0.0),
)


class Batch(NamedTuple):
    first_task: str
    handed: int  # ns
    committed: int  # ns


def measure(ground: Ground) -> list[Figure]:
    """Rate, and p50 and p99 of both latencies, per load and setting."""
    server = PostgresServer(settings=POSTGRESQL_SETTINGS | FLUSH_SETTINGS)
    try:
        server.start()
        databases = DatabaseServer(server.dsn())
        return [
            figure for load in LOADS for setting in SETTINGS for figure in _figures(load, setting, ground, databases)
        ]
    finally:
        server.dispose()


def _figures(load: Load, setting: str, ground: Ground, databases: DatabaseServer) -> list[Figure]:
    rates: list[float] = []
    commits: list[list[float]] = []
    rings: list[list[float]] = []
    for _ in range(ROUNDS[ground.is_full]):
        rate, commit, ring = _run(load, setting, SECONDS[ground.is_full], databases)
        rates.append(rate)
        commits.append(commit)
        rings.append(ring)
    name = f"{load.name}, {setting}"
    return [
        Figure(name=name, unit="facts/s", samples=tuple(rates)),
        *(
            Figure(
                name=f"  {what}, p{percent}",
                unit="ms",
                samples=tuple(statistics.quantiles(samples, n=100)[percent - 1] for samples in found),
            )
            for what, found in (("to the commit", commits), ("to the notification", rings))
            for percent in (50, 99)
        ),
    ]


def _run(load: Load, setting: str, seconds: float, databases: DatabaseServer) -> tuple[float, list[float], list[float]]:
    """Facts a second, and milliseconds to commit and to notification."""
    dsn = databases.create()
    heard: dict[str, int] = {}
    is_over = threading.Event()
    connection = psycopg.connect(dsn, autocommit=True)
    connection.execute("LISTEN oracle_channel")
    listener = threading.Thread(target=_hear, args=(connection, heard, is_over))
    listener.start()
    options = [str(RECORDERS // PROCESSES), str(load.facts), setting, str(load.pause), str(seconds)]
    try:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.recorders", dsn, *options], stdout=subprocess.PIPE
            )
            for _ in range(PROCESSES)
        ]
        batches = [Batch(*told) for process in processes for told in json.loads(process.communicate()[0])]
    finally:
        time.sleep(0.2)  # the last notifications
        is_over.set()
        listener.join()
        connection.close()
        databases.drop(dsn)
    begin, end = min(batch.handed for batch in batches), max(batch.committed for batch in batches)
    margin = int((end - begin) * WARM_UP)
    counted = [batch for batch in batches if begin + margin <= batch.committed <= end - margin]
    return (
        load.facts * len(counted) / ((end - begin - 2 * margin) / 1e9),
        [(batch.committed - batch.handed) / 1e6 for batch in counted],
        [(heard[batch.first_task] - batch.handed) / 1e6 for batch in counted],
    )


class _Said(msgspec.Struct):
    task_id: str


def _hear(connection: psycopg.Connection, heard: dict[str, int], is_over: threading.Event) -> None:
    """When each task was first heard of."""
    said = msgspec.json.Decoder(_Said).decode
    while not is_over.is_set():
        for notification in connection.notifies(timeout=0.1):
            heard.setdefault(said(notification.payload).task_id, time.monotonic_ns())


def _record(dsn: str, recorders: int, facts: int, setting: str, pause: float, seconds: float) -> list[Batch]:
    """All recorders of one process, each in a thread."""
    batches: list[Batch] = []
    begin = time.monotonic() + 1.0  # all are connected
    threads = [
        threading.Thread(target=_recorder, args=(dsn, facts, setting, pause, begin, begin + seconds, batches))
        for _ in range(recorders)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return batches


def _recorder(dsn: str, facts: int, setting: str, pause: float, begin: float, end: float, batches: list[Batch]) -> None:
    store = Store(dsn)
    store.connect()
    source = Source("worker@bench")
    time.sleep(max(0.0, begin - time.monotonic()) + random.uniform(0.0, pause))
    while (began := time.monotonic()) < end:
        first_task = str(uuid.uuid4())
        slices = [source.slice(_facts(first_task, facts))]
        handed = time.monotonic_ns()
        store.ingest(slices, setting)
        batches.append(Batch(first_task, handed, time.monotonic_ns()))
        if pause:
            time.sleep(max(0.0, began + pause - time.monotonic()))
    store.close()


def _facts(first_task: str, count: int) -> list[Transition]:
    """Whole lives of three facts, as many as fit; then what has only been sent."""
    told: list[Transition] = []
    task_id = first_task
    while len(told) < count:
        at = len(told) * 10_000
        told += [
            sent(task_id, at),
            started(task_id, at + 2_000, at + 1_000),
            completed(task_id, at + 3_000, at + 1_000),
        ]
        task_id = str(uuid.uuid4())
    return told[:count]


if __name__ == "__main__":
    url, number, size, notify, interval, duration = sys.argv[1:]
    print(json.dumps(_record(url, int(number), int(size), notify, float(interval), float(duration))))
