"""What readers are told of workers and queues. Points in time are ISO-8601 texts in UTC, as in `facts`."""

from __future__ import annotations

from typing import Literal

import msgspec

from oracle_celery.database.facts import Instant
from oracle_celery.situation import PauseInForce

__all__ = ["EverythingPaused", "QueueFacts", "QueueList", "QueueWorker", "WorkerFacts", "WorkerList", "WorkerState"]

#: silent: its beats are late, nobody has given it up; stopped: it said goodbye; lost: it was given up.
WorkerState = Literal["alive", "silent", "stopped", "lost"]


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


class WorkerList(msgspec.Struct, frozen=True, kw_only=True):
    workers: list[WorkerFacts]


class QueueWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that consumes a queue, or is to."""

    node: str
    state: WorkerState
    is_consuming: bool


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One queue: what its broker says, and what Oracle's own records say of what the viewer may see."""

    name: str
    depth: int | None = None  # messages that the broker could hand out; None: unknown, or not for this viewer
    depth_error: str | None = None
    consumers: int  # as the broker counts them, else the workers known to consume it
    waiting: int  # pending tasks
    oldest_waiting_at: Instant | None
    oldest_waiting_id: str | None
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
