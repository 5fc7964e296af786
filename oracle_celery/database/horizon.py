"""Which part of the history a reader has to look into: partitions go by time, cursors by transactions.

The leader writes down, each hour, which transaction was to come next at which time. Whatever a later transaction stored
it stored after that time, so a reader that has seen all earlier ones leaves older partitions alone, already when its
statement is planned. Guarantee: without marks, with old ones or with those of another server everything is looked into;
a mark only ever saves work. What bites: the server's clock. Where it is set back by more than `SLACK`, news stays
unread until the leader has set the marks right, in its next round.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from oracle_celery.database.cursor import Cursor
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.sql import statement
from oracle_celery.database.visibility import visible
from oracle_celery.errors import TaskNotFound
from oracle_celery.viewer import Viewer

__all__ = ["Marks", "MarksReader", "told_since"]

#: By so much a transaction may have stored before the mark that it comes after: what was under way, and clocks that are
#: set right.
SLACK = timedelta(hours=1)
#: Seconds for which marks that were read are good: they only ever get more.
FRESH_SECONDS = 60.0

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Mark(msgspec.Struct, frozen=True):
    txid: int  # of what stored after `at`, the first
    latest: int  # of the history that was known then, the last
    at: datetime


class Marks:
    """Those of one read."""

    def __init__(self, rows: Iterable[Sequence[Any]] = ()) -> None:
        self._marks = [Mark(*row) for row in rows]

    def since(self, cursor: Cursor) -> datetime:
        """No history that the cursor has not seen was stored before: at the mark nothing was known of what it has not
        seen, so that came in later, or was under way."""
        lowest = _lowest(cursor)
        return max((mark.at - SLACK for mark in self._marks if mark.latest < lowest), default=_BEGINNING)

    def logs_since(self, cursors: Iterable[Cursor]) -> datetime:
        """No log line that one of these cursors has not seen was stored before. Of lines a mark knows no latest one."""
        lowest = min(map(_lowest, cursors), default=0)
        return max((mark.at - SLACK for mark in self._marks if mark.txid <= lowest), default=_BEGINNING)

    def latest(self) -> dict[str, Any]:
        """Parameters of `latest_transaction`."""
        if not self._marks:
            return {"marked": 0, "marked_at": _BEGINNING}
        newest = self._marks[-1]
        return {"marked": newest.latest, "marked_at": newest.at - SLACK}


def _lowest(cursor: Cursor) -> int:
    """The oldest transaction that it may not have seen."""
    return min(cursor.xip, default=cursor.xmax)


class MarksReader:
    """Marks that are read again when they are old. For readers of one process; two reads at once do no harm."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._marks = Marks()
        self._read_at = float("-inf")

    async def marks(self) -> Marks:
        now = time.monotonic()
        if now - self._read_at > FRESH_SECONDS:
            self._marks = Marks(await self._fetch(statement("history_marks"), {}))
            self._read_at = now
        return self._marks


async def told_since(fetch: Fetch, viewer: Viewer, task_id: str) -> datetime:
    """Nothing that is known of a task was stored before. Raises TaskNotFound, also for a task that is not the
    viewer's."""
    parameters: dict[str, Any] = {"task_id": task_id}
    rows = await fetch(statement("told_since").format(visible=visible(viewer, parameters)), parameters)
    if not rows:
        raise TaskNotFound(task_id=task_id)
    moment: datetime = rows[0][0]
    return moment
