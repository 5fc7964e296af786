"""What is known about a pending task and about those who might run it, as the database tells it in one snapshot."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["AHEAD_LIMIT", "CancelWord", "LastWorker", "PauseInForce", "Situation", "WorkerAtQueue"]

#: Tasks before one in its queue that are counted.
AHEAD_LIMIT = 10_000


class CancelWord(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody cancelled it, in a run before this one."""

    at: str
    by: str
    reason: str | None


class PauseInForce(msgspec.Struct, frozen=True, kw_only=True):
    """The word that holds the queue."""

    by: str
    at: str
    reason: str | None
    until: str | None
    everything: bool


class LastWorker(msgspec.Struct, frozen=True, kw_only=True):
    """The worker that consumed the queue last; at: when it was heard of last."""

    node: str
    at: str


class WorkerAtQueue(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that consumes the task's queue or is to, or that holds its message."""

    node: str
    state: Literal["alive", "silent", "stopped", "lost"]
    at: str  # heard of last
    slots: int
    running: int
    is_consuming: bool
    rate_limit: str | None  # of tasks with this one's name

    @property
    def is_gone(self) -> bool:
        return self.state in ("stopped", "lost")

    @property
    def is_busy(self) -> bool:
        return self.running >= self.slots


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """A pending task, and what is known of those who might run it."""

    name: str | None
    queue: str | None
    reason: str | None
    worker: str | None
    retries: int
    is_held: bool  # a worker has received its message and not given it back
    waited: float
    eta: str | None
    eta_in: float | None  # seconds, less than nothing when it has passed
    expires: str | None
    expires_in: float | None
    cancelled: CancelWord | None
    pause: PauseInForce | None
    holder: WorkerAtQueue | None
    workers: list[WorkerAtQueue]  # that have not gone, by node
    last_worker: LastWorker | None
    ahead: int  # at most one more than AHEAD_LIMIT
    of: Literal["all", "own"]
