"""What readers are told of workers and queues. Points in time are ISO-8601 texts in UTC, as in `facts`."""

from __future__ import annotations

from typing import Literal

import msgspec

from oracle_celery.database.facts import Instant
from oracle_celery.situation import PauseInForce

__all__ = [
    "EverythingPaused",
    "QueueFacts",
    "QueueFlow",
    "QueueList",
    "QueueWorker",
    "RunningTask",
    "WorkerFacts",
    "WorkerList",
    "WorkerState",
]

#: silent: its beats are late, nobody has given it up; stopped: it said goodbye; lost: it was given up.
WorkerState = Literal["alive", "silent", "stopped", "lost"]


class RunningTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that a worker runs now."""

    task_id: str
    name: str | None
    user_id: str | None
    queue: str | None
    started_at: Instant | None


class WorkerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation of a worker."""

    worker_id: str
    node: str
    pool: str
    concurrency: int
    interruptible: bool  # its pool can interrupt a running task
    state: WorkerState
    active: int | None  # runs under way at beat_at; None for whoever may not see everything,
    reserved: int | None  # as of the messages that it holds
    queues: list[str]  # that it is to consume, and
    consuming: list[str]  # that it consumes
    started_at: Instant
    beat_at: Instant
    gone_at: Instant | None
    versions: msgspec.Raw
    rate_limits: msgspec.Raw  # {task name: "10/m"}
    cpu: float | None  # cores that its processes keep busy, and
    memory: int | None  # bytes resident in them, at beat_at; both unknown to whoever may not see everything, as is
    lost_tasks: int | None  # how many tasks count as failed because it is gone
    running: list[RunningTask]  # what it runs of the viewer's, the longest first: as many as a page shows


class WorkerList(msgspec.Struct, frozen=True, kw_only=True):
    workers: list[WorkerFacts]


class QueueWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that consumes a queue, or is to."""

    node: str
    state: WorkerState
    is_consuming: bool
    slots: int


class QueueFlow(msgspec.Struct, frozen=True, kw_only=True):
    """How a queue's tasks come and go: the viewer's, a minute, over the last few whole minutes."""

    finished: float
    arrived: float | None  # None: nobody has watched for long enough, or it is not for this viewer


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One queue: what its broker says, and what Oracle's own records say of what the viewer may see."""

    name: str
    depth: int | None = None  # messages that the broker could hand out; None: unknown, or not for this viewer
    depth_error: str | None = None
    consumers: int  # as the broker counts them, else the workers known to consume it
    waiting: int  # pending tasks
    oldest_waiting_at: Instant | None
    oldest_waiting_id: str | None
    flow: QueueFlow
    paused: PauseInForce | None
    workers: list[QueueWorker]
    is_stranded: bool  # something waits, nobody consumes, and not because it is paused


class EverythingPaused(msgspec.Struct, frozen=True, kw_only=True):
    """The pause of all queues; queues that were resumed since are not paused."""

    by: str
    at: Instant
    reason: str | None
    until: Instant | None


class QueueList(msgspec.Struct, frozen=True, kw_only=True):
    queues: list[QueueFacts]
    everything_paused: EverythingPaused | None
