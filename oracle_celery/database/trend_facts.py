"""What is told of numbers over time, as typed, frozen structs.

Series are columns, one value for each bucket, the oldest first; the last bucket is the one of now and not over yet.
What is not known is null: a mean of nothing, a gauge that nobody wrote down.
"""

from __future__ import annotations

import msgspec

from oracle_celery.database.facts import Instant

__all__ = ["Minute", "Percentiles", "QueueSeries", "QueueTrends", "Statistics", "TaskType", "TaskTypes", "Totals"]


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Of a whole range."""

    completed: int
    failed: int
    cancelled: int
    mean_runtime: float | None  # of completed and failed tasks, in seconds
    failure_percent: float | None  # of completed and failed tasks


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """What finished since the minute of `as_of` began."""

    completed: int
    failed: int


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of the tasks that a viewer may see, over one range."""

    range: str
    start: Instant  # of the first bucket
    seconds: int  # of each bucket
    completed: list[int]
    failed: list[int]
    cancelled: list[int]
    mean_runtime: list[float | None]
    queued: list[int | None] | None  # the most that was seen in the bucket; null for ranges longer than a day
    active: list[int | None] | None
    previous: Totals | None  # the same length of time before; null where it is not kept as long
    minute: Minute
    as_of: Instant


class QueueSeries(msgspec.Struct, frozen=True, kw_only=True):
    queue: str
    waiting: list[int | None]  # the most that was seen in the bucket; null where nobody looked
    active: list[int | None]


class QueueTrends(msgspec.Struct, frozen=True, kw_only=True):
    """How queues filled and emptied; a queue that was empty all the time is not among them."""

    range: str
    start: Instant
    seconds: int
    queues: list[QueueSeries]


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. Of everybody's tasks they come from a histogram and are within 6 % of what a sort would give; of an
    owner's they are exact and of their newest 2,000 tasks."""

    p50: float
    p95: float
    counted: int


class TaskType(msgspec.Struct, frozen=True, kw_only=True):
    """One name of tasks, over the last 24 hours."""

    name: str | None
    finished: int
    completed: int
    failed: int
    cancelled: int
    failure_percent: float | None  # of completed and failed tasks
    per_minute: float  # finished, over the last ten whole minutes
    mean_runtime: float | None
    runtime: Percentiles | None
    wait: Percentiles | None  # for the first run, from when it was sent or was to begin
    half_hours: list[int]  # finished in each, the oldest first


class TaskTypes(msgspec.Struct, frozen=True, kw_only=True):
    types: list[TaskType]  # those with most tasks first
    total: int  # names there are; more than are told here where there are very many
    since: Instant  # the first half-hour's beginning
    as_of: Instant
