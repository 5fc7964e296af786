"""Keeps every header's numbers fresh: one query for many scopes, however many clients look at each.

A scope is an owner, or all: that of admins and readers alike, so a summary says nothing of who looks at it. It is read
at most once a second, after a change, and for a little while longer because the leader folds statistics a moment after
the rows; it is sent only when a number differs.

What bites: owners are counted by the hundred, and reading takes at most a part of the time (`DUTY`). Thousands of
owners whose tasks change all the time get their numbers later than a second, in turn; those who see everything, and who
has just come, come first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from operator import itemgetter

import msgspec

from oracle_celery.database.queries import Queries, Summary
from oracle_celery.ending import end
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar import events
from oracle_celery.sidecar.broadcaster import Broadcaster
from oracle_celery.sidecar.subscription import Subscription
from oracle_celery.viewer import ORACLE

__all__ = ["Summaries"]

logger = logging.getLogger(__name__)

#: Sees every task.
EVERYTHING = ORACLE.viewer

#: Least time between two reads of one scope.
ROUND_SECONDS = 1.0
#: Between two looks at what has changed, where nothing was due.
LOOK_SECONDS = 0.25
#: A scope is read every round for this long after its last change.
WARM_SECONDS = 4.0
#: Owners of one query.
OWNERS_LIMIT = 500
#: The part of the time in which owners' numbers are being read, at most.
DUTY = 0.05
#: The same while somebody who has just come waits for theirs.
GREETING_DUTY = 0.5
#: Least time between two looks for who has just come.
GAP_SECONDS = 0.02
#: Workers come and go, and 24 hours pass, without a transition.
REFRESH_SECONDS = 15.0


class _Scope:
    """What everybody who sees the same is told. `read_at` is 0 until it has been read."""

    __slots__ = ("block", "newcomers", "read_at", "summary", "warm_until")

    def __init__(self) -> None:
        self.summary: Summary | None = None
        self.block = b""
        self.read_at = 0.0
        self.warm_until = 0.0
        #: Those that have been told nothing yet.
        self.newcomers: list[Subscription] = []

    def is_due(self, now: float) -> bool:
        if self.newcomers:
            return True
        age = now - self.read_at
        return age >= REFRESH_SECONDS or (age >= ROUND_SECONDS and self.read_at < self.warm_until)


class Summaries:
    """`start` and `stop` bracket its task."""

    def __init__(self, queries: Queries, broadcaster: Broadcaster) -> None:
        self._queries = queries
        self._broadcaster = broadcaster
        #: By owner; None is the scope of those who see everything. Owners that were read last come last.
        self._scopes: dict[str | None, _Scope] = {}
        self._greeted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="oracle-summaries")

    async def stop(self) -> None:
        await end(self._task)

    def greet(self, subscription: Subscription) -> None:
        """Somebody has come, and is told at once what is fresh, else as soon as it has been read."""
        scope = self._scopes.setdefault(subscription.viewer.owner, _Scope())
        if scope.block and time.monotonic() - scope.read_at <= ROUND_SECONDS:
            subscription.offer_summary(scope.block)
            return
        scope.newcomers.append(subscription)
        self._greeted.set()

    async def _run(self) -> None:
        while True:
            self._greeted.clear()
            took = 0.0
            try:
                took = await self._round()
            except DatabaseUnavailable as error:
                logger.debug("No summary for now: %s", error)
                await asyncio.sleep(ROUND_SECONDS)
            except Exception:  # whatever it was: the next round must come
                logger.exception("Reading summaries failed")
                await asyncio.sleep(ROUND_SECONDS)
            duty = GREETING_DUTY if any(scope.newcomers for scope in self._scopes.values()) else DUTY
            await asyncio.sleep(max(GAP_SECONDS, took / duty - took))
            if not took:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._greeted.wait()

    async def _round(self) -> float:
        """The scope of all, if it is due, and as many owners as one query is for. The seconds that it took."""
        self._note_changes()
        began = time.monotonic()
        everything = self._scopes.get(None)
        is_due = everything is not None and everything.is_due(began)
        if is_due:
            self._take_in([(None, await self._queries.summary(EVERYTHING))])
        due = [(not scope.newcomers, owner) for owner, scope in self._scopes.items() if owner and scope.is_due(began)]
        owners = [owner for _, owner in sorted(due, key=itemgetter(0))[:OWNERS_LIMIT]]
        if owners:
            self._take_in((await self._queries.summaries(owners)).items())
        return time.monotonic() - began if is_due or owners else 0.0

    def _note_changes(self) -> None:
        changed = self._broadcaster.changed_owners.copy()
        self._broadcaster.changed_owners.clear()
        watched = set(self._broadcaster.scopes())
        for owner in self._scopes.keys() - watched:
            del self._scopes[owner]
        now = time.monotonic()
        for owner in changed & self._scopes.keys():
            self._scopes[owner].warm_until = now + WARM_SECONDS

    def _take_in(self, read: Iterable[tuple[str | None, Summary]]) -> None:
        now = time.monotonic()
        for owner, summary in read:
            scope = self._scopes.pop(owner, None)
            if scope is None:
                continue  # they have left meanwhile
            self._scopes[owner] = scope
            newcomers, scope.newcomers = scope.newcomers, []
            is_news = scope.summary is None or _differs(summary, scope.summary)
            scope.read_at, scope.summary = now, summary
            scope.block = events.block("summary", summary)
            for subscription in self._broadcaster.subscribers(owner) if is_news else newcomers:
                subscription.offer_summary(scope.block)


def _differs(summary: Summary, other: Summary) -> bool:
    return msgspec.structs.replace(summary, as_of=other.as_of) != other
