"""The only reader of tasks. Every method takes the viewer who asks; what they may see is decided here, in SQL.

Guarantee: rows and the cursor that comes with them are of one snapshot, so "this list, then everything after its
cursor" has no gap and no overlap. What bites: JSON is read as text, because a parsed number may not be what was stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import psycopg

from oracle_celery.database.cursor import Cursor, Snapshot
from oracle_celery.database.facts import (
    HistoryEntry,
    Summary,
    Task,
    TaskDetail,
    TaskDetails,
    TaskPage,
    Transition,
    TransitionEvent,
)
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.horizon import MarksReader, told_since
from oracle_celery.database.listing import (
    SORT_KEYS,
    TaskFilter,
    condition,
    next_page,
    order,
    page_condition,
    sort_expression,
    source,
)
from oracle_celery.database.marks import MarkedFetch, unmarked
from oracle_celery.database.sql import statement
from oracle_celery.database.trends import finished_source
from oracle_celery.database.visibility import visible, visible_to_any
from oracle_celery.errors import BadQuery, TaskNotFound
from oracle_celery.states import Status
from oracle_celery.viewer import ORACLE, Viewer

__all__ = ["SORT_KEYS", "Changes", "Queries", "Summary", "Task", "TaskDetail", "TaskFilter", "TaskPage", "task_of"]

#: Sees every task.
EVERYBODYS = ORACLE.viewer
#: Entries of a task's history that are shown.
HISTORY_LIMIT = 1_000

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # everything here is in UTC and says so only in text
_MICROSECOND = timedelta(microseconds=1)
_WORDS = {status.value: status.word for status in Status}
_SNAPSHOT_WIDTH = len(Snapshot.__struct_fields__)
#: Columns of `task_columns`: the fields of a Task, with the version's run_at and rank in the place of the version.
_TASK_WIDTH = len(Task.__struct_fields__) + 1


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a cursor had not seen; `cursor` has seen it."""

    transitions: list[Transition]
    read: int  # how many rows were looked at; those of tasks that the viewer may not see are not among the transitions
    cursor: Cursor
    more: bool  # there may be more to read at once


class Queries:
    """All reads, over whatever fetches rows (see `fetching`)."""

    def __init__(self, fetch: Fetch, marked: MarkedFetch | None = None) -> None:
        """`marked`: what reads in a standby go through, where there is one."""
        self._fetch = fetch
        self._marks = MarksReader(fetch)
        self._marked = marked or unmarked(fetch)

    async def list_tasks(
        self, viewer: Viewer, wanted: TaskFilter, sort: str = "-created_at", limit: int = 50, page: str | None = None
    ) -> TaskPage:
        """One page. Raises BadQuery for a page that is not of this sort."""
        parameters: dict[str, Any] = {"limit": limit + 1, **(await self._marks.marks()).latest()}
        where = condition(wanted, viewer, parameters)
        after = page_condition(sort, page, parameters)
        query = _composed(
            *("list_tasks", viewer, parameters),
            source=source(sort, f"{visible(viewer, parameters)} AND {where}", after),
            where=where,
            after=after,
            order=order(sort),
            key=sort_expression(sort),
        )
        try:
            rows, mark = await self._marked(query, parameters)
        except psycopg.DataError as error:  # only the page's own key is text that PostgreSQL parses
            raise BadQuery(parameter="page", value=page, allowed="the next_page of an earlier answer") from error
        cursor = mark.cursor if mark else Cursor.at(Snapshot.of(rows[0]), rows[0][_SNAPSHOT_WIDTH])
        start = _SNAPSHOT_WIDTH + 1
        found = [row[start:] for row in rows if row[start] is not None]
        following = None
        if len(found) > limit:
            last = found[limit - 1]
            following = next_page(sort, last[_TASK_WIDTH], last[0])
        tasks = [Task(**_task_fields(row)) for row in found[:limit]]
        return TaskPage(tasks=tasks, next_page=following, cursor=str(cursor))

    async def task(self, viewer: Viewer, task_id: str) -> TaskDetail:
        """Raises TaskNotFound, also for a task that is not the viewer's."""
        parameters: dict[str, Any] = {
            "task_id": task_id,
            "limit": HISTORY_LIMIT,
            "sees_payloads": viewer.sees_payloads,
            "since": await told_since(self._fetch, viewer, task_id),
            **(await self._marks.marks()).latest(),
        }
        rows, mark = await self._marked(_composed("task", viewer, parameters), parameters)
        if not rows:
            raise TaskNotFound(task_id=task_id)
        [row] = rows
        start = _SNAPSHOT_WIDTH + 1
        arguments, result, error_message, traceback, origin, deleted_until, history = row[start + _TASK_WIDTH :]
        task = TaskDetails(
            **_task_fields(row[start:]),
            arguments=_raw(arguments),
            result_payload=_raw(result),
            error_message=error_message,
            traceback=traceback,
            origin=origin,
            payloads_withheld=not viewer.sees_payloads,
        )
        cursor = mark.cursor if mark else Cursor.at(Snapshot.of(row), row[_SNAPSHOT_WIDTH])
        return TaskDetail(
            task=task,
            history=[_history_entry(entry) for entry in history],
            history_deleted_until=deleted_until,
            cursor=str(cursor),
        )

    async def summary(self, viewer: Viewer) -> Summary:
        parameters: dict[str, Any] = {"everyone": viewer.sees_everything, "scope": viewer.owner or ""}
        source = finished_source(viewer, visible(viewer, parameters), "now() - interval '24 hours'")
        [row] = await self._fetch(_composed("summary", viewer, parameters, source=source), parameters)
        return _summary(row)

    async def summaries(self, owners: Sequence[str]) -> dict[str, Summary]:
        """Each owner's own."""
        parameters: dict[str, Any] = {}
        query = statement("summaries").format(visible=visible_to_any(owners, parameters))
        rows = await self._fetch(query, parameters)
        return dict(zip(parameters["owners"], map(_summary, rows), strict=True))

    async def changes(self, cursor: Cursor, limit: int = 1_000, viewer: Viewer = EVERYBODYS) -> Changes:
        """Transitions of the viewer's tasks that `cursor` has not seen; without a viewer everybody's, for whoever hands
        each to those who may see it. A transaction is never cut, so more than `limit` rows may be looked at. Raises
        CursorUnusable."""
        parameters: dict[str, Any] = {
            "xip": [str(x) for x in cursor.xip],
            "xmax": str(cursor.xmax),
            "since": (await self._marks.marks()).since(cursor),
            "limit": limit,
        }
        rows = await self._fetch(_composed("changes", viewer, parameters), parameters)
        snapshot = Snapshot.of(rows[0])
        cursor.check(snapshot)
        found = [row[_SNAPSHOT_WIDTH:] for row in rows if row[_SNAPSHOT_WIDTH] is not None]
        is_cut = len(found) >= limit
        advanced = cursor.advanced(snapshot, found[-1][0] if found else None, is_cut=is_cut)
        transitions = [_transition(row) for row in found if row[5] is not None]  # else it is not there for this viewer
        return Changes(transitions=transitions, read=len(found), cursor=advanced, more=is_cut)

    async def start_cursor(self) -> Cursor:
        """The cursor that has seen everything so far."""
        query = statement("start_cursor").format(snapshot=statement("snapshot"), latest=statement("latest_transaction"))
        [row] = await self._fetch(query, (await self._marks.marks()).latest())
        return Cursor.at(Snapshot.of(row), row[_SNAPSHOT_WIDTH])

    async def earlier_cursor(self, transitions: int) -> Cursor:
        """A cursor after which there are about so many transitions, or all that there are. Nobody has been told that
        it has seen anything: it is good for reading from it, by whoever wants to know what was lately."""
        query = statement("earlier_cursor").format(snapshot=statement("snapshot"))
        [row] = await self._fetch(query, {"transitions": transitions})
        snapshot = Snapshot.of(row)
        return Cursor(snapshot.system_id, snapshot.timeline, max(row[_SNAPSHOT_WIDTH] or 0, snapshot.floor))


