"""``GET /api/tasks/subscribe``: the live stream of one client.

A stream begins with what its cursor has not seen (`resume`), then goes on live, with a heartbeat in silence. The
response is aiohttp-sse's, fed with bytes that were made once for all clients; its own ping is put to sleep, because our
heartbeat also carries the resume point.

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

from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar import events
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.broadcaster import Broadcaster
from oracle_celery.sidecar.parameters import Parameters
from oracle_celery.sidecar.resume import Resume
from oracle_celery.sidecar.seats import Seats
from oracle_celery.sidecar.subscription import Subscription
from oracle_celery.sidecar.summaries import Summaries
from oracle_celery.viewer import Viewer

__all__ = ["Streams", "begin", "heartbeat_seconds", "in_pieces", "streaming", "write"]

HEARTBEAT_SECONDS = 15.0
HEARTBEAT_SPREAD = 0.2
#: A client that takes nothing for this long is gone.
SEND_TIMEOUT_SECONDS = 30.0
#: How long a browser waits before it reconnects: spread, so that not all come at once.
RETRY_MILLISECONDS = (2_000, 8_000)
#: Bytes given to the connection between two looks at its health.
PIECE_BYTES = 64 * 1024
#: aiohttp-sse insists on a ping of its own.
NEVER_SECONDS = 365 * 86_400.0


class Streams:
    """All streams of this sidecar."""

    def __init__(self, broadcaster: Broadcaster, summaries: Summaries, resume: Resume, seats: Seats) -> None:
        self._broadcaster = broadcaster
        self._summaries = summaries
        self._resume = resume
        self._seats = seats

    @property
    def open(self) -> int:
        return self._seats.taken

    def close(self) -> None:
        """Ends every stream after what it is writing now."""
        self._seats.close()

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        cursor = Parameters(request, ("after",)).one("after")
        cursor = request.headers.get("Last-Event-ID") or cursor
        viewer = viewer_of(request)
        refusal = self._seats.refusal(viewer)
        if refusal is not None:
            return refusal
        subscription = Subscription(viewer)
        with self._seats.take(viewer, subscription):
            try:
                return await self._serve(request, await begin(request), subscription, cursor)
            finally:
                self._broadcaster.leave(subscription)

    async def _serve(
        self, request: web.Request, response: EventSourceResponse, subscription: Subscription, cursor: str | None
    ) -> web.StreamResponse:
        async with streaming(request, response):
            await write(response, events.retry(random.randint(*RETRY_MILLISECONDS)))  # noqa: S311  # spreads load
            viewer = subscription.viewer
            async for blocks in self._resume.blocks(subscription, cursor):
                for piece in in_pieces(blocks):
                    if viewer.seconds_left > 0:
                        await write(response, piece)
            if viewer.seconds_left > 0:
                await write(response, await self._first_summary(viewer))
            while not subscription.closed and viewer.seconds_left > 0:
                taken = await subscription.take(min(heartbeat_seconds(), viewer.seconds_left))
                if viewer.seconds_left > 0:
                    await write(response, taken or self._heartbeat(subscription))
            if viewer.seconds_left <= 0:
                await write(response, events.bye("token_expired"))
            await response.write_eof()
        return response

    async def _first_summary(self, viewer: Viewer) -> bytes:
        try:
            return await self._summaries.first(viewer)
        except DatabaseUnavailable:
            return b""  # the next round of summaries sends it

    def _heartbeat(self, subscription: Subscription) -> bytes:
        point = self._broadcaster.resume_point(subscription)
        return events.COMMENT if point is None else events.heartbeat(point)


async def begin(request: web.Request) -> EventSourceResponse:
    """The head of a stream is sent."""
    response = EventSourceResponse(ping_interval=NEVER_SECONDS, send_timeout=SEND_TIMEOUT_SECONDS)
    response.headers["Cache-Control"] = "no-store, no-transform"
    await response.prepare(request)
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


def heartbeat_seconds() -> float:
    return HEARTBEAT_SECONDS * random.uniform(1 - HEARTBEAT_SPREAD, 1 + HEARTBEAT_SPREAD)  # noqa: S311  # spreads load
