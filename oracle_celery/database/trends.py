"""The reader of numbers over time: the header's charts, task types, how queues filled.

Guarantee: as for tasks, an owner's numbers are made of their own tasks alone, by the same predicate. No answer reads
tasks but an owner's percentiles, which read the newest of theirs by index; the rest are sums, as many as a day has
minutes or a month half-hours, and for an owner as many times their names. Every answer has a fixed number of buckets.

What bites: percentiles of everybody come from a histogram whose buckets are 12 % wide (`RELATIVE_ERROR`), filled by the
sidecar that leads a few seconds after a run has ended; a correction that comes later counts beside what it corrects.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from oracle_celery.database.fetching import Fetch
from oracle_celery.database.sql import statement
from oracle_celery.database.trend_facts import (
    Minute,
    Percentiles,
    QueueSeries,
    QueueTrends,
    Statistics,
    TaskType,
    TaskTypes,
    Totals,
)
from oracle_celery.database.upkeep import BUCKETS_PER_OCTAVE
from oracle_celery.database.visibility import visible
from oracle_celery.viewer import Viewer

__all__ = ["RANGES", "RELATIVE_ERROR", "TYPES_LIMIT", "Trends", "finished_source"]

MINUTE = 60  # seconds
HOUR = 60 * MINUTE
HALF_HOUR = 30 * MINUTE
DAY = 24 * HOUR

#: Of a percentile out of the histogram: a bucket's middle against its edges.
RELATIVE_ERROR = 2 ** (1 / (2 * BUCKETS_PER_OCTAVE)) - 1
#: Names told in one answer, those with most tasks.
TYPES_LIMIT = 500
#: Tasks of which an owner's percentiles are.
NEWEST_TASKS = 2_000


class _Range(NamedTuple):
    seconds: int  # of each bucket
    buckets: int
    has_previous: bool = True  # statistics are kept for the same length of time before

    @property
    def is_of_minutes(self) -> bool:
        """Whether gauges are kept as long, and an owner's minutes are few enough to be read."""
        return self.seconds < HALF_HOUR


#: By the word that asks for it.
RANGES = {
    "1h": _Range(MINUTE, 60),
    "24h": _Range(5 * MINUTE, 288),
    "7d": _Range(HOUR, 168),
    "30d": _Range(4 * HOUR, 180, has_previous=False),
}


