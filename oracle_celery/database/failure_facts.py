"""What readers are told of failures in groups. Points in time are ISO-8601 texts in UTC, as in `facts`."""

from __future__ import annotations

from typing import Literal

import msgspec

from oracle_celery.database.facts import Instant, Task
from oracle_celery.fingerprint import Frame

__all__ = [
    "FailedTask",
    "FailureCounts",
    "FailureDetail",
    "FailureGroup",
    "FailureList",
    "FailureRange",
    "FailureState",
    "RangeStarts",
    "SimilarFailures",
]

#: new: first seen within 24 hours; regressed: came back within 24 hours, after a week and more without it.
FailureState = Literal["new", "recurring", "regressed"]
FailureRange = Literal["1h", "24h", "7d"]

_SPANS = {f"in_{span}": span for span in ("1h", "3h", "24h", "3d", "7d")}


class FailureCounts(msgspec.Struct, frozen=True, kw_only=True, rename=_SPANS):
    """How many failures since each of the starts."""

    in_1h: int
    in_3h: int
    in_24h: int
    in_3d: int
    in_7d: int


class RangeStarts(msgspec.Struct, frozen=True, kw_only=True, rename=_SPANS):
    """Where the ranges begin: with a slot of five minutes, so each is a little longer than its name."""

    in_1h: Instant
    in_3h: Instant
    in_24h: Instant
    in_3d: Instant
    in_7d: Instant


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Failures that are the same one, as far as the viewer may see them."""

    fingerprint: str
    state: FailureState
    name: str | None  # of the task
    error_type: str | None
    message: str | None  # without what varies; None also for whoever may not see payloads
    counts: FailureCounts
    users: int | None  # that it has hurt in the range; None for whoever sees only their own tasks
    first_seen: Instant
    last_seen: Instant
    last_task_id: str
    marks: list[tuple[int, int]]  # (steps since the range's start, failures), where there are any


class FailureList(msgspec.Struct, frozen=True, kw_only=True):
    """The groups of a range."""

    range: FailureRange
    starts: RangeStarts
    step: int  # seconds that a mark stands for
    as_of: Instant
    failures: int  # in the range, of all groups,
    groups: int  # which are so many; those of `shown` are the first of them
    new: int  # groups that are new,
    regressed: int  # or have come back, whatever the range
    shown: list[FailureGroup]
    payloads_withheld: bool = False


class FailedTask(msgspec.Struct, frozen=True, kw_only=True):
    failed_at: Instant
    task: Task  # as it is now: it may have been run again


class FailureDetail(msgspec.Struct, frozen=True, kw_only=True):
    group: FailureGroup
    starts: RangeStarts
    step: int
    range: FailureRange
    as_of: Instant
    frames: list[Frame]  # of the application, in the newest traceback that is there; the innermost last
    tasks: list[FailedTask]  # that failed last, the newest first
    payloads_withheld: bool = False


class SimilarFailures(msgspec.Struct, frozen=True, kw_only=True):
    """Which group a failed task belongs to."""

    fingerprint: str
    failures_24h: int  # of that group
