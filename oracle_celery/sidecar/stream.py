"""``GET /api/tasks/subscribe``: the live stream of one client.

A stream begins with what its cursor has not seen (`resume`), then goes on live, with a heartbeat in silence. It begins
as aiohttp-sse's response, fed with bytes that were made once for all clients; its own ping is put to sleep, because our
heartbeat also carries the resume point. What is live is written by `outlet`, without aiohttp.

A stream ends with its viewer's token, told by a last event, `bye`: nothing that happens later is in it, not even what
waits already.

What bites: a browser's EventSource repeats its first URL when it reconnects, ``?after=`` included, and adds a newer
``Last-Event-ID``: the header wins.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from oracle_celery.sidecar import events, half_open
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.broadcaster import Broadcaster
from oracle_celery.sidecar.outlet import Outlets
from oracle_celery.sidecar.parameters import Parameters
from oracle_celery.sidecar.resume import Resume
from oracle_celery.sidecar.seats import Seats
from oracle_celery.sidecar.subscription import Subscription
from oracle_celery.sidecar.summaries import Summaries

__all__ = ["RETRY_MILLISECONDS", "Streams", "begin", "in_pieces", "streaming", "write"]

#: A client that takes nothing for this long is gone.
SEND_TIMEOUT_SECONDS = 30.0
#: How long a browser waits before it reconnects: spread, so that not all come at once.
RETRY_MILLISECONDS = (2_000, 8_000)
#: Bytes given to the connection between two looks at its health.
PIECE_BYTES = 64 * 1024
#: aiohttp-sse insists on a ping of its own.
NEVER_SECONDS = 365 * 86_400.0


class Streams:
    """All streams of this sidecar. `start` and `stop` bracket its task."""

    def __init__(self, broadcaster: Broadcaster, summaries: Summaries, resume: Resume, seats: Seats) -> None:
        self._broadcaster = broadcaster
        self._summaries = summaries
        self._resume = resume
        self._seats = seats
        self._outlets = Outlets(self._heartbeat, self._left)

    @property
    def open(self) -> int:
        return self._seats.taken

    async def start(self) -> None:
        await self._outlets.start()

    async def stop(self) -> None:
        """Ends every stream."""
        self.close()
        await self._outlets.stop()

    def close(self) -> None:
        """Ends every stream after what it is writing now."""
        self._seats.close()

    async def written(self) -> None:
        """Returns when everybody has been given what waits for them, but for those that do not take it."""
        await self._outlets.written()

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        cursor = Parameters(request, ("after",)).one("after")
        cursor = request.headers.get("Last-Event-ID") or cursor
        viewer = viewer_of(request)
        refusal = self._seats.refusal(viewer)
        if refusal is not None:
            return refusal
        subscription = Subscription(viewer)
        self._seats.sit(viewer, subscription)
        is_live = False
        try:
            response = await begin(request)
            async with streaming(request, response):
                await self._catch_up(response, subscription, cursor)
                self._summaries.greet(subscription)
                is_chunked = response.headers.get("Transfer-Encoding") == "chunked"
                self._outlets.take_over(request, subscription, is_chunked=is_chunked)
                is_live = True
            return response
        finally:
            if not is_live:
                self._left(subscription)

    async def _catch_up(self, response: EventSourceResponse, subscription: Subscription, cursor: str | None) -> None:
        """All that was before now. When it ends the subscription is joined or closed."""
        first = events.retry(random.randint(*RETRY_MILLISECONDS))  # noqa: S311  # spreads load
        viewer = subscription.viewer
        async for blocks in self._resume.blocks(subscription, cursor):
            for piece in in_pieces(blocks):
                if viewer.seconds_left > 0:
                    await write(response, first + piece)
                    first = b""
        await write(response, first)

    def _heartbeat(self, subscription: Subscription) -> bytes:
        point = self._broadcaster.resume_point(subscription)
        return events.COMMENT if point is None else events.heartbeat(point)

    def _left(self, subscription: Subscription) -> None:
        self._broadcaster.leave(subscription)
        self._seats.leave(subscription.viewer, subscription)


async def begin(request: web.Request) -> EventSourceResponse:
    """The head of a stream is sent. A client that is gone by then is nothing to complain about."""
    # aiohttp-sse sets the connection's TCP_USER_TIMEOUT by it, in place of ours
    response = EventSourceResponse(ping_interval=NEVER_SECONDS, send_timeout=half_open.UNACKNOWLEDGED_SECONDS)
    response.headers["Cache-Control"] = "no-store, no-transform"
    try:
        await response.prepare(request)
    except ConnectionError as error:
        raise web.HTTPBadRequest from error
    return response


@asynccontextmanager
async def streaming(request: web.Request, response: EventSourceResponse) -> AsyncIterator[None]:
    """The life of a stream's answer: a client that goes away, or takes nothing any more, ends it without a word."""
    try:
        yield
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()  # it drains nothing, so there is no graceful way
    except ConnectionError:
        pass  # the client went away
    finally:
        response.stop_streaming()


async def write(response: web.StreamResponse, data: bytes) -> None:
    if data:
        async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
            await response.write(data)


def in_pieces(blocks: list[bytes]) -> Iterator[bytes]:
    """Joined to few writes, none of them so large that a client counts as stuck while it reads."""
    piece: list[bytes] = []
    size = 0
    for block in blocks:
        piece.append(block)
        size += len(block)
        if size >= PIECE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)