class Trends:
    """Reads over whatever fetches rows (see `fetching`)."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    async def statistics(self, viewer: Viewer, wanted: str) -> Statistics:
        """`wanted` is one of RANGES."""
        span = RANGES[wanted]
        parameters = _parameters(viewer, span)
        back = span.buckets * span.seconds * span.has_previous
        start = statement("range_start")
        since = f"{start} - interval '{back} seconds'"
        seen = visible(viewer, parameters)
        source = finished_source(viewer, seen, since, is_of_minutes=span.is_of_minutes)
        query = statement("trend").format(source=source, visible=seen, since=since, start=start)
        rows = await self._fetch(query, parameters)
        start_at, as_of = rows[0][:2]
        found = {row[2]: row[3:] for row in rows if row[2] is not None}
        buckets = [found.get(number, _NOTHING) for number in range(span.buckets)]
        gauges = await self._gauges(parameters, seen, span) if span.is_of_minutes else None
        return Statistics(
            range=wanted,
            start=_time(start_at),
            seconds=span.seconds,
            completed=[bucket[0] for bucket in buckets],
            failed=[bucket[1] for bucket in buckets],
            cancelled=[bucket[2] for bucket in buckets],
            mean_runtime=[_mean(bucket[4], bucket[3]) for bucket in buckets],
            queued=gauges[0] if gauges else None,
            active=gauges[1] if gauges else None,
            previous=_totals(found.get(-1, _NOTHING)) if span.has_previous else None,
            minute=Minute(completed=buckets[-1][5], failed=buckets[-1][6]),
            as_of=_time(as_of),
        )

    async def queues(self, wanted: str) -> QueueTrends:
        """For those who see everything; `wanted` is a range of minutes."""
        span = RANGES[wanted]
        parameters = {"width": float(span.seconds), "count": span.buckets}
        rows = await self._fetch(statement("queue_history").format(start=statement("range_start")), parameters)
        watched_query = statement("watched_buckets").format(start=statement("range_start"))
        [(start_at, watched)] = await self._fetch(watched_query, parameters)
        empty: dict[int, tuple[int | None, int | None]] = dict.fromkeys(watched, (0, 0))
        found: dict[str, dict[int, tuple[int, int]]] = {}
        for queue, bucket, queued, active in rows:
            found.setdefault(queue, {})[bucket] = (queued, active)
        series = []
        for queue, buckets in found.items():
            counted = empty | buckets
            known = [counted.get(number, (None, None)) for number in range(span.buckets)]
            waiting, active = map(list, zip(*known, strict=True))
            series.append(QueueSeries(queue=queue, waiting=waiting, active=active))
        return QueueTrends(range=wanted, start=_time(start_at), seconds=span.seconds, queues=series)

    async def task_types(self, viewer: Viewer) -> TaskTypes:
        """Of the last 24 hours, in half-hours."""
        parameters = _parameters(viewer, _Range(HALF_HOUR, DAY // HALF_HOUR)) | {"limit": TYPES_LIMIT}
        seen = visible(viewer, parameters)
        query = statement("type_counts").format(start=statement("range_start"), visible=seen)
        rows = await self._fetch(query, parameters)
        durations = await self._durations(viewer)
        since, as_of = rows[0][:2]
        types = [_type(row[3:], durations) for row in rows if row[2] is not None]
        total = rows[0][2] or 0
        return TaskTypes(types=types, total=total, since=_time(since), as_of=_time(as_of))

    async def _gauges(
        self, parameters: dict[str, Any], seen: str, span: _Range
    ) -> tuple[list[int | None], list[int | None]]:
        name = "gauges_of_all" if parameters["everyone"] else "gauges_of_owner"
        query = statement(name).format(start=statement("range_start"), visible=seen)
        found = {bucket: (queued, active) for bucket, queued, active in await self._fetch(query, parameters)}
        buckets = [found.get(number, (None, None)) for number in range(span.buckets)]
        return [queued for queued, _ in buckets], [active for _, active in buckets]

    async def _durations(self, viewer: Viewer) -> dict[tuple[str, bool], Percentiles]:
        parameters: dict[str, Any] = {}
        if viewer.sees_everything:
            rows = await self._fetch(statement("durations_of_all"), parameters)
            rows = [(*row[:3], _middle(row[3]), _middle(row[4])) for row in rows]
        else:
            parameters["newest"] = NEWEST_TASKS
            rows = await self._fetch(
                statement("durations_of_owner").format(visible=visible(viewer, parameters)), parameters
            )
        return {
            (name, is_wait): Percentiles(p50=p50, p95=p95, counted=counted) for name, is_wait, counted, p50, p95 in rows
        }


def finished_source(viewer: Viewer, seen: str, since: str, *, is_of_minutes: bool = True) -> str:
    """Where the sums of finished tasks are read: the fewest rows that say it."""
    parts = "minutes" if is_of_minutes else "half_hours"
    whose = "all" if viewer.sees_everything else "owner"
    return statement(f"{parts}_of_{whose}").format(visible=seen, since=since)


#: A bucket in which nothing finished: as `trend` tells one.
_NOTHING = (0, 0, 0, 0, 0.0, 0, 0)


def _parameters(viewer: Viewer, span: _Range) -> dict[str, Any]:
    return {
        "width": float(span.seconds),
        "count": span.buckets,
        "everyone": viewer.sees_everything,
        "scope": viewer.owner or "",
    }


def _totals(bucket: tuple[Any, ...]) -> Totals:
    completed, failed, cancelled, timed, runtime = bucket[:5]
    return Totals(
        completed=completed,
        failed=failed,
        cancelled=cancelled,
        mean_runtime=_mean(runtime, timed),
        failure_percent=_percent(failed, completed + failed),
    )


def _type(row: tuple[Any, ...], durations: dict[tuple[str, bool], Percentiles]) -> TaskType:
    name, completed, failed, cancelled, timed, runtime, recent, places, tasks = row
    half_hours = [0] * (DAY // HALF_HOUR)
    for place, count in zip(places, tasks, strict=True):
        half_hours[min(place, len(half_hours) - 1)] += count
    return TaskType(
        name=name or None,
        finished=completed + failed + cancelled,
        completed=completed,
        failed=failed,
        cancelled=cancelled,
        failure_percent=_percent(failed, completed + failed),
        per_minute=recent / 10,
        mean_runtime=_mean(runtime, timed),
        runtime=durations.get((name, False)),
        wait=durations.get((name, True)),
        half_hours=half_hours,
    )


def _middle(bucket: int) -> float:
    """Seconds in the geometric middle of a bucket of the histogram."""
    return float(2 ** ((bucket + 0.5) / BUCKETS_PER_OCTAVE))


def _mean(total: float, count: int) -> float | None:
    return total / count if count > 0 else None


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole > 0 else None


def _time(at: datetime) -> str:
    return at.isoformat(timespec="microseconds") + "Z"
