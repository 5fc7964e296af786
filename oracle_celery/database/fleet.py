"""The reader of workers and queues, and of why a task waits.

Guarantee: as for tasks, what a viewer may not see is neither shown nor counted: an owner's queues have the numbers of
their own tasks, and a worker's load is for those who may see every task. Counts come from the gauges and the oldest
task from an index, so a backlog of a million costs no more than one of ten.

What bites: an owner's oldest task is looked for among all that wait in its queue, or among all that are theirs, in an
index (0.15 s for a million entries). What the broker holds is not known here; see `broker_queues` for its side.
"""

from __future__ import annotations

from typing import Any

import msgspec

from oracle_celery.database.facts import Task
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.fleet_facts import (
    EverythingPaused,
    QueueFacts,
    QueueFlow,
    QueueList,
    QueueWorker,
    RunningTask,
    WorkerFacts,
    WorkerList,
)
from oracle_celery.database.sql import statement
from oracle_celery.database.visibility import visible
from oracle_celery.situation import AHEAD_LIMIT, PauseInForce, Situation
from oracle_celery.states import Status
from oracle_celery.viewer import Viewer
from oracle_celery.waiting import Waiting, explain

__all__ = ["FleetQueries"]

#: Seconds that a worker is shown after it has gone.
GONE_SECONDS = 24 * 3600.0
WORKERS_LIMIT = 1_000
#: Running tasks that are told: of one worker, and in all.
RUNNING_EACH = 32
RUNNING_LIMIT = 2_000
#: Whole minutes over which a queue's flow is averaged.
FLOW_MINUTES = 5

#: The row of `fleet_queues` that stands for all queues.
_ALL = ""

_workers_of = msgspec.json.Decoder(list[QueueWorker]).decode
_running_of = msgspec.json.Decoder(list[RunningTask]).decode
_pause_of = msgspec.json.Decoder(PauseInForce).decode
_situation_of = msgspec.json.Decoder(Situation).decode


class FleetQueries:
    """Reads over whatever fetches rows (see `fetching`). `worker_timeout`: seconds until a worker's beats are late."""

    def __init__(self, fetch: Fetch, worker_timeout: float) -> None:
        self._fetch = fetch
        self._worker_timeout = worker_timeout

    async def workers(self, viewer: Viewer) -> WorkerList:
        """The living, by node, then those that have gone within a day and were not replaced."""
        limits = {
            "gone": GONE_SECONDS,
            "limit": WORKERS_LIMIT,
            "running_each": RUNNING_EACH,
            "running_limit": RUNNING_LIMIT,
        }
        rows = await self._read("fleet_workers", viewer, limits)
        return WorkerList(workers=[_worker(row) for row in rows])

    async def queues(self, viewer: Viewer) -> QueueList:
        """By name: every queue that a living worker consumes or is to, that is paused, or in which a task waits."""
        counted = {"counted_user": viewer.owner or "", "flow_minutes": FLOW_MINUTES}  # '' stands for everyone's sums
        rows = await self._read("fleet_queues", viewer, counted)
        everything = next((row[4] for row in rows if row[0] == _ALL), None)
        return QueueList(
            queues=[_queue(*row) for row in rows if row[0] != _ALL],
            everything_paused=None if everything is None else msgspec.json.decode(everything, type=EverythingPaused),
        )

    async def waiting(self, viewer: Viewer, task: Task) -> Waiting | None:
        """Why `task` is not running; None unless it is pending and the viewer may see it."""
        if task.status != Status.PENDING.word:
            return None
        asked = {"task_id": task.task_id, "ahead_limit": AHEAD_LIMIT}
        rows = await self._read("why_waiting", viewer, asked)
        return explain(_situation_of(rows[0][0])) if rows else None

    async def _read(self, name: str, viewer: Viewer, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        parameters |= {"timeout": self._worker_timeout, "everyone": viewer.sees_everything}
        query = statement(name).format(state=statement("worker_state"), visible=visible(viewer, parameters))
        return await self._fetch(query, parameters)


def _worker(row: tuple[Any, ...]) -> WorkerFacts:
    fields = dict(zip(WorkerFacts.__struct_fields__, row, strict=True))
    for name in ("versions", "rate_limits"):
        fields[name] = msgspec.Raw(fields[name].encode())
    fields["running"] = _running_of(fields["running"])
    return WorkerFacts(**fields)


def _queue(
    name: str,
    waiting: int,
    oldest_at: str | None,
    oldest_id: str | None,
    pause: str | None,
    workers: str,
    finished: float,
    arrived: float | None,
) -> QueueFacts:
    at_queue = _workers_of(workers)
    consumers = sum(worker.is_consuming for worker in at_queue)
    return QueueFacts(
        name=name,
        consumers=consumers,
        waiting=waiting,
        oldest_waiting_at=oldest_at,
        oldest_waiting_id=oldest_id,
        flow=QueueFlow(finished=finished, arrived=arrived),
        paused=None if pause is None else _pause_of(pause),
        workers=at_queue,
        is_stranded=waiting > 0 and consumers == 0 and pause is None,
    )
