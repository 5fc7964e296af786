"""Tasks per second of a saturated prefork worker, in turn: bare Celery and several ways to watch it.

A run publishes its backlog first, starts the worker, and measures between the first and the last task of the middle:
from the moment when WARM_UP of the tasks are done until all are. For Oracle a run ends only when the last final
status is committed, except where PostgreSQL is away: then it ends with the last task, whose facts are in the journal.
CPU seconds are those of the worker's main process and its pool over the same time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psycopg
from psycopg.conninfo import make_conninfo

from tests.benchmarks.bench_app import TaskCounter
from tests.benchmarks.figure import Comparison, Figure
from tests.benchmarks.ground import Ground
from tests.broker_fixtures import RabbitServer
from tests.local_processes import LocalProcess, LocalWorker
from tests.otlp_receiver import OtlpReceiver
from tests.ports import free_port
from tests.postgresql_fixtures import DatabaseServer

__all__ = ["VARIANTS", "environment", "measure", "publish", "rounds_of", "total"]

#: Tasks of a run, which is to last three seconds or more, and rounds.
SHORT = (8_000, 3)
FULL = (20_000, 5)
#: The full history against bare Celery: rate, and CPU in the worker's own processes.
RATE_TARGET = 0.95
CPU_TARGET = 1.04

VARIANTS = ("bare", "events", "flower", "backend", "oracle", "oracle_away", "oracle_traced")
#: Those that the targets are about: the short form measures the others once.
JUDGED = ("bare", "oracle", "oracle_away")
#: Those whose run ends with the last committed final status.
COMMITTED = ("oracle", "oracle_traced")
MODULE = "tests.benchmarks.bench_app"
#: Share of the tasks that are done before the clock starts: the worker's start and first prefetch.
WARM_UP = 0.1
#: Seconds between two looks at the counter.
POLL_SECONDS = 0.005
#: Seconds after which a run is given up.
RUN_LIMIT = 300.0
#: Celery's database backend manages a seventh of bare Celery's rate: it gets fewer tasks for the same time.
BACKEND_SHARE = 5


class Measurement(msgspec.Struct, frozen=True):
    """One run of one variant."""

    variant: str
    tasks_per_second: float
    worker_cpu_seconds_per_task: float
    tasks: int


def measure(ground: Ground) -> list[Figure]:
    """Rates and worker's CPU as ratios to bare Celery of the same round."""
    tasks, rounds = FULL if ground.is_full else SHORT
    servers = ground.rabbitmq, ground.databases
    found = rounds_of(tasks, rounds if ground.is_full else 1, *servers, VARIANTS)
    if not ground.is_full:
        found += rounds_of(tasks, rounds - 1, *servers, JUDGED)
    by_variant = {variant: [one for one in found if one.variant == variant] for variant in VARIANTS}
    bare = by_variant["bare"]
    figures = [Figure(name="bare Celery", unit="tasks/s", samples=tuple(one.tasks_per_second for one in bare))]
    for variant in VARIANTS[1:]:
        pairs = list(zip(by_variant[variant], bare, strict=False))  # of the same round
        targeted = variant == "oracle"
        figures.append(
            Figure(
                name=f"{variant}: rate to bare",
                unit="ratio",
                samples=tuple(own.tasks_per_second / base.tasks_per_second for own, base in pairs),
                target=RATE_TARGET if targeted else None,
                comparison=Comparison.AT_LEAST,
            )
        )
        figures.append(
            Figure(
                name=f"{variant}: worker's CPU to bare",
                unit="ratio",
                samples=tuple(
                    own.worker_cpu_seconds_per_task / base.worker_cpu_seconds_per_task for own, base in pairs
                ),
                target=CPU_TARGET if targeted else None,
            )
        )
    return figures


