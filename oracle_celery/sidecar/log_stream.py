"""``GET /api/tasks/{task_id}/logs/subscribe``: the log of one task, as its lines arrive.

Guarantee: from its cursor on, a stream is given every line that is stored, in whole transactions, however late they are
committed; a client that reconnects with the last id goes on there, and may get again what it had not confirmed: lines
have ids. One read serves all streams of this sidecar, at most one each `GAP_SECONDS`, when a notification has come; a
stream that has not taken what waits for it is passed over, so what waits is bounded, and nothing is lost by it: the
database remembers. Who has fallen too far behind is told to `resync`.

What bites: the doorbell of log lines is that of tasks, and a batch rings once, with any of its tasks. A stream does not
end with its task, whose last lines may still be on their way: the client leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from oracle_celery.database.cursor import Cursor, CursorUnusable
from oracle_celery.database.facts import LogLines
from oracle_celery.database.logs import END, Following, LogQueries, News
from oracle_celery.ending import end
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar import events
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.outlet import heartbeat_seconds
from oracle_celery.sidecar.parameters import Parameters, task_id_of
from oracle_celery.sidecar.seats import Seats
from oracle_celery.sidecar.stream import RETRY_MILLISECONDS, begin, in_pieces, streaming, write
from oracle_celery.viewer import Viewer

__all__ = ["LogStreams"]

logger = logging.getLogger(__name__)

#: Least time between two reads.
GAP_SECONDS = 0.05
#: Covers what the listener did not hear.
POLL_SECONDS = 1.0
BACKOFF_SECONDS = 1.0
READ_TIMEOUT_SECONDS = 10.0
#: Streams and, for each of them, lines that one read is for; a transaction is never cut, so there may be more lines.
FOLLOWERS_LIMIT = 200
LINES_LIMIT = 500
#: Reads in a row that did not reach the end: more lines than a page would show wait for it.
BEHIND_LIMIT = 40
#: Lines of one event.
EVENT_LINES = 100


class Follower:
    """One stream, between the reads and the network."""

    def __init__(self, viewer: Viewer, task_id: str, cursor: Cursor) -> None:
        self.viewer = viewer
        self.task_id = task_id
        self.cursor = cursor
        self.closed = False
        self._waiting: list[bytes] = []
        self._behind = 0
        self._changed = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """It has taken what was read for it."""
        return not (self.closed or self._waiting)

    @property
    def is_behind(self) -> bool:
        """There is more to read at once."""
        return self._behind > 0

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    def take_in(self, news: News) -> None:
        if news.cursor is None:
            self.start_over(news.problem)
            return
        self._behind = self._behind + 1 if news.more else 0
        if self._behind > BEHIND_LIMIT:
            self.start_over("slow_reader")
            return
        self.cursor = news.cursor
        parts = [news.lines[at : at + EVENT_LINES] for at in range(0, len(news.lines), EVENT_LINES)]
        blocks = [events.block("log", LogLines(task_id=self.task_id, lines=part)) for part in parts]
        if blocks:
            blocks[-1] = events.identified(blocks[-1], news.cursor)
            self._waiting = blocks
            self._changed.set()

    def start_over(self, reason: str) -> None:
        """The client is to read the log again; it goes on from there."""
        self._waiting = [events.resync(reason)]
        self.close()

    async def take(self, timeout: float) -> list[bytes]:
        """What waits; empty after `timeout` seconds of silence or once closed."""
        if not self._waiting and not self.closed:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
        taken, self._waiting = self._waiting, []
        return taken


class LogStreams:
    """`start` and `stop` bracket its task; `wake` makes it look at once."""

    def __init__(self, queries: LogQueries, seats: Seats) -> None:
        self._queries = queries
        self._seats = seats
        #: Those that were read for last come last.
        self._followers: dict[Follower, None] = {}
        self._is_cut = False
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="oracle-log-streams")

    async def stop(self) -> None:
        """Closes every stream; may be called twice."""
        await end(self._task)
        for follower in list(self._followers):
            follower.close()

    def wake(self) -> None:
        self._woken.set()

    # -- reading -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._read()
            except (DatabaseUnavailable, TimeoutError) as error:
                logger.debug("No log lines for now: %s", error or "PostgreSQL is too slow to answer")
                await asyncio.sleep(BACKOFF_SECONDS)
            except Exception:  # whatever it was: the next look must come
                logger.exception("Looking for log lines failed")
                await asyncio.sleep(BACKOFF_SECONDS)
            await asyncio.sleep(GAP_SECONDS)
            if self._is_cut:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS if self._followers else None):
                    await self._woken.wait()

    async def _read(self) -> None:
        ready = [follower for follower in self._followers if follower.is_ready]
        self._is_cut = len(ready) > FOLLOWERS_LIMIT
        ready = ready[:FOLLOWERS_LIMIT]
        if not ready:
            return
        followings = [Following(follower.task_id, follower.viewer, follower.cursor) for follower in ready]
        async with asyncio.timeout(READ_TIMEOUT_SECONDS):
            news = await self._queries.news(followings, LINES_LIMIT)
        for follower, told in zip(ready, news, strict=True):
            follower.take_in(told)
            if self._followers.pop(follower, follower) is None:  # it may have left meanwhile
                self._followers[follower] = None

    # -- one stream ----------------------------------------------------------------------------------------------

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        text = Parameters(request, ("after",)).one("after")
        text = request.headers.get("Last-Event-ID") or text
        viewer, task_id = viewer_of(request), task_id_of(request)
        page = await self._queries.page(viewer, task_id, before=END, limit=1, counts=False)
        refusal = self._seats.refusal(viewer)
        if refusal is not None:
            return refusal
        follower = Follower(viewer, task_id, Cursor.parse(page.cursor))
        if not viewer.sees_payloads:
            follower.close()
        elif text:
            try:
                follower.cursor = Cursor.parse(text)
            except CursorUnusable as unusable:
                follower.start_over(unusable.reason)
        with self._seats.take(viewer, follower):
            self._followers[follower] = None
            self.wake()
            try:
                return await self._serve(request, await begin(request), follower)
            finally:
                self._followers.pop(follower, None)

    async def _serve(
        self, request: web.Request, response: EventSourceResponse, follower: Follower
    ) -> web.StreamResponse:
        viewer = follower.viewer
        async with streaming(request, response):
            await write(response, events.retry(random.randint(*RETRY_MILLISECONDS)))  # noqa: S311  # spreads load
            if not follower.closed:
                await write(response, events.heartbeat(follower.cursor))
            while viewer.seconds_left > 0:
                blocks = await follower.take(min(heartbeat_seconds(), viewer.seconds_left))
                if not blocks and not follower.closed:
                    blocks = [events.heartbeat(follower.cursor)]
                for piece in in_pieces(blocks):
                    if viewer.seconds_left > 0:
                        await write(response, piece)
                if follower.closed:
                    break
                if follower.is_behind:
                    self.wake()
            if viewer.seconds_left <= 0:
                await write(response, events.bye("token_expired"))
            elif not viewer.sees_payloads:
                await write(response, events.bye("payloads_withheld"))
            await response.write_eof()
        return response
