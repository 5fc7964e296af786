"""Tells open pages how far running tasks are: ``GET /api/progress``, and `progress` events in every stream.

Guarantee: the newest word of a task reaches every connected client that may see its payloads, at most `GAP_SECONDS`
late and each once; of many words only the newest waits for a slow client. One read serves all. What bites: these events
carry no cursor, because they are no part of the history; a client that comes (back) reads the list.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict

from aiohttp import web

from oracle_celery.database.cursor import Cursor, CursorUnusable
from oracle_celery.database.progress import ProgressQueries
from oracle_celery.ending import end
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar import events
from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.broadcaster import Broadcaster
from oracle_celery.sidecar.parameters import Parameters

__all__ = ["TASKS_LIMIT", "ProgressBulletins"]

logger = logging.getLogger(__name__)

#: Least time between two looks.
GAP_SECONDS = 0.5
#: Covers what the listener did not hear.
POLL_SECONDS = 2.0
#: Tasks of one answer and of one look.
TASKS_LIMIT = 1_000


class ProgressBulletins:
    """`start` and `stop` bracket its task; `wake` makes it look soon."""

    def __init__(self, queries: ProgressQueries, pages: ProgressQueries, broadcaster: Broadcaster) -> None:
        """`queries` tells streams what is new, `pages` answers questions."""
        self._queries = queries
        self._pages = pages
        self._broadcaster = broadcaster
        self._cursor: Cursor | None = None
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when it is known which words are new: whoever comes after that is told of them."""
        if self._task is None:
            await self._looked()
            self._task = asyncio.create_task(self._run(), name="oracle-progress")

    async def stop(self) -> None:
        await end(self._task)

    def wake(self) -> None:
        self._woken.set()

    async def answer(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        return success(await self._pages.current(viewer_of(request), TASKS_LIMIT))

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            is_behind = await self._looked()
            await asyncio.sleep(GAP_SECONDS)
            if is_behind:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()

    async def _looked(self) -> bool:
        """`_look`, whatever comes of it: the next one must come."""
        try:
            return await self._look()
        except CursorUnusable:
            self._cursor = None
        except DatabaseUnavailable as error:
            logger.debug("No progress for now: %s", error)
        except Exception:
            logger.exception("Looking for progress failed")
        return False

    async def _look(self) -> bool:
        """True where there is more at once."""
        if self._cursor is None:
            self._cursor = await self._queries.start_cursor()
        if not self._broadcaster.scopes():
            return False
        news = await self._queries.news(self._cursor, TASKS_LIMIT)
        self._cursor = news.cursor
        by_owner: dict[str | None, list[tuple[str, bytes]]] = defaultdict(list)
        for owner, told in news.told:
            block = events.block("progress", told)
            by_owner[None].append((told.task_id, block))
            if owner is not None:
                by_owner[owner].append((told.task_id, block))
        for owner, blocks in by_owner.items():
            for subscription in self._broadcaster.subscribers(owner):
                if subscription.viewer.sees_payloads:
                    subscription.offer_progress(blocks)
        return news.more
