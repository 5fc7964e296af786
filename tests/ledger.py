"""Facts for tests of the database: what producers and workers would have journalled, without journals."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from oracle_celery.database.store import Slice
from oracle_celery.records import KeptMessage, LogLine, Progress, Transition, encode_line
from oracle_celery.states import Rank, Status

#: 2026-01-01T00:00:00Z in nanoseconds: facts at the reading n of a source's clock happened n ns later.
DAWN = 1_767_225_600_000_000_000
MICROSECOND = 1_000
SECOND = 1_000_000_000


class Source:
    """One journal file: hands out slices whose ranges follow each other."""

    def __init__(self, node: str | None = None, *, origin: str = "1@host", offset_ns: int = DAWN) -> None:
        self.file_id = str(uuid.uuid4())
        self.node = node
        self.worker_id = str(uuid.uuid5(uuid.NAMESPACE_DNS, node)) if node else None
        self.origin = origin
        self.offset_ns = offset_ns
        self.position = 100  # the header is before it

    def slice(self, records: Iterable[Transition | LogLine | Progress | KeptMessage]) -> Slice:
        return self.raw(b"".join(encode_line(record) for record in records))

    def raw(self, body: bytes) -> Slice:
        start, self.position = self.position, self.position + max(1, len(body))
        return Slice(
            file_id=self.file_id,
            start=start,
            end=self.position,
            offset_ns=self.offset_ns,
            node=self.node,
            worker_id=self.worker_id,
            origin=self.origin,
            body=body,
        )


def sent(task_id: str, at: int, **fields: Any) -> Transition:
    fields = {"name": "shop.pay", "queue": "celery", "reason": "sent"} | fields
    return Transition(task_id=task_id, status=Status.PENDING, rank=Rank.SENT, at=at, **fields)


def received(task_id: str, at: int, run_at: int, **fields: Any) -> Transition:
    return _of_run(task_id, Status.PENDING, Rank.RECEIVED, at, run_at, {"reason": "received"} | fields)


def started(task_id: str, at: int, run_at: int, **fields: Any) -> Transition:
    return _of_run(task_id, Status.IN_PROGRESS, Rank.STARTED, at, run_at, fields)


def completed(task_id: str, at: int, run_at: int, **fields: Any) -> Transition:
    fields = {"runtime": 0.5, "result_payload": msgspec.Raw(b"1")} | fields
    return _of_run(task_id, Status.COMPLETED, Rank.REPORTED, at, run_at, fields)


def failed(task_id: str, at: int, run_at: int, **fields: Any) -> Transition:
    fields = {"error_type": "ValueError", "error_message": "no", "runtime": 0.25} | fields
    return _of_run(task_id, Status.FAILED, Rank.REPORTED, at, run_at, fields)


def life(task_id: str, at: int, **fields: Any) -> list[Transition]:
    """Everything that is told of a task that goes well, from `at` on."""
    run_at = at + 10 * MICROSECOND
    return [
        sent(task_id, at, **fields),
        received(task_id, at + 10 * MICROSECOND, run_at),
        started(task_id, at + 20 * MICROSECOND, run_at),
        completed(task_id, at + 30 * MICROSECOND, run_at),
    ]


def _of_run(task_id: str, status: Status, rank: Rank, at: int, run_at: int, fields: dict[str, Any]) -> Transition:
    return Transition(
        task_id=task_id, status=status, rank=rank, at=at, **({"run_at": run_at, "run_id": f"run-{run_at}"} | fields)
    )
