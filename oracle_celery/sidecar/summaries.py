"""Keeps every header's numbers fresh: one query per distinct scope, however many clients look at it.

A scope is an owner, or all: that of admins and readers alike, so a summary says nothing of who looks at it. It is read
at most once a second, after a change, and for a little while longer because the leader folds statistics a moment after
the rows; it is sent only when a number differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import msgspec

from oracle_celery.database.queries import Queries, Summary
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar import events
from oracle_celery.sidecar.broadcaster import Broadcaster
from oracle_celery.viewer import Viewer

__all__ = ["Summaries"]

logger = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
#: A scope is read every round for this long after its last change.
WARM_SECONDS = 4.0
#: Workers come and go, and 24 hours pass, without a transition.
REFRESH_SECONDS = 15.0


class _Scope:
    __slots__ = ("read_at", "summary", "viewer", "warm_until")

    def __init__(self, viewer: Viewer, summary: Summary, now: float) -> None:
        self.viewer = viewer
        self.summary = summary
        self.read_at = now
        self.warm_until = now


class Summaries:
    """`start` and `stop` bracket its task."""

    def __init__(self, queries: Queries, broadcaster: Broadcaster) -> None:
        self._queries = queries
        self._broadcaster = broadcaster
        self._scopes: dict[str | None, _Scope] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="oracle-summaries")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def first(self, viewer: Viewer) -> bytes:
        """The event a new stream begins with. Raises `DatabaseUnavailable`."""
        now = time.monotonic()
        scope = self._scopes.get(viewer.owner)
        if scope is None or now - scope.read_at > ROUND_SECONDS:
            summary = await self._queries.summary(viewer)
            scope = self._scopes[viewer.owner] = _Scope(viewer, summary, now)
        return events.block("summary", scope.summary)

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except DatabaseUnavailable as error:
                logger.debug("No summary for now: %s", error)
            await asyncio.sleep(ROUND_SECONDS)

    async def _round(self) -> None:
        changed = self._broadcaster.changed_owners.copy()
        self._broadcaster.changed_owners.clear()
        watched = set(self._broadcaster.scopes())
        for owner in self._scopes.keys() - watched:
            del self._scopes[owner]
        for owner, scope in list(self._scopes.items()):
            now = time.monotonic()
            if owner in changed:
                scope.warm_until = now + WARM_SECONDS
            if now < scope.warm_until or now - scope.read_at >= REFRESH_SECONDS:
                await self._refresh(owner, scope)

    async def _refresh(self, owner: str | None, scope: _Scope) -> None:
        summary = await self._queries.summary(scope.viewer)
        scope.read_at = time.monotonic()
        is_news = msgspec.structs.replace(summary, as_of=scope.summary.as_of) != scope.summary
        scope.summary = summary
        if is_news:
            chunk = events.block("summary", summary)
            for subscription in self._broadcaster.subscribers(owner):
                subscription.offer_summary(chunk)
