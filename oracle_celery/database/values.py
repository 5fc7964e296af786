"""The reader of what may be looked for: values of fields, for completion, and counts by status within a query.

Guarantee: bounded. Values come from the statistics and the workers, never from tasks; counts are exact from the gauges
where a query asks of names and queues alone, else tasks are counted up to a limit, and given up where even that takes
too long: a count that is not known is None, never a guess. As everywhere, an owner's values and counts are made of
their own tasks. What bites: a name that no task of the last day had is not proposed.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from oracle_celery.database.fetching import Fetch
from oracle_celery.database.listing import TaskFilter, condition
from oracle_celery.database.query_language import TaskQuery
from oracle_celery.database.sql import statement
from oracle_celery.database.texts import like
from oracle_celery.database.visibility import visible
from oracle_celery.errors import QueryTooBroad
from oracle_celery.states import Status
from oracle_celery.viewer import Viewer

__all__ = ["VALUE_FIELDS", "FieldValue", "FieldValues", "StatusCount", "StatusCounts", "ValueQueries"]

#: Fields whose values are proposed.
VALUE_FIELDS = ("name", "queue", "user", "worker")
#: Tasks of one status that are counted one by one; more are "more than that".
COUNTED_TASKS = 10_000
#: Rows of statistics that one proposal reads at most, and minutes of one user.
STATISTIC_ROWS, USER_ROWS = 200_000, 5_000
#: Seconds that one answer may count.
COUNTING_SECONDS = 0.5

_GAUGES = (Status.PENDING, Status.IN_PROGRESS)
_GAUGE_FIELDS = frozenset({"name", "queue"})


class FieldValue(msgspec.Struct, frozen=True):
    value: str
    count: int | None  # tasks of the last day (of a worker: that it runs now); null where it is not known


class FieldValues(msgspec.Struct, frozen=True):
    values: list[FieldValue]


class StatusCount(msgspec.Struct, frozen=True):
    count: int
    is_more: bool  # there are more than that


class StatusCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that match, by status; null where it is not known."""

    pending: StatusCount | None = None
    in_progress: StatusCount | None = None
    completed: StatusCount | None = None
    failed: StatusCount | None = None
    cancelled: StatusCount | None = None


class ValueQueries:
    """Reads over whatever fetches rows (see `fetching`); `hasty` gives up soon and raises QueryTooBroad."""

    def __init__(self, fetch: Fetch, hasty: Fetch) -> None:
        self._fetch = fetch
        self._hasty = hasty

    async def values(self, viewer: Viewer, field: str, part: str, limit: int) -> FieldValues:
        """Values of one of VALUE_FIELDS that have `part` in them (a user: that begin with it)."""
        parameters: dict[str, Any] = {"part": part, "limit": limit, "rows": STATISTIC_ROWS, **_scope(viewer)}
        if field == "user":
            parameters |= {"rows": USER_ROWS, "like": like(f"{part.replace('*', '')}*")}
        name = {"user": "counted_users", "worker": "counted_workers"}.get(field, "counted_values")
        query = statement(name).format(field=field, visible=visible(viewer, parameters))
        try:
            rows = await self._hasty(query, parameters)
        except QueryTooBroad:
            rows = []
        return FieldValues(values=[FieldValue(value, count) for value, count in rows])

    async def counts(self, viewer: Viewer, query: TaskQuery) -> StatusCounts:
        """Within the rest of the query: what it says of the status is left out."""
        rest = TaskQuery(query.text, tuple(term for term in query.terms if term.field != "status"))
        found: dict[str, StatusCount | None] = {}
        deadline = time.monotonic() + COUNTING_SECONDS
        if all(term.field in _GAUGE_FIELDS for term in rest.terms):
            found |= await self._gauges(viewer, rest)
        for status in (Status.FAILED, Status.CANCELLED, Status.IN_PROGRESS, Status.PENDING, Status.COMPLETED):
            if status.word not in found and time.monotonic() < deadline:
                found[status.word] = await self._bounded(viewer, status, rest)
        return StatusCounts(**found)

    async def _gauges(self, viewer: Viewer, rest: TaskQuery) -> dict[str, StatusCount | None]:
        parameters: dict[str, Any] = _scope(viewer)
        where = condition(TaskFilter(q=rest), viewer, parameters)
        query = statement("counted_gauges").format(where=where, visible=visible(viewer, parameters))
        counted: dict[int, int] = dict(await self._fetch(query, parameters))
        return {status.word: StatusCount(max(0, counted.get(status, 0)), is_more=False) for status in _GAUGES}

    async def _bounded(self, viewer: Viewer, status: Status, rest: TaskQuery) -> StatusCount | None:
        parameters: dict[str, Any] = {"most": COUNTED_TASKS}
        where = condition(TaskFilter(q=rest), viewer, parameters)
        query = statement("bounded_count").format(status=int(status), where=where, visible=visible(viewer, parameters))
        try:
            [(count,)] = await self._hasty(query, parameters)
        except QueryTooBroad:
            return None
        return StatusCount(min(count, COUNTED_TASKS), is_more=count > COUNTED_TASKS)


def _scope(viewer: Viewer) -> dict[str, Any]:
    """In the statistics '' stands for everyone's sums."""
    return {"everyone": viewer.sees_everything, "counted_user": viewer.owner or ""}