def rounds_of(
    tasks: int,
    rounds: int,
    rabbitmq: RabbitServer,
    databases: DatabaseServer,
    variants: tuple[str, ...],
    *,
    lines: int = 0,
) -> list[Measurement]:
    """`rounds` times every variant in turn, so that the machine's moods hit all of them alike."""
    found: list[Measurement] = []
    for number in range(rounds):
        for variant in variants:
            share = BACKEND_SHARE if variant == "backend" else 1
            measurement = _run(variant, tasks // share, rabbitmq, databases, lines=lines)
            found.append(measurement)
            print(
                f"round {number + 1}: {variant:12} {measurement.tasks_per_second:7.0f} tasks/s "
                f"{measurement.worker_cpu_seconds_per_task * 1e6:6.0f} µs CPU a task",
                flush=True,
            )
    return found


def environment(variant: str, broker: str, database: str, folder: Path) -> dict[str, str]:
    """What `bench_app` reads, in the worker and in the process that publishes."""
    return {
        "BENCH_VARIANT": variant,
        "BENCH_BROKER_URL": broker,
        "BENCH_QUEUE": f"bench-{uuid.uuid4().hex[:8]}",
        "BENCH_DATABASE_URL": _nobody_listens() if variant == "oracle_away" else database,
        "BENCH_RESULT_BACKEND": _sqlalchemy_url(database),
        "BENCH_STATE_DIR": str(folder / "state"),
        "BENCH_COUNTER": str(folder / "counter"),
        "C_FORCE_ROOT": "1",
    }


def _run(variant: str, tasks: int, rabbitmq: RabbitServer, databases: DatabaseServer, *, lines: int = 0) -> Measurement:
    """`lines`: how many each task logs, at a level that the worker writes to its log file."""
    folder = Path(tempfile.mkdtemp(prefix="oracle-bench-"))
    counter = TaskCounter(folder / "counter")
    counter.reset()
    database = databases.create()
    variables = environment(variant, rabbitmq.new_url(), database, folder) | {"BENCH_LINES": str(lines)}
    options = ["-E"] if variant in ("events", "flower") else []
    worker = LocalWorker(
        MODULE, folder / "worker.log", env=variables, options=[*options, "-l", "INFO" if lines else "WARNING"]
    )
    try:
        publish(tasks, variables)
        with _flower(variant, folder, variables), _collector(variant) as collector:
            worker.env |= collector
            worker.start(wait=False)
            return _measured(variant, tasks, worker, counter, database if variant in COMMITTED else None, lines)
    finally:
        worker.stop()
        databases.drop(database)
        shutil.rmtree(folder, ignore_errors=True)


def _measured(
    variant: str, tasks: int, worker: LocalWorker, counter: TaskCounter, database: str | None, lines: int
) -> Measurement:
    start = int(tasks * WARM_UP)
    worker.wait_until(lambda: total(counter) >= start, "it is warm", RUN_LIMIT)
    first, first_tasks, first_cpu = time.perf_counter(), counter.total(), _cpu_seconds(worker.pid)
    worker.wait_until(lambda: total(counter) >= tasks, "all tasks are done", RUN_LIMIT)
    if database is not None:
        with psycopg.connect(database, autocommit=True) as connection:
            worker.wait_until(lambda: _all_final(connection, tasks), "all final statuses are committed", RUN_LIMIT)
            if lines:
                worker.wait_until(lambda: _all_logged(connection, tasks * lines), "all lines are committed", RUN_LIMIT)
    seconds, cpu = time.perf_counter() - first, _cpu_seconds(worker.pid) - first_cpu
    done = tasks - first_tasks
    return Measurement(
        variant=variant, tasks_per_second=done / seconds, worker_cpu_seconds_per_task=cpu / done, tasks=tasks
    )


def total(counter: TaskCounter) -> int:
    time.sleep(POLL_SECONDS)
    return counter.total()


def _all_final(connection: psycopg.Connection, tasks: int) -> bool:
    """Rows are counted only once none is open, so that asking costs the run nothing."""
    row = connection.execute(
        "SELECT CASE WHEN NOT EXISTS (SELECT FROM oracle.task_state_record WHERE status < 2)"
        " THEN (SELECT count(*) FROM oracle.task_state_record) END"
    ).fetchone()
    return row is not None and row[0] == tasks


def _all_logged(connection: psycopg.Connection, lines: int) -> bool:
    row = connection.execute("SELECT count(*) FROM oracle.task_log").fetchone()
    return row is not None and row[0] == lines


def publish(tasks: int, variables: dict[str, str]) -> None:
    """In a process of its own, which ends, so that nothing of it runs beside the worker."""
    code = (
        f"from {MODULE} import app\n"
        f"with app.producer_pool.acquire() as producer:\n"
        f"    for number in range({tasks}):\n"
        f"        app.tasks['bench.nothing'].apply_async((number,), producer=producer)\n"
        f"if hasattr(app, 'oracle'): app.oracle.stop()\n"
        f"app.pool.force_close_all()\n"  # the broker answers that: it has read all that was sent before
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | variables, check=True)


@contextmanager
def _flower(variant: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    if variant != "flower":
        yield
        return
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", MODULE, "flower", "--address=127.0.0.1", f"--port={port}"]
    flower = LocalProcess(command, folder / "flower.log", env=environment | {"FLOWER_UNAUTHENTICATED_API": "true"})
    flower.start(wait=False)
    try:
        flower.wait_for_log("Visit me at")
        yield
    finally:
        flower.stop()


@contextmanager
def _collector(variant: str) -> Iterator[dict[str, str]]:
    """Takes the spans of a traced worker over HTTP and throws them away, beside it on the same machine. The backlog is
    not traced: what is measured is the worker's part."""
    if variant != "oracle_traced":
        yield {}
        return
    with OtlpReceiver.start(keeps=False) as receiver:
        yield receiver.environment()


def _nobody_listens() -> str:
    """What a stopped PostgreSQL looks like: the connection is refused."""
    return make_conninfo(host="127.0.0.1", port=free_port(), user="oracle", dbname="away")


def _sqlalchemy_url(dsn: str) -> str:
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    return f"db+postgresql+psycopg://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}"


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children, living and reaped, from the kernel."""
    ticks = 0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for process in [str(pid), *children]:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
