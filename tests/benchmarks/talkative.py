"""Tasks that log: the same worker writes the same lines to its log file, with Oracle and without.

With Oracle each line is recorded as well, and a run ends when the last of them is committed.
"""

from __future__ import annotations

from tests.benchmarks.figure import Comparison, Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.throughput import rounds_of

__all__ = ["measure"]

#: Lines that each task logs.
LINES = 50
#: Tasks of a run, and rounds.
SHORT = (1_500, 3)
FULL = (5_000, 5)
RATE_TARGET = 0.85


def measure(ground: Ground) -> list[Figure]:
    """The rate as a ratio to bare Celery of the same round."""
    tasks, rounds = FULL if ground.is_full else SHORT
    found = rounds_of(tasks, rounds, ground.rabbitmq, ground.databases, ("bare", "oracle"), lines=LINES)
    bare = [one for one in found if one.variant == "bare"]
    own = [one for one in found if one.variant == "oracle"]
    pairs = list(zip(own, bare, strict=True))
    return [
        Figure(
            name=f"bare Celery, {LINES} lines a task",
            unit="tasks/s",
            samples=tuple(one.tasks_per_second for one in bare),
        ),
        Figure(
            name=f"oracle, {LINES} lines a task: rate to bare",
            unit="ratio",
            samples=tuple(one.tasks_per_second / base.tasks_per_second for one, base in pairs),
            target=RATE_TARGET,
            comparison=Comparison.AT_LEAST,
            note="Both write the lines to the worker's log file; a run of Oracle's ends with the last committed line.",
        ),
        Figure(
            name=f"oracle, {LINES} lines a task: worker's CPU to bare",
            unit="ratio",
            samples=tuple(one.worker_cpu_seconds_per_task / base.worker_cpu_seconds_per_task for one, base in pairs),
        ),
    ]
