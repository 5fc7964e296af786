"""The reader of a task's family: what sent it, what it sent, and its group.

Guarantee: bounded, however large a family is, and scoped as tasks are: a relative that the viewer may not see is
neither told nor counted, and answered exactly as one that is not there. What bites: Celery tells a task its parent and
its group, not its chord: the body of a chord is a child of the header's member that came last.
"""

from __future__ import annotations

from typing import Any

import msgspec

from oracle_celery.database.facts import Instant, StatusWord
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.sql import statement
from oracle_celery.database.visibility import visible
from oracle_celery.errors import TaskNotFound
from oracle_celery.viewer import Viewer

__all__ = ["Group", "Lineage", "LineageQueries", "Relative"]

#: Steps up and down, and children of one task, that are told.
HEIGHT_LIMIT = 12
DEPTH_LIMIT = 24
WIDTH_LIMIT = 20
#: Tasks below one that are told.
DESCENDANTS_LIMIT = 60
#: Members of a group that are told, and counted.
MEMBERS_LIMIT = 20
COUNTED_LIMIT = 1_000


class Relative(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the same family."""

    task_id: str
    parent_id: str | None
    name: str | None
    status: StatusWord
    created_at: Instant
    runtime: float | None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that were sent as one group, as far as the viewer may see them."""

    group_id: str
    members: list[Relative]  # the first of them
    total: int
    is_counted_whole: bool  # else there are more than `total`
    statuses: dict[str, int]


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    ancestors: list[Relative]  # the topmost first, the parent last
    descendants: list[Relative]  # parents before their children
    has_more: bool  # there may be more below than are told
    group: Group | None


class LineageQueries:
    """Reads over whatever fetches rows (see `fetching`)."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    async def of(self, viewer: Viewer, task_id: str) -> Lineage:
        """Raises TaskNotFound, also for a task that is not the viewer's."""
        parameters: dict[str, Any] = {
            "task_id": task_id,
            "height": HEIGHT_LIMIT,
            "depth": DEPTH_LIMIT,
            "width": WIDTH_LIMIT,
            "descendants": DESCENDANTS_LIMIT,
            "members": MEMBERS_LIMIT,
            "counted": COUNTED_LIMIT,
        }
        query = statement("lineage").format(relative=statement("relative"), visible=visible(viewer, parameters))
        rows = await self._fetch(query, parameters)
        if not rows:
            raise TaskNotFound(task_id=task_id)
        return msgspec.json.decode(rows[0][0], type=Lineage)
