"""What a month of tasks costs: each read of the page, ingest beside that of an empty database, the sidecar's memory,
and retention while facts come in.

Both databases are of one server, so what is compared shares the machine. `python -m tests.benchmarks.size --tasks N`
measures any size; 10 million tasks take 20 GB of disk and half an hour on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from oracle_celery.database.cursor import Cursor, Snapshot
from oracle_celery.database.horizon import Marks
from oracle_celery.database.retention import DAY, Windows
from oracle_celery.database.sql import statement
from oracle_celery.database.upkeep import Upkeep
from tests.benchmarks.figure import Comparison, Figure, told
from tests.benchmarks.ground import Ground
from tests.benchmarks.many_days import DAYS, add_day, clear, finish
from tests.benchmarks.many_tasks import facts
from tests.benchmarks.reads import measure_reads
from tests.benchmarks.stage import proportional_bytes
from tests.factories import Feeder
from tests.local_processes import LocalSidecar
from tests.postgresql_fixtures import DatabaseServer, PostgresServer
from tests.tokens import token

__all__ = ["fill", "measure", "measured"]

TASKS = (60_000, 10_000_000)
READ_MILLISECONDS_TARGET = 50.0
INGEST_TARGET = 0.9
#: Of ingest: facts of a batch, batches of a round, rounds on each database in turn.
BATCH = 200
BATCHES = 40
ROUNDS = 6
#: Of the sidecar's memory: requests before it is looked at, and how much more a full database may take.
REQUESTS = 150
MEMORY_TARGET = 1.1
#: Batches a second while retention works, and seconds for which it is watched without.
WATCHED_RATE = 10.0
WATCHED_SECONDS = 5.0
NOTHING_GOES = Windows(**dict.fromkeys(Windows.__struct_fields__))
SERVER_SETTINGS = {
    "max_wal_size": "'16GB'",
    "shared_buffers": "'4GB'",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


def measure(ground: Ground) -> list[Figure]:
    """On a server of its own: it needs memory, and its data goes with it."""
    return _measured_alone(TASKS[ground.is_full])


def fill(dsn: str, tasks: int) -> None:
    """A month up to now."""
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    with psycopg.connect(dsn, autocommit=True) as connection:
        definitions = clear(connection)
        for number in range(DAYS):
            day = today - timedelta(days=DAYS - 1 - number)
            is_last = number == DAYS - 1
            add_day(connection, day, now if is_last else day + timedelta(days=1), tasks // DAYS, is_last=is_last)
        finish(connection, definitions)


def measured(full: str, empty: str) -> list[Figure]:
    """Of a database that `fill` has filled, which loses its first days, and of one that is empty."""
    reads = [_read_figure(name, samples) for name, samples in measure_reads(full).items()]
    return [*reads, *_ingest(full, empty), *_memory(full, empty), *_retention(full)]


def _measured_alone(tasks: int) -> list[Figure]:
    server = PostgresServer(settings=SERVER_SETTINGS)
    try:
        server.start()
        databases = DatabaseServer(server.dsn())
        full, empty = databases.create(), databases.create()
        fill(full, tasks)
        return measured(full, empty)
    finally:
        server.dispose()


def _read_figure(name: str, samples: list[float]) -> Figure:
    """p99 counts; of thirty samples that is the largest."""
    largest = sorted(samples)[int(len(samples) * 0.99)]
    note = f"median {statistics.median(samples):.1f} ms"
    return Figure(name=name, unit="ms, p99", samples=(largest,), target=READ_MILLISECONDS_TARGET, note=note)


# -- ingest -----------------------------------------------------------------------------------------------------------


def _ingest(full: str, empty: str) -> list[Figure]:
    """Facts a second that one recorder's batches reach, round by round on the one and the other; each task has three
    facts, which fall into different batches."""
    rates: dict[str, list[float]] = {"full": [], "empty": []}
    with Feeder(full) as into_full, Feeder(empty) as into_empty:
        feeders = {"full": (into_full, facts()), "empty": (into_empty, facts())}
        for feeder, told_facts in feeders.values():
            feeder.tell(*islice(told_facts, BATCH))
        for round_number in range(ROUNDS):
            for name in sorted(feeders, reverse=bool(round_number % 2)):
                feeder, told_facts = feeders[name]
                began = time.perf_counter()
                for _ in range(BATCHES):
                    feeder.tell(*islice(told_facts, BATCH))
                rates[name].append(BATCHES * BATCH / (time.perf_counter() - began))
    ratios = tuple(one / other for one, other in zip(rates["full"], rates["empty"], strict=True))
    return [
        Figure(name="ingest, full", unit="facts/s", samples=tuple(rates["full"])),
        Figure(name="ingest, empty", unit="facts/s", samples=tuple(rates["empty"])),
        Figure(
            name="ingest, full to empty",
            unit="ratio",
            samples=ratios,
            target=INGEST_TARGET,
            comparison=Comparison.AT_LEAST,
        ),
    ]


# -- the sidecar's memory ---------------------------------------------------------------------------------------------


def _memory(full: str, empty: str) -> list[Figure]:
    sizes = {name: _sidecar_bytes(dsn) / 1e6 for name, dsn in (("empty", empty), ("full", full))}
    return [
        Figure(name="sidecar's memory, empty", unit="MB", samples=(sizes["empty"],)),
        Figure(name="sidecar's memory, full", unit="MB", samples=(sizes["full"],)),
        Figure(
            name="sidecar's memory, full to empty",
            unit="ratio",
            samples=(sizes["full"] / sizes["empty"],),
            target=MEMORY_TARGET,
        ),
    ]


def _sidecar_bytes(dsn: str) -> int:
    """After it has answered for a while, and folded what there was to fold."""
    folder = Path(tempfile.mkdtemp(prefix="oracle-bench-"))
    environment = {"BENCH_DATABASE_URL": dsn, "BENCH_STATE_DIR": str(folder / "state")}
    sidecar = LocalSidecar("tests.benchmarks.stream_app", folder / "sidecar.log", env=environment)
    try:
        sidecar.start()
        headers = {"Authorization": f"Bearer {token('root', 'admin', 3_600.0)}"}
        for number in range(REQUESTS):
            path = ("tasks?limit=200", "summary", "statistics?range=30d", "task-types", "failures")[number % 5]
            request = urllib.request.Request(f"{sidecar.url}/api/{path}", headers=headers)  # our own
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()
        return proportional_bytes(sidecar.pid)
    finally:
        sidecar.stop()
        shutil.rmtree(folder, ignore_errors=True)


# -- retention --------------------------------------------------------------------------------------------------------


class Watch:
    """Tells a batch ten times a second, in a thread, and how long each took in milliseconds."""

    def __init__(self, dsn: str) -> None:
        self.milliseconds: list[float] = []
        self._dsn = dsn
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        told_facts = facts()
        with Feeder(self._dsn) as feeder:
            while not self._ends.wait(1 / WATCHED_RATE):
                batch = list(islice(told_facts, BATCH))
                began = time.perf_counter()
                feeder.tell(*batch)
                self.milliseconds.append((time.perf_counter() - began) * 1000)

    def taken(self) -> list[float]:
        found, self.milliseconds = self.milliseconds, []
        return found

    @classmethod
    @contextmanager
    def of(cls, dsn: str) -> Iterator[Watch]:
        watch = cls(dsn)
        watch._thread.start()
        try:
            yield watch
        finally:
            watch._ends.set()
            watch._thread.join()


def _retention(full: str) -> list[Figure]:
    """The first day goes: its partition, then its tasks; a batch that comes in meanwhile waits how long?"""
    asyncio.run(_folded(full))
    figures = []
    with Watch.of(full) as watch:
        time.sleep(WATCHED_SECONDS)
        figures += _latencies("batch, nothing goes", watch.taken())
        days = {"a partition goes": {"history": DAYS - 2.0}, "a day's tasks go": {"completed": DAYS - 1.5}}
        for name, kinds in days.items():
            windows = msgspec.structs.replace(NOTHING_GOES, **{kind: days * DAY for kind, days in kinds.items()})
            began = time.perf_counter()
            rows = asyncio.run(_retain(full, windows))
            seconds = time.perf_counter() - began
            note = f"{rows:,} rows"
            figures.append(Figure(name=name, unit="s", samples=(seconds,), note=note))
            figures += _latencies(f"batch while {name.replace('goes', 'went').replace('go', 'went')}", watch.taken())
    return figures


def _latencies(name: str, milliseconds: list[float]) -> list[Figure]:
    if not milliseconds:
        return []
    ordered = sorted(milliseconds)
    note = f"median {statistics.median(ordered):.1f} ms, largest {ordered[-1]:.1f} ms of {len(ordered)}"
    return [Figure(name=name, unit="ms, p99", samples=(ordered[int(len(ordered) * 0.99)],), note=note)]


async def _retain(dsn: str, windows: Windows) -> int:
    """In the leader's way: a quarter of each second."""
    upkeep = Upkeep(dsn, windows)
    rows = 0
    try:
        is_under_way = True
        while is_under_way:
            removed, is_under_way = await upkeep.retain(0.25)
            rows += sum(step.rows for step in removed)
            await asyncio.sleep(0.75 if is_under_way else 0)
    finally:
        await upkeep.close()
    return rows


async def _folded(dsn: str) -> None:
    """The folds are where a leader of all this month would be."""
    upkeep = Upkeep(dsn)
    try:
        await upkeep.keep_partitions()
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = _cursor(connection)
            connection.execute("UPDATE oracle.failure_cursor SET cursor = %s", [cursor])
            connection.execute("UPDATE oracle.duration_cursor SET cursor = %s", [cursor])
    finally:
        await upkeep.close()


def _cursor(connection: psycopg.Connection[Any]) -> str:
    """The one that has seen everything."""
    rows = connection.execute(
        statement("start_cursor").format(snapshot=statement("snapshot"), latest=statement("latest_transaction")),
        Marks().latest(),
    ).fetchall()
    return str(Cursor.at(Snapshot.of(rows[0]), rows[0][len(Snapshot.__struct_fields__)]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.size", description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS[0])
    arguments = parser.parse_args()
    print(told(f"{arguments.tasks:,} tasks of {DAYS} days", _measured_alone(arguments.tasks)))


if __name__ == "__main__":
    main()
