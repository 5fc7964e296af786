"""How a list of tasks is filtered, sorted and cut into pages, as SQL.

Pages go by key, not by offset: a page begins after the last row of the one before, however many rows have come in
since. Names of columns come from the tables below and nowhere else; every value is a parameter. Rows without a value
come last in either direction.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec

from oracle_celery.database.query_language import EVERYTHING, TaskQuery, query_condition
from oracle_celery.database.sql import statement
from oracle_celery.database.texts import end_of, like
from oracle_celery.errors import BadQuery
from oracle_celery.states import Status
from oracle_celery.viewer import Viewer

__all__ = [
    "SORT_KEYS",
    "TaskFilter",
    "condition",
    "next_page",
    "order",
    "page_condition",
    "sort_expression",
    "source",
]

#: What a list may be sorted by, with the type of its column. An index has the order of the first two; of the others the
#: newest SORTED_TASKS that match are sorted, so that no order reads all tasks there are.
_TYPES = {
    "created_at": "timestamptz",
    "task_id": "text",
    "name": "text",
    "status": "smallint",
    "user_id": "text",
    "queue": "text",
    "worker": "text",
    "retries": "integer",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "wait": "interval",
    "runtime": "double precision",
}
#: What is sorted by that is no column: how long a task waited until its newest run, as the query language's `wait` has
#: it. What waits still comes last: it would change its place between two pages.
_EXPRESSIONS = {"wait": "(CASE WHEN t.status <> 0 THEN coalesce(t.started_at, t.finished_at) - t.created_at END)"}
SORT_KEYS = tuple(_TYPES)
INDEXED = frozenset({"created_at", "task_id"})
SORTED_TASKS = 10_000
_NEVER_NULL = frozenset({"created_at", "task_id", "status", "retries"})


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks; the values of one field are alternatives, an empty field asks for nothing."""

    status: tuple[Status, ...] = ()
    name: tuple[str, ...] = ()  # an asterisk stands for any characters, in name, queue and worker
    user: tuple[str, ...] = ()
    queue: tuple[str, ...] = ()
    worker: tuple[str, ...] = ()
    id: tuple[str, ...] = ()  # beginnings of task ids
    q: TaskQuery = EVERYTHING  # the query language; narrows the others down


class _Page(msgspec.Struct, frozen=True, array_like=True):
    sort: str
    key: str | None
    task_id: str


def condition(wanted: TaskFilter, viewer: Viewer, parameters: dict[str, Any]) -> str:
    """What the filter asks of row ``t``. The viewer's own predicate is not in it."""
    parts = [query_condition(wanted.q, viewer, parameters)] if wanted.q.terms else []
    if wanted.status:
        codes = ", ".join(str(int(status)) for status in wanted.status)  # literals: a partial index must be recognised
        parts.append(f"t.status IN ({codes})")
    if wanted.user:
        parts.append(_equal("t.user_id", "user", wanted.user, parameters))
    for field in ("name", "queue", "worker"):
        values: tuple[str, ...] = getattr(wanted, field)
        exact = [value for value in values if "*" not in value]
        patterns = [like(value) for value in values if "*" in value]
        tests = [_equal(f"t.{field}", field, exact, parameters)] if exact else []
        if patterns:
            parameters[f"{field}_like"] = patterns
            tests.append(f"t.{field} LIKE ANY (%({field}_like)s)")
        if tests:
            parts.append(f"({' OR '.join(tests)})")
    if wanted.id:
        ranges = []
        for number, prefix in enumerate(wanted.id):
            parameters[f"id_{number}"] = prefix
            ranges.append(f"t.task_id >= %(id_{number})s")
            if end := end_of(prefix):
                parameters[f"id_{number}_end"] = end
                ranges[-1] += f" AND t.task_id < %(id_{number}_end)s"
        parts.append(f"({' OR '.join(ranges)})")
    return " AND ".join(parts) or "true"


def _equal(expression: str, name: str, values: Sequence[str], parameters: dict[str, Any]) -> str:
    """Of one value alone an index has the rows in order; of several it would have to sort all there are."""
    if len(values) == 1:
        parameters[name] = values[0]
        return f"{expression} = %({name})s"
    parameters[name] = list(values)
    return f"{expression} = ANY (%({name})s)"


def source(sort: str, found: str, after: str) -> str:
    """Where the rows ``t`` of a list come from; `found` is what is asked of each, `after` the page's condition. What is
    sorted are keys and ids: whole rows, and all that is told of them, are made for one page alone."""
    column, _ = _column(sort)
    if column in INDEXED:
        return "oracle.task_state_record AS t"
    return statement("sorted_tasks").format(found=found, after=after, sorted_tasks=SORTED_TASKS, order=order(sort))


def order(sort: str) -> str:
    """`sort` is one of SORT_KEYS, with a leading minus for the largest first."""
    column, direction = _column(sort)
    if column == "task_id":
        return f"t.task_id {direction}"
    nulls = "" if column in _NEVER_NULL else " NULLS LAST"
    return f"{sort_expression(sort)} {direction}{nulls}, t.task_id {direction}"


def sort_expression(sort: str) -> str:
    """What row ``t`` is sorted by."""
    column, _ = _column(sort)
    return _EXPRESSIONS.get(column, f"t.{column}")


def page_condition(sort: str, page: str | None, parameters: dict[str, Any]) -> str:
    """What makes row ``t`` come after the page before."""
    if page is None:
        return "true"
    last = _parse(page)
    if last.sort != sort or (last.key is None and sort.lstrip("-") in _NEVER_NULL):
        raise BadQuery(parameter="page", value=page, allowed="the next_page of an answer with the same sort")
    parameters["last_id"] = last.task_id
    parameters["last_key"] = last.key
    column, direction = _column(sort)
    expression = sort_expression(sort)
    sign = "<" if direction == "DESC" else ">"
    if last.key is None:
        return f"({expression} IS NULL AND t.task_id {sign} %(last_id)s)"
    beyond = f"({expression}, t.task_id) {sign} (%(last_key)s::text::{_TYPES[column]}, %(last_id)s)"
    return beyond if column in _NEVER_NULL else f"({beyond} OR {expression} IS NULL)"


def next_page(sort: str, key: str | None, task_id: str) -> str:
    """The page after a row, opaque to clients."""
    return base64.urlsafe_b64encode(msgspec.json.encode(_Page(sort, key, task_id))).decode().rstrip("=")


def _parse(page: str) -> _Page:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(page + "=" * (-len(page) % 4)), type=_Page)
    except (msgspec.DecodeError, UnicodeError, ValueError, binascii.Error) as error:
        raise BadQuery(parameter="page", value=page, allowed="the next_page of an earlier answer") from error


def _column(sort: str) -> tuple[str, str]:
    column = sort.removeprefix("-")
    if column not in _TYPES:
        raise BadQuery(parameter="sort", value=sort, allowed=", ".join(SORT_KEYS))
    return column, "DESC" if sort.startswith("-") else "ASC"