def _composed(name: str, viewer: Viewer, parameters: dict[str, Any], **parts: str) -> str:
    return statement(name).format(
        snapshot=statement("snapshot"),
        latest=statement("latest_transaction"),
        task=statement("task_columns"),
        visible=visible(viewer, parameters),
        **parts,
    )


def _summary(row: Sequence[Any]) -> Summary:
    queued, active, completed, failed, timed, runtime, *minute, workers, slots, dropped, quarantined, as_of = row
    finished = completed + failed
    return Summary(
        queued=queued,
        active=active,
        failure_percent_24h=100 * failed / finished if finished > 0 else None,
        mean_runtime_24h=runtime / timed if timed > 0 else None,
        finished_24h=finished,
        failed_24h=failed,
        completed_minute=minute[0],
        failed_minute=minute[1],
        workers=workers,
        slots=slots,
        dropped=dropped,
        quarantined=quarantined,
        as_of=_time(as_of),
    )


def task_of(row: Sequence[Any]) -> tuple[Task, Sequence[Any]]:
    """The task that a row begins with, as `task_columns` has it, and the row's other columns."""
    return Task(**_task_fields(row)), row[_TASK_WIDTH:]


def _task_fields(row: Sequence[Any]) -> dict[str, Any]:
    return {
        "task_id": row[0],
        "name": row[1],
        "status": _WORDS[row[2]],
        "reason": row[3],
        "user_id": row[4],
        "queue": row[5],
        "worker": row[6],
        "retries": row[7],
        "created_at": _time(row[8]),
        "received_at": _optional_time(row[9]),
        "started_at": _optional_time(row[10]),
        "finished_at": _optional_time(row[11]),
        "runtime": row[12],
        "eta": _optional_time(row[13]),
        "expires": _optional_time(row[14]),
        "trace_id": row[15],
        "span_id": row[16],
        "trace_sampled": row[17],
        "parent_trace_id": row[18],
        "correlation_id": row[19],
        "root_id": row[20],
        "parent_id": row[21],
        "group_id": row[22],
        "error_type": row[23],
        "version": (row[7], (row[24] - _EPOCH) // _MICROSECOND, row[25]),
    }


def _transition(row: Sequence[Any]) -> Transition:
    txid, history_id, status, reason, at = row[:5]
    task = Task(**_task_fields(row[5:]))
    event = TransitionEvent(
        history_id=history_id,
        task_id=task.task_id,
        new_status=_WORDS[status],
        reason=reason,
        timestamp=_time(at),
        task=task,
    )
    return Transition(txid=txid, user_id=task.user_id, public=event)


def _history_entry(text: str) -> HistoryEntry:
    fields = dict(zip(HistoryEntry.__struct_fields__, msgspec.json.decode(text), strict=True))
    fields["status"] = _WORDS[fields["status"]]
    return HistoryEntry(**fields)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds") + "Z"


def _optional_time(moment: datetime | None) -> str | None:
    return None if moment is None else _time(moment)


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
