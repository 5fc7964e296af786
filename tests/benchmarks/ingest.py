"""What a fact costs PostgreSQL: `Store.ingest` fed with a stream as workers make it, at several sizes of batch.

Three facts a task, as a worker that has enough to do tells them: sent, started and completed, with a result of about
100 bytes. A producer is BACKLOG tasks ahead of the workers, so that its facts are in other batches than the run's, and
RUNNING tasks are under way at once, so that some runs begin in one batch and end in a later one. One client listens.

CPU is the kernel's account of the backend alone, in nanoseconds (schedstat): what other processes do at the same time
shows in it only a little. Checkpoints and the writer of the log are not in it, and neither is the client.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg

from oracle_celery.database.store import Slice, Store
from oracle_celery.records import Transition
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.ledger import MICROSECOND, Source, completed, sent, started

__all__ = ["NODE", "IngestCost", "Listener", "Stream", "backend_cpu", "cost", "measure"]

BATCH_SIZES = (40, 200, 1_000, 2_000)  # facts
REALISTIC_SIZE = 200  # facts
CPU_TARGET = 12.0  # µs
ROUNDS = {False: 3, True: 10}  # by whether it is the full form
APPLICATION_NAME = "oracle-bench-ingest"
BACKLOG = 400  # tasks
RUNNING = 8  # tasks
#: Facts that are in the database before the clock starts: indexes have their depth.
WARM_UP_FACTS = 60_000
#: Of one measurement of one size.
FACTS = 12_000
NAMES = ("shop.pay", "shop.ship", "shop.mail", "shop.report")
NODE = "worker@bench"


class IngestCost(msgspec.Struct, frozen=True, kw_only=True):
    """All of it a fact."""

    cpu: float  # µs of the backend, notifications included
    wall: float  # µs, with commit and client
    wal: float  # bytes
    notified: float  # notifications


class Stream:
    """Batches of one producer's and two pool children's facts, each batch `size` facts."""

    def __init__(self, seed: int = 1, *, began: int | None = None) -> None:
        """`began`: the clock's reading before the first fact; None: such that slices tell this moment."""
        self._dice = random.Random(seed)
        self._producer = Source(origin="1@web")
        self._children = [Source(NODE, origin=f"{pid}@bench") for pid in (2, 3)]
        #: (source, fact) in the order of their times, for ever; source 0 is the producer.
        self.facts = self._tell()
        self._now = time.time_ns() - self._producer.offset_ns if began is None else began

    def batch(self, size: int) -> list[Slice]:
        """At most three slices."""
        told: dict[int, list[Transition]] = {0: [], 1: [], 2: []}
        for _ in range(size):
            source, fact = next(self.facts)
            told[source].append(fact)
        sources = [self._producer, *self._children]
        return [sources[number].slice(facts) for number, facts in told.items() if facts]

    def _tell(self) -> Iterator[tuple[int, Transition]]:
        waiting: list[str] = []
        running: list[tuple[str, int]] = []
        while True:
            while len(waiting) < BACKLOG:
                task_id = self._uuid()
                waiting.append(task_id)
                arguments = msgspec.Raw(
                    b'{"args":[%d],"kwargs":{"to":"ann@example.org"}}' % self._dice.randrange(10**6)
                )
                yield (
                    0,
                    sent(task_id, self._tick(), name=self._dice.choice(NAMES), arguments=arguments, root_id=task_id),
                )
            task_id = waiting.pop(0)
            run_at = self._tick()
            running.append((task_id, run_at))
            yield 1 + run_at % 2, started(task_id, self._tick(), run_at, **self._run(run_at))
            if len(running) == RUNNING:
                task_id, run_at = running.pop(self._dice.randrange(RUNNING))
                result = msgspec.Raw(b'{"order":%d,"note":"%s"}' % (run_at % 10**6, b"x" * 75))
                run_id = self._run(run_at)["run_id"]
                yield (
                    1 + run_at % 2,
                    completed(task_id, self._tick(), run_at, run_id=run_id, result_payload=result, runtime=0.0123),
                )

    def _run(self, run_at: int) -> dict[str, str]:
        return {"run_id": f"{run_at:016x}", "name": "shop.pay", "queue": "celery", "reason": "started"}

    def _tick(self) -> int:
        self._now += self._dice.randrange(50, 150) * MICROSECOND
        return self._now

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))


def measure(ground: Ground) -> list[Figure]:
    """Per size of batch what a fact costs; all sizes in turn, into one database that grows."""
    rounds = ROUNDS[ground.is_full]
    costs: dict[int, list[IngestCost]] = {size: [] for size in BATCH_SIZES}
    database = ground.databases.create()
    store = Store(database, application_name=APPLICATION_NAME)
    try:
        with Listener(database), psycopg.connect(database, autocommit=True) as connection:
            stream = Stream()
            for _ in range(WARM_UP_FACTS // max(BATCH_SIZES)):
                store.ingest(stream.batch(max(BATCH_SIZES)))
            for _ in range(rounds):
                for size in BATCH_SIZES:
                    costs[size].append(cost(connection, store, stream, size, FACTS))
    finally:
        store.close()
        ground.databases.drop(database)
    return [figure for size in BATCH_SIZES for figure in _figures(size, costs[size])]


def cost(connection: psycopg.Connection, store: Store, stream: Stream, size: int, facts: int) -> IngestCost:
    """Of that many facts in batches of `size`."""
    batches = [stream.batch(size) for _ in range(facts // size)]
    told = size * len(batches)
    pid = _backend_pid(connection)
    lsn = _lsn(connection)
    cpu, began = backend_cpu(pid), time.perf_counter()
    notified = sum(store.ingest(batch).notified for batch in batches)
    wall, cpu = time.perf_counter() - began, backend_cpu(pid) - cpu
    return IngestCost(
        cpu=cpu / 1e3 / told, wall=wall * 1e6 / told, wal=(_lsn(connection) - lsn) / told, notified=notified / told
    )


def backend_cpu(pid: int) -> int:
    """Nanoseconds on a CPU since the process began."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _figures(size: int, costs: list[IngestCost]) -> list[Figure]:
    return [
        Figure(
            name=f"PostgreSQL's CPU a fact, batches of {size:,}",
            unit="µs",
            samples=tuple(one.cpu for one in costs),
            target=CPU_TARGET if size == REALISTIC_SIZE else None,
            note=f"{statistics.median(one.notified for one in costs):.2g} notifications a fact included",
        ),
        Figure(
            name=f"A fact with commit and client, batches of {size:,}",
            unit="µs",
            samples=tuple(one.wall for one in costs),
        ),
        Figure(
            name=f"Log written a fact (WAL), batches of {size:,}", unit="bytes", samples=tuple(one.wal for one in costs)
        ),
    ]


class Listener:
    """A client that hears everything, as a sidecar does, and does nothing with it."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._connection.execute("LISTEN oracle_channel")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self.heard = 0

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._connection.close()

    def _hear(self) -> None:
        while not self._is_over.is_set():
            for _ in self._connection.notifies(timeout=0.2):
                self.heard += 1


def _backend_pid(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = %s", [APPLICATION_NAME]
    ).fetchone()
    assert row is not None
    return int(row[0])


def _lsn(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(row[0])
