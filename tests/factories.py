"""Facts for tests: made with few words, and told to a real database the way a recorder tells them."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any, Self

import msgspec

from oracle_celery.database.store import Slice, Store
from oracle_celery.records import Transition
from oracle_celery.states import Rank, Status

MICROSECOND = 1_000

_moments = threading.Lock()
_last_moment = 0

_RANKS = {
    Status.PENDING: Rank.SENT,
    Status.IN_PROGRESS: Rank.STARTED,
    Status.COMPLETED: Rank.REPORTED,
    Status.FAILED: Rank.REPORTED,
    Status.CANCELLED: Rank.CANCELLED,
}


def transition(task_id: str, status: Status = Status.PENDING, **fields: Any) -> Transition:
    """A fact told now, with the rank that usually goes with its status."""
    fields.setdefault("rank", int(_RANKS[status]))
    fields.setdefault("at", _next_moment())
    if status is not Status.PENDING:
        fields.setdefault("run_at", fields["at"])
        fields.setdefault("run_id", f"run of {task_id}")
    return Transition(task_id=task_id, status=int(status), **fields)


def _next_moment() -> int:
    """A reading of the clock that no other fact has, in the microseconds that PostgreSQL tells apart."""
    global _last_moment
    with _moments:
        _last_moment = max(time.monotonic_ns(), _last_moment + MICROSECOND)
        return _last_moment


class Feeder:
    """A journal file of its own, and the connection that sends it. One thread at a time."""

    def __init__(self, dsn: str, *, node: str | None = None, worker_id: str | None = None) -> None:
        self.store = Store(dsn, "oracle-test-feeder")
        self._file_id = str(uuid.uuid4())
        self._position = 0
        self._node = node
        self._worker_id = worker_id
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def tell(self, *transitions: Transition) -> None:
        """One batch: one transaction."""
        body = b"\n".join(msgspec.json.encode(fact) for fact in transitions)
        end = self._position + len(body) + 1
        self.store.ingest(
            [
                Slice(
                    file_id=self._file_id,
                    start=self._position,
                    end=end,
                    offset_ns=self._offset_ns,
                    node=self._node,
                    worker_id=self._worker_id,
                    origin="1@test",
                    body=body,
                )
            ]
        )
        self._position = end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
