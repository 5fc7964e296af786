"""The readers of what tasks have logged: pages of one task's lines, and what those who follow tasks have not seen.

Guarantee: a page and the cursor that comes with it are of one snapshot, so "a page, then what its cursor has not seen"
has no gap; a cursor remembers transactions (see `cursor`), so lines that are committed late are not lost. Whoever may
not see a task's payloads is told nothing of its log, not even how long it is. What bites: a transaction is never cut,
so a follower is given as many lines at once as one batch of a recorder holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from oracle_celery.database.cursor import Cursor, CursorUnusable, Snapshot
from oracle_celery.database.facts import LogPage, LogRun, TaskLogLine
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.horizon import MarksReader, told_since
from oracle_celery.database.marks import MarkedFetch, unmarked
from oracle_celery.database.sql import statement
from oracle_celery.database.visibility import visible
from oracle_celery.errors import TaskNotFound
from oracle_celery.viewer import Viewer

__all__ = ["Following", "LogQueries", "News"]

#: Lines of one task that are counted; where there are more, fewer are said to be missing.
COUNTED_LIMIT = 200_000
#: Beyond every line: a page before it is the last one.
END = 2**63 - 1

_SNAPSHOT_WIDTH = len(Snapshot.__struct_fields__)


class Following(msgspec.Struct, frozen=True):
    """One who follows a task, and what they have seen."""

    task_id: str
    viewer: Viewer
    cursor: Cursor


class News(msgspec.Struct, frozen=True):
    """What a follower had not seen; `cursor` has seen it, or is None, and `problem` says why there is no going on."""

    lines: list[TaskLogLine]
    cursor: Cursor | None
    more: bool = False
    problem: str = ""


class LogQueries:
    """Over whatever fetches rows (see `fetching`)."""

    def __init__(self, fetch: Fetch, marked: MarkedFetch | None = None) -> None:
        """`marked`: what reads in a standby go through, where there is one."""
        self._fetch = fetch
        self._marks = MarksReader(fetch)
        self._marked = marked or unmarked(fetch)

    async def page(
        self,
        viewer: Viewer,
        task_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        run_id: str | None = None,
        level: int = 0,
        limit: int = 200,
        counts: bool = True,
    ) -> LogPage:
        """Lines after a line, or the last ones before one, of every level from `level` on. Raises TaskNotFound, also
        for a task that is not the viewer's."""
        is_backwards = before is not None
        parameters: dict[str, Any] = {
            "task_id": task_id,
            "line_id": before if before is not None else after or 0,
            "since": await told_since(self._fetch, viewer, task_id),
            "limit": limit + 1,
            "sees_payloads": viewer.sees_payloads,
        }
        query = statement("log_page").format(
            snapshot=statement("snapshot"),
            visible=visible(viewer, parameters),
            position=statement("log_before" if is_backwards else "log_after"),
            where=_where(run_id, level, parameters),
            order="g.txid DESC, g.line_id DESC" if is_backwards else "g.txid, g.line_id",
        )
        rows, mark = await self._marked(query, parameters)
        if not rows:
            raise TaskNotFound(task_id=task_id)
        cursor = mark.log_cursor if mark else Cursor.at(_snapshot(rows[0]), rows[0][_SNAPSHOT_WIDTH])
        start = _SNAPSHOT_WIDTH + 2
        found = [_line(row[start:]) for row in rows if row[start] is not None]
        is_cut = len(found) > limit
        lines = (found[1:] if is_backwards else found[:-1]) if is_cut else found
        return LogPage(
            lines=lines,
            next=lines[-1].line_id if is_cut and not is_backwards else None,
            previous=lines[0].line_id if is_cut and is_backwards else None,
            runs=await self._runs(viewer, task_id, parameters["since"]) if counts else [],
            cursor=str(cursor),
            payloads_withheld=not viewer.sees_payloads,
            lines_deleted_until=rows[0][start - 1],
        )

    async def news(self, followings: Sequence[Following], limit: int) -> list[News]:
        """What each has not seen, at most about `limit` lines of each; one read for all."""
        parameters = {
            "followers": list(range(len(followings))),
            "task_ids": [following.task_id for following in followings],
            "owners": [following.viewer.owner for following in followings],
            "see_payloads": [following.viewer.sees_payloads for following in followings],
            "xmaxs": [str(following.cursor.xmax) for following in followings],
            "xips": [",".join(map(str, following.cursor.xip)) for following in followings],
            "since": (await self._marks.marks()).logs_since(following.cursor for following in followings),
            "limit": limit,
        }
        rows = await self._fetch(statement("log_news").format(snapshot=statement("snapshot")), parameters)
        snapshot = _snapshot(rows[0])
        told: list[list[Any]] = [[] for _ in followings]
        for row in rows:
            if row[_SNAPSHOT_WIDTH] is not None:
                told[row[_SNAPSHOT_WIDTH]].append(row[_SNAPSHOT_WIDTH + 1 :])
        return [_news(following, snapshot, found, limit) for following, found in zip(followings, told, strict=True)]

    async def _runs(self, viewer: Viewer, task_id: str, since: datetime) -> list[LogRun]:
        parameters: dict[str, Any] = {
            "task_id": task_id,
            "since": since,
            "limit": COUNTED_LIMIT,
            "sees_payloads": viewer.sees_payloads,
        }
        query = statement("log_runs").format(visible=visible(viewer, parameters))
        return [
            LogRun(
                run_id=run_id,
                attempt=attempt,
                lines=lines,
                not_kept=max(0, not_kept),
                reasons=reasons,
                trace_id=trace_id,
                span_id=span_id,
            )
            for run_id, attempt, lines, not_kept, reasons, trace_id, span_id in await self._fetch(query, parameters)
        ]


def _where(run_id: str | None, level: int, parameters: dict[str, Any]) -> str:
    conditions = []
    if run_id is not None:
        parameters["run_id"] = run_id
        conditions.append("g.run_id = %(run_id)s")
    if level > 0:
        parameters["level"] = level
        conditions.append("(g.level >= %(level)s OR g.message IS NULL)")
    return " AND ".join(conditions) or "true"


def _news(following: Following, snapshot: Snapshot, found: list[Any], limit: int) -> News:
    try:
        following.cursor.check(snapshot)
    except CursorUnusable as unusable:
        return News(lines=[], cursor=None, problem=unusable.reason)
    is_cut = len(found) >= limit
    cursor = following.cursor.advanced(snapshot, found[-1][0] if found else None, is_cut=is_cut)
    return News(lines=[_line(row[1:]) for row in found], cursor=cursor, more=is_cut)


def _line(row: Sequence[Any]) -> TaskLogLine:
    line_id, at, level, logger, message, run_id, number, span_id = row
    return TaskLogLine(
        line_id=line_id,
        at=_time(at),
        level=level,
        logger=logger,
        message=message,
        run_id=run_id,
        number=number,
        span_id=span_id,
    )


def _snapshot(row: Sequence[Any]) -> Snapshot:
    system_id, timeline, xmin, xmax, xip, floor, is_standby = row[:_SNAPSHOT_WIDTH]
    return Snapshot(system_id & (2**63 - 1), timeline, xmin, xmax, tuple(xip), floor, is_standby)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds") + "Z"
