"""What a fact costs the task: the handlers called as Celery calls them, their time taken one by one."""

from __future__ import annotations

import collections
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from celery import Celery, signals

from oracle_celery import Oracle
from oracle_celery.journal import Journal
from oracle_celery.publishing import announce
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground

__all__ = ["measure"]

CALLS = 20_000
WARM_UP_CALLS = 500
#: Microseconds that a handler may take.
TARGETS = {"p50": 10.0, "p99": 50.0}


def measure(ground: Ground) -> list[Figure]:
    """p50 and p99 of each handler that a task without incident meets, in a prefork worker or another one."""
    rounds = [_measure() for _ in range(5 if ground.is_full else 3)]
    return [
        Figure(
            name=f"{signal} {percentile}",
            unit="µs",
            samples=tuple(found[signal][percentile] for found in rounds),
            target=target,
        )
        for signal in rounds[0]
        for percentile, target in TARGETS.items()
    ]


def _measure() -> dict[str, dict[str, float]]:
    """Microseconds."""
    folder = Path(tempfile.mkdtemp(prefix="oracle-bench-"))
    app = Celery("handlers", broker="memory://", set_as_current=True)
    app.conf.update(oracle_url="postgresql://nowhere", oracle_state_dir=str(folder))
    oracle = Oracle(app)
    oracle.node = "bench@here"  # a worker's process: it appends, and somebody else reads
    oracle._journal = Journal(folder / "journal", quota=2**40)
    app.task(shared=False, name="bench.nothing")(_nothing)
    app.finalize()
    task = app.tasks["bench.nothing"]
    headers = {"id": "7c1e4f92-0b1d-4c55-9a0e-3f6d2b71b0a4", "task": task.name, "root_id": "r", "retries": 0}
    body: Any = ((1,), {}, {})

    def context() -> None:
        task.push_request(**headers, args=(1,), kwargs={}, delivery_info={})

    def received() -> Any:
        delivery = {"exchange": "", "routing_key": "bench", "redelivered": False}
        fields = {**headers, "oracle_sent": True, "args": (1,), "kwargs": {}, "delivery_info": delivery}
        return _Hashable(id=headers["id"], name=task.name, request_dict=fields, delivery_info=delivery)

    def published() -> None:
        announce(app)  # as the app's send_task does
        signals.after_task_publish.send(sender=task.name, headers=headers, body=body, exchange="", routing_key="bench")

    consumer = _Hashable(app=app)
    requests = iter([received() for _ in range(CALLS + WARM_UP_CALLS)])
    context()
    facts, run = oracle.signals, received().request_dict
    facts.has_main_process = True
    facts._waiting = collections.deque(maxlen=1)  # the recorder takes them away
    facts.mint(run, headers["id"], task.name)
    calls = {
        "after_task_publish": published,
        "task_received": lambda: signals.task_received.send(sender=consumer, request=next(requests)),
        "task_prerun": lambda: signals.task_prerun.send(
            sender=task, task_id=headers["id"], task=task, args=(1,), kwargs={}
        ),
        "task_success": lambda: signals.task_success.send(sender=task, result=None, runtime=0.1),
        # a child of a prefork pool is told of the same from around Celery's tracer, not by signals
        "start in a pool's child": lambda: facts.tell_started(run, headers["id"], task.name, time.monotonic_ns()),
        "success in a pool's child": lambda: facts.tell_success(run, headers["id"], None, 0.1),
    }
    try:
        return {name: _microseconds(call) for name, call in calls.items()}
    finally:
        oracle.close_journals()
        shutil.rmtree(folder, ignore_errors=True)


def _nothing(number: int) -> None:
    """Does nothing."""


class _Hashable(SimpleNamespace):
    __hash__ = object.__hash__


def _microseconds(call: Any) -> dict[str, float]:
    taken: list[int] = []
    for number in range(CALLS + WARM_UP_CALLS):
        start = time.perf_counter_ns()
        call()
        if number >= WARM_UP_CALLS:
            taken.append(time.perf_counter_ns() - start)
    percentiles = statistics.quantiles(taken, n=100)
    return {"p50": percentiles[49] / 1000, "p99": percentiles[98] / 1000}
