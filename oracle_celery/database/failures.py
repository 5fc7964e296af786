"""The reader of failures in groups.

Guarantee: as for tasks, what a viewer may not see is neither shown nor counted: an owner's groups are made of their own
failures, with their own first and last time. Messages and frames are payloads. Lists come from counts and spans (see
`failure_fold`), so their cost goes with the number of groups and not of tasks.

What bites: what has been committed within the last second may not be folded yet.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from oracle_celery.database.failure_facts import (
    FailedTask,
    FailureCounts,
    FailureDetail,
    FailureGroup,
    FailureList,
    FailureRange,
    FailureState,
    RangeStarts,
    SimilarFailures,
)
from oracle_celery.database.failure_fold import SLOT
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.queries import task_of
from oracle_celery.database.sql import statement
from oracle_celery.database.visibility import visible
from oracle_celery.errors import GroupNotFound
from oracle_celery.fingerprint import frames_of
from oracle_celery.viewer import Viewer

__all__ = ["FAILURE_ORDERS", "FAILURE_RANGES", "FailureQueries"]

FAILURE_RANGES: tuple[FailureRange, ...] = get_args(FailureRange)
#: What groups may be ordered by, as SQL; {range} is the number of their failures.
FAILURE_ORDERS = {
    "count": "p.{range} DESC, p.last_at DESC",
    "last_seen": "p.last_at DESC",
    "first_seen": "p.first_at DESC",
}
#: Tasks of a group that are told.
TASKS_TOLD = 10

#: Seconds of a mark.
_STEPS: dict[FailureRange, int] = {"1h": 300, "24h": 1_800, "7d": 10_800}
_ANY_GROUP = "true"
_ONE_GROUP = "t.fingerprint = %(fingerprint)s"
_HEAD = 10  # columns of `failure_groups` that are about all groups
_marks_of = msgspec.json.Decoder(list[tuple[int, int]]).decode


class FailureQueries:
    """Reads over whatever fetches rows (see `fetching`)."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    async def groups(
        self, viewer: Viewer, wanted: FailureRange = "24h", order: str = "count", limit: int = 100
    ) -> FailureList:
        """Those with a failure in the range; `order` is one of FAILURE_ORDERS."""
        head, groups = await self._groups(viewer, wanted, order, {"limit": limit}, _ANY_GROUP)
        failures, count, new, regressed = head[6:]
        return FailureList(
            range=wanted,
            starts=_starts(head),
            step=_STEPS[wanted],
            as_of=head[0],
            failures=failures,
            groups=count,
            new=new,
            regressed=regressed,
            shown=groups,
            payloads_withheld=not viewer.sees_payloads,
        )

    async def group(self, viewer: Viewer, fingerprint: str, wanted: FailureRange = "24h") -> FailureDetail:
        """Raises GroupNotFound, also where none of its failures is the viewer's, or none of the last 7 days."""
        parameters: dict[str, Any] = {"limit": 1, "fingerprint": fingerprint}
        head, groups = await self._groups(viewer, wanted, "count", parameters, _ONE_GROUP)
        if not groups:
            raise GroupNotFound(fingerprint=fingerprint)
        asked: dict[str, Any] = {
            "fingerprint": fingerprint,
            "limit": TASKS_TOLD,
            "sees_payloads": viewer.sees_payloads,
        }
        query = statement("failed_tasks").format(task=statement("task_columns"), visible=visible(viewer, asked))
        tasks, tracebacks = [], []
        for row in await self._fetch(query, asked):
            task, (failed_at, traceback) = task_of(row)
            tasks.append(FailedTask(failed_at=failed_at, task=task))
            tracebacks.append(traceback)
        return FailureDetail(
            group=groups[0],
            range=wanted,
            starts=_starts(head),
            step=_STEPS[wanted],
            as_of=head[0],
            frames=frames_of(next((traceback for traceback in tracebacks if traceback), None)),
            tasks=tasks,
            payloads_withheld=not viewer.sees_payloads,
        )

    async def alike(self, viewer: Viewer, task_id: str) -> SimilarFailures | None:
        """The group of a failed task; None for any other, and until it is folded."""
        parameters = _scope(viewer) | {"task_id": task_id}
        query = statement("failures_alike").format(visible=visible(viewer, parameters))
        rows = await self._fetch(query, parameters)
        return SimilarFailures(fingerprint=rows[0][0], failures_24h=rows[0][1]) if rows else None

    async def _groups(
        self, viewer: Viewer, wanted: FailureRange, order: str, parameters: dict[str, Any], group: str
    ) -> tuple[tuple[Any, ...], list[FailureGroup]]:
        parameters |= _scope(viewer) | {
            "slot": SLOT,
            "step": _STEPS[wanted],
            "sees_payloads": viewer.sees_payloads,
        }
        column = f"in_{wanted}"
        query = statement("failure_groups").format(
            visible=visible(viewer, parameters),
            group=group,
            range=column,
            order=FAILURE_ORDERS[order].format(range=column),
        )
        rows = await self._fetch(query, parameters)
        return rows[0][:_HEAD], [_group(*row[_HEAD:]) for row in rows if row[_HEAD] is not None]


def _scope(viewer: Viewer) -> dict[str, Any]:
    """Whose counts and spans: '' stands for everyone's."""
    return {"everyone": viewer.sees_everything, "user_id": viewer.owner or ""}


def _starts(head: tuple[Any, ...]) -> RangeStarts:
    return RangeStarts(in_1h=head[1], in_3h=head[2], in_24h=head[3], in_3d=head[4], in_7d=head[5])


def _group(
    fingerprint: str,
    state: FailureState,
    name: str | None,
    error_type: str | None,
    message: str | None,
    in_1h: int,
    in_3h: int,
    in_24h: int,
    in_3d: int,
    in_7d: int,
    first_seen: str,
    last_seen: str,
    last_task_id: str,
    users: int | None,
    marks: str | None,
) -> FailureGroup:
    return FailureGroup(
        fingerprint=fingerprint,
        state=state,
        name=name,
        error_type=error_type,
        message=message,
        counts=FailureCounts(in_1h=in_1h, in_3h=in_3h, in_24h=in_24h, in_3d=in_3d, in_7d=in_7d),
        users=users,
        first_seen=first_seen,
        last_seen=last_seen,
        last_task_id=last_task_id,
        marks=_marks_of(marks) if marks else [],
    )
