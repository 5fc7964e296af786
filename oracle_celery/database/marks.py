"""Rows of another server than the one whose stream goes on from them: they come with the place of that one.

Guarantee: the rows are at least as new as the mark, so "these rows, then everything after the mark's cursor" has no
gap; what came in between the two is told twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from oracle_celery.database.cursor import Cursor, Snapshot
from oracle_celery.database.fetching import Fetch, Rows

__all__ = ["Mark", "MarkedFetch", "unmarked"]


class Mark(NamedTuple):
    """Where the primary was: what has been read since is at least as new."""

    snapshot: Snapshot
    position: int  # bytes of its log that were flushed
    latest: int | None  # the largest txid of a transition, and of a log line
    latest_line: int | None

    @property
    def cursor(self) -> Cursor:
        """Of the stream of tasks."""
        return Cursor.at(self.snapshot, self.latest)

    @property
    def log_cursor(self) -> Cursor:
        return Cursor.at(self.snapshot, self.latest_line)


#: Rows, and where the primary was before; None where they and their snapshot are the primary's own.
MarkedFetch = Callable[[str, dict[str, Any]], Awaitable[tuple[Rows, Mark | None]]]


def unmarked(fetch: Fetch) -> MarkedFetch:
    """Of the primary itself."""

    async def marked(query: str, parameters: dict[str, Any]) -> tuple[Rows, Mark | None]:
        return await fetch(query, parameters), None

    return marked
