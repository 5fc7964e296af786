"""Many recorders into one PostgreSQL whose commit takes 2 ms, as on a network's disk: rate and latency of both settings
of `oracle_notify`.

Each recorder is a connection of its own. With a rate it does as a real one does: every 50 ms, or as soon as its last
batch is in where that took longer, it hands over all facts that have come in since. Without one it hands over batches
of one size without a pause, for the most that the server takes. Latency is from a batch's first fact to its known
commit, and to its first notification being heard by a client. The 2 ms are PostgreSQL's own ``commit_delay``: the
process that writes the log for all that wait sleeps first. That is the kind side of a slow disk: who comes while it
sleeps still goes with it.

``python -m tests.benchmarks.recorders <database url> <recorders> <facts> <rate> <setting> <seconds>`` is one process of
them: it prints, as JSON, a list of [first task's id, facts, monotonic ns of the first fact, of the known commit].
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
#: Seconds from one batch to the next of a recorder that has little to tell.
INTERVAL = 0.05
SECONDS = {False: 4.0, True: 10.0}  # by whether it is the full form
ROUNDS = {False: 1, True: 3}
#: Of a process's time, before it counts and after.
WARM_UP = 0.25


class Load(NamedTuple):
    """What each recorder does; one of both is 0."""

    name: str
    facts: int  # of one batch
    rate: int  # facts a second


LOADS = (
    Load("20 facts a second each", 0, 20),
    Load("100 facts a second each", 0, 100),
    Load("one fact at a time", 1, 0),
    Load("100 facts at a time", 100, 0),
)


class Batch(NamedTuple):
    first_task: str
    facts: int
    began: int  # ns, its first fact
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
    options = [str(RECORDERS // PROCESSES), str(load.facts), str(load.rate), setting, str(seconds)]
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
    begin, end = min(batch.began for batch in batches), max(batch.committed for batch in batches)
    margin = int((end - begin) * WARM_UP)
    counted = [batch for batch in batches if begin + margin <= batch.committed <= end - margin]
    return (
        sum(batch.facts for batch in counted) / ((end - begin - 2 * margin) / 1e9),
        [(batch.committed - batch.began) / 1e6 for batch in counted],
        [(heard[batch.first_task] - batch.began) / 1e6 for batch in counted],
    )


class _Said(msgspec.Struct):
    task_id: str


def _hear(connection: psycopg.Connection, heard: dict[str, int], is_over: threading.Event) -> None:
    """When each task was first heard of."""
    said = msgspec.json.Decoder(_Said).decode
    while not is_over.is_set():
        for notification in connection.notifies(timeout=0.1):
            heard.setdefault(said(notification.payload).task_id, time.monotonic_ns())


def _record(dsn: str, recorders: int, load: Load, setting: str, seconds: float) -> list[Batch]:
    """All recorders of one process, each in a thread."""
    batches: list[Batch] = []
    begin = time.monotonic() + 1.0  # all are connected
    threads = [
        threading.Thread(target=_recorder, args=(dsn, load, setting, begin, begin + seconds, batches))
        for _ in range(recorders)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return batches


def _recorder(dsn: str, load: Load, setting: str, begin: float, end: float, batches: list[Batch]) -> None:
    store = Store(dsn)
    store.connect()
    source = Source("worker@bench")
    begin += random.uniform(0.0, INTERVAL)
    time.sleep(max(0.0, begin - time.monotonic()))
    told = 0
    while (now := time.monotonic()) < end:
        count, first = (
            (int((now - begin) * load.rate) - told, begin + told / load.rate) if load.rate else (load.facts, now)
        )
        if count:
            first_task = str(uuid.uuid4())
            store.ingest([source.slice(_facts(first_task, count))], setting)
            batches.append(Batch(first_task, count, int(first * 1e9), time.monotonic_ns()))
            told += count
        if load.rate:
            time.sleep(max(0.0, now + INTERVAL - time.monotonic()))
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
    url, number, size, rate, notify, duration = sys.argv[1:]
    print(json.dumps(_record(url, int(number), Load("", int(size), int(rate)), notify, float(duration))))
