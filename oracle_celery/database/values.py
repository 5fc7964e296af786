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
from oracle_celery.database.texts import end_of
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
COUNTING_SECONDS = 0.8
#: Seconds that names and queues are remembered while somebody types on, how many of them, and of how many viewers.
REMEMBERED_SECONDS, REMEMBERED_VALUES, REMEMBERED_VIEWERS = 30.0, 2_000, 200

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
        self._remembered: dict[tuple[str, str | None], tuple[float, list[FieldValue]]] = {}

    async def values(self, viewer: Viewer, field: str, part: str, limit: int) -> FieldValues:
        """Values of one of VALUE_FIELDS that have `part` in them (a user: that begin with it)."""
        if field == "user":
            beginning = part.replace("*", "")
            asked = {"rows": USER_ROWS, "part": beginning, "end": end_of(beginning), "limit": limit}
            before = "true" if asked["end"] is None else "t.user_id < %(end)s"
            return FieldValues(values=await self._read("counted_users", viewer, asked, before=before))
        if field == "worker":
            asked = {"rows": STATISTIC_ROWS, "part": part, "limit": limit}
            return FieldValues(values=await self._read("counted_workers", viewer, asked))
        known = [value for value in await self._known(viewer, field) if part in value.value]
        return FieldValues(values=known[:limit])

    async def _known(self, viewer: Viewer, field: str) -> list[FieldValue]:
        """All names or queues, for a while: each key that somebody presses asks again."""
        key, now = (field, viewer.owner), time.monotonic()
        at, values = self._remembered.get(key, (-REMEMBERED_SECONDS, []))
        if now - at < REMEMBERED_SECONDS:
            return values
        asked = {"rows": STATISTIC_ROWS, "limit": REMEMBERED_VALUES}
        values = await self._read("counted_values", viewer, asked, field=field)
        self._remembered.pop(key, None)
        while len(self._remembered) >= REMEMBERED_VIEWERS:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[key] = (now, values)
        return values

    async def _read(self, name: str, viewer: Viewer, parameters: dict[str, Any], **parts: str) -> list[FieldValue]:
        """Nothing, where it would take too long."""
        parameters = parameters | _scope(viewer)
        query = statement(name).format(visible=visible(viewer, parameters), **parts)
        try:
            rows = await self._hasty(query, parameters)
        except QueryTooBroad:
            return []
        return [FieldValue(value, count) for value, count in rows]

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
