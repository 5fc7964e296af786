"""The reader of how far running tasks say that they are: all of it, and what is new.

Guarantee: the newest word of a task is among the news of every cursor that has not seen it; older ones may never be
told. What bites: a word is a payload of its task.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from oracle_celery.database.cursor import Cursor, Snapshot
from oracle_celery.database.facts import ProgressList, TaskProgress
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.sql import statement
from oracle_celery.database.visibility import visible
from oracle_celery.viewer import Viewer

__all__ = ["ProgressNews", "ProgressQueries"]

_SNAPSHOT_WIDTH = len(Snapshot.__struct_fields__)


class ProgressNews(msgspec.Struct, frozen=True):
    """With the owner of each task; `cursor` has seen it."""

    told: list[tuple[str | None, TaskProgress]]
    cursor: Cursor
    more: bool


class ProgressQueries:
    """Over whatever fetches rows (see `fetching`)."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    async def current(self, viewer: Viewer, limit: int) -> ProgressList:
        parameters: dict[str, Any] = {"limit": limit, "sees_payloads": viewer.sees_payloads}
        rows = await self._fetch(statement("progress").format(visible=visible(viewer, parameters)), parameters)
        return ProgressList(tasks=[_progress(row) for row in rows], payloads_withheld=not viewer.sees_payloads)

    async def start_cursor(self) -> Cursor:
        """The cursor that has seen everything so far."""
        [row] = await self._fetch(statement("progress_cursor").format(snapshot=statement("snapshot")), {})
        return Cursor.at(_snapshot(row), row[_SNAPSHOT_WIDTH])

    async def news(self, cursor: Cursor, limit: int) -> ProgressNews:
        """Everybody's, for whoever hands each to those who may see it. Raises CursorUnusable."""
        parameters = {"xip": [str(x) for x in cursor.xip], "xmax": str(cursor.xmax), "limit": limit}
        rows = await self._fetch(statement("progress_news").format(snapshot=statement("snapshot")), parameters)
        snapshot = _snapshot(rows[0])
        cursor.check(snapshot)
        found = [row[_SNAPSHOT_WIDTH:] for row in rows if row[_SNAPSHOT_WIDTH] is not None]
        is_cut = len(found) >= limit
        advanced = cursor.advanced(snapshot, found[-1][0] if found else None, is_cut=is_cut)
        return ProgressNews([(row[1], _progress(row[2:])) for row in found], advanced, is_cut)


def _progress(row: Sequence[Any]) -> TaskProgress:
    task_id, run_id, state, meta, at = row
    return TaskProgress(
        task_id=task_id,
        run_id=run_id,
        state=state,
        meta=None if meta is None else msgspec.Raw(meta.encode()),
        at=_time(at),
    )


def _snapshot(row: Sequence[Any]) -> Snapshot:
    system_id, timeline, xmin, xmax, xip, floor, is_standby = row[:_SNAPSHOT_WIDTH]
    return Snapshot(system_id & (2**63 - 1), timeline, xmin, xmax, tuple(xip), floor, is_standby)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds") + "Z"
