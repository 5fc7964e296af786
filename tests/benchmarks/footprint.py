"""The memory that Oracle adds to a worker: what is a process's own (USS) after a thousand tasks, beside bare Celery."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.benchmarks.bench_app import TaskCounter
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.throughput import MODULE, environment, publish, total
from tests.local_processes import LocalWorker

__all__ = ["measure"]

TASKS = 1_000
ROUNDS = 3
#: MB added to the main process, and to a child of the pool.
MAIN_TARGET = 15.0
CHILD_TARGET = 2.0
RUN_LIMIT = 120.0  # seconds
MEGABYTE = 2**20


def measure(ground: Ground) -> list[Figure]:
    """Of the main process, and of the children the mean."""
    found = {variant: [_own_bytes(ground, variant) for _ in range(ROUNDS)] for variant in ("bare", "oracle")}
    targets = {"main process": MAIN_TARGET, "child": CHILD_TARGET}
    return [
        Figure(
            name=f"memory added to a worker's {process}",
            unit="MB",
            samples=tuple(
                (own[number] - bare[number]) / MEGABYTE
                for own, bare in zip(found["oracle"], found["bare"], strict=True)
            ),
            target=target,
            note=f"private after {TASKS:,} tasks; bare Celery's: {found['bare'][0][number] / MEGABYTE:.0f} MB",
        )
        for number, (process, target) in enumerate(targets.items())
    ]


def _own_bytes(ground: Ground, variant: str) -> tuple[float, float]:
    folder = Path(tempfile.mkdtemp(prefix="oracle-bench-"))
    counter = TaskCounter(folder / "counter")
    counter.reset()
    database = ground.databases.create()
    variables = environment(variant, ground.rabbitmq.new_url(), database, folder)
    worker = LocalWorker(MODULE, folder / "worker.log", env=variables, options=["-l", "WARNING"])
    try:
        publish(TASKS, variables)
        worker.start(wait=False)
        worker.wait_until(lambda: total(counter) >= TASKS, "all tasks are done", RUN_LIMIT)
        children = worker.pool_children()
        return _private_bytes(worker.pid), sum(map(_private_bytes, children)) / len(children)
    finally:
        worker.stop()
        ground.databases.drop(database)
        shutil.rmtree(folder, ignore_errors=True)


def _private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))
