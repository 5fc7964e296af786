"""A stream's connection once its beginning is sent: little more than a socket and what waits for it.

aiohttp keeps some twenty kilobytes for a request that is being answered, and wakes a task for every write. A stream is
answered for hours, so its connection is taken out of aiohttp's hands (`Connection.hand_over`): an `Outlet` is all that
remains, and `Outlets` writes for all of them, some milliseconds at a time, and looks each second for those that need
looking after.

Guarantee: no client delays another. What one does not take stays with its own outlet, bounded by its subscription, and
one that takes too little for too long is cut off.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from aiohttp import web

from oracle_celery.ending import end
from oracle_celery.sidecar import events
from oracle_celery.sidecar.access_log import log_stream
from oracle_celery.sidecar.connections import (
    ANSWER_BYTES_PER_SECOND,
    ANSWER_SECONDS,
    Connections,
    handed_over,
)
from oracle_celery.sidecar.subscription import Subscription

__all__ = ["Outlet", "Outlets", "heartbeat_seconds"]

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 15.0
HEARTBEAT_SPREAD = 0.2
#: Between two looks at all outlets.
ROUND_SECONDS = 1.0
#: Seconds for which outlets are written to before everybody else gets a turn.
TURN_SECONDS = 0.003
#: Outlets between two looks at the clock.
TURN_OUTLETS = 16
#: Outlets that are looked after before everybody else gets a turn.
LOOKED_AFTER = 500
#: What a client of a stream may still send: it has nothing to say.
RECEIVED_LIMIT_BYTES = 64 * 1024


def heartbeat_seconds() -> float:
    """Spread, so that not all come at once."""
    return HEARTBEAT_SECONDS * random.uniform(1 - HEARTBEAT_SPREAD, 1 + HEARTBEAT_SPREAD)  # noqa: S311


class Outlet(asyncio.Protocol):
    """One client's; made by `Outlets.take_over`."""

    __slots__ = (
        "_address",
        "_connections",
        "_house",
        "_is_chunked",
        "_is_due",
        "_is_over",
        "_opened_at",
        "_paused_at",
        "_received",
        "_sent",
        "_silence",
        "_spoke_at",
        "_transport",
        "_unsent",
        "look_at",
        "subscription",
    )

    def __init__(self, house: Outlets, subscription: Subscription, *, is_chunked: bool, address: str) -> None:
        self.subscription = subscription
        self._transport: asyncio.Transport
        self._connections: Connections
        self._house = house
        self._is_chunked = is_chunked
        self._address = address
        self._opened_at = self._spoke_at = time.monotonic()
        #: Seconds of silence before the next heartbeat.
        self._silence = heartbeat_seconds()
        #: When there may be something to look after; sooner than a silence can have lasted, whatever happens meanwhile.
        self.look_at = 0.0
        self._is_due = False
        self._is_over = False
        #: When the client stopped taking what is written; 0: it takes it.
        self._paused_at = 0.0
        self._unsent = 0
        self._sent = 0
        self._received = 0

    def inherit(self, transport: asyncio.Transport, connections: Connections, *, is_paused: bool) -> None:
        self._transport = transport
        self._connections = connections
        if is_paused:
            self.pause_writing()
        self.subscription.changed = self.become_due
        self.become_due()

    def become_due(self) -> None:
        """There may be something to write."""
        if not self._is_due:
            self._is_due = True
            self._house.note_due(self)

    def write_what_waits(self, now: float, moment: float) -> None:
        """`now` and `moment` are this turn's, of the monotonic clock and since the epoch."""
        self._is_due = False
        if self._paused_at or self._is_over:
            return  # `resume_writing` comes back to it
        subscription = self.subscription
        ends_at = subscription.viewer.expires_at
        if ends_at is not None and moment >= ends_at:
            self._end(now, events.bye("token_expired"))
            return
        waiting = subscription.take()
        if waiting:
            self._write(waiting, now)
        if subscription.closed:
            self._end(now)

    def look_after(self, now: float) -> None:
        """A token that has ended, a client that takes nothing, a silence that has lasted long enough."""
        subscription = self.subscription
        if self._paused_at:
            if now - self._paused_at >= ANSWER_SECONDS:
                self._judge(now)
        elif self._is_over:
            pass
        elif subscription.viewer.seconds_left <= 0:
            self.become_due()
        elif now - self._spoke_at >= self._silence and subscription.is_drained:  # it tells a place behind all that
            self._silence = heartbeat_seconds()
            self._write(self._house.heartbeat(subscription), now)
        if self._paused_at:
            self.look_at = self._paused_at + ANSWER_SECONDS
        else:
            self.look_at = min(self._spoke_at + self._silence, now + subscription.viewer.seconds_left)

    def cut_off(self) -> None:
        self._transport.abort()

    # -- asyncio's ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > RECEIVED_LIMIT_BYTES:
            self.cut_off()

    def pause_writing(self) -> None:
        self._paused_at = time.monotonic()
        self._unsent = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        if self._is_over:
            return  # the rest is still to be taken: it is watched until the connection is lost
        self._paused_at = 0.0
        self.become_due()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        self.subscription.changed = _nobody_cares
        self._connections.leave(self)
        self._house.forget(self)
        log_stream(self._address, self.subscription.viewer.user_id, self._sent, time.monotonic() - self._opened_at)

    # -- writing --------------------------------------------------------------------------------------------------

    def _write(self, data: bytes, now: float) -> None:
        self._transport.write(self._house.chunk(data) if self._is_chunked else data)
        self._sent += len(data)
        self._spoke_at = now

    def _end(self, now: float, last: bytes = b"") -> None:
        self._is_over = True
        if last:
            self._write(last, now)
        if self._is_chunked:
            self._transport.write(b"0\r\n\r\n")
        self._transport.close()
        if self._transport.get_write_buffer_size() and not self._paused_at:
            self.pause_writing()  # it is waited for as long as any other client that does not read

    def _judge(self, now: float) -> None:
        unsent = self._transport.get_write_buffer_size()
        if self._unsent - unsent >= ANSWER_SECONDS * ANSWER_BYTES_PER_SECOND:
            self._paused_at, self._unsent = now, unsent
            return
        self._connections.overdue += 1
        self.cut_off()


class Outlets:
    """All of one sidecar. `start` and `stop` bracket its task."""

    def __init__(self, heartbeat: Callable[[Subscription], bytes], left: Callable[[Subscription], None]) -> None:
        #: What is said in a silence.
        self.heartbeat = heartbeat
        self._left = left
        self._all: set[Outlet] = set()
        self._due: list[Outlet] = []
        self._chunk_of = self._chunk = b""
        self._is_writing = False
        self._written = asyncio.Event()
        self._written.set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="oracle-outlets")

    async def stop(self) -> None:
        """Cuts off who has not ended by itself; may be called twice."""
        await end(self._task)
        for outlet in list(self._all):
            outlet.cut_off()

    def take_over(self, request: web.Request, subscription: Subscription, *, is_chunked: bool) -> None:
        """The answer to `request`, whose beginning is written, goes on here. The handler must return at once.

        From now on `left` is called when the client has left."""
        outlet = Outlet(self, subscription, is_chunked=is_chunked, address=request.remote or "-")
        handed_over(request, outlet)
        self._all.add(outlet)

    def chunk(self, data: bytes) -> bytes:
        """As HTTP/1.1 wants it; what many are told in turn is made once."""
        if data is not self._chunk_of:
            self._chunk_of = data
            self._chunk = b"%x\r\n%b\r\n" % (len(data), data)
        return self._chunk

    async def written(self) -> None:
        """Returns when everybody has been written to who had something to take and takes it."""
        await self._written.wait()

    def note_due(self, outlet: Outlet) -> None:
        self._due.append(outlet)
        if not self._is_writing:
            self._is_writing = True
            self._written.clear()
            asyncio.get_running_loop().call_soon(self._write)

    def forget(self, outlet: Outlet) -> None:
        self._all.discard(outlet)
        self._left(outlet.subscription)

    def _write(self) -> None:
        """One turn; those that are left come in the next, after everybody else has had theirs."""
        now, moment = time.monotonic(), time.time()
        ends_at = now + TURN_SECONDS
        due, done = self._due, 0
        while done < len(due):
            outlet = due[done]
            done += 1
            try:
                outlet.write_what_waits(now, moment)
            except Exception:  # whatever it was: the others must be written to
                logger.exception("Writing to a stream failed")
                outlet.cut_off()
            if done % TURN_OUTLETS == 0 and time.monotonic() >= ends_at:
                break
        del due[:done]
        if due:
            asyncio.get_running_loop().call_soon(self._write)
        else:
            self._is_writing = False
            self._written.set()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            now = time.monotonic()
            due = [outlet for outlet in self._all if outlet.look_at <= now]
            for number, outlet in enumerate(due, 1):
                try:
                    outlet.look_after(now)
                except Exception:  # whatever it was: the others must be looked after
                    logger.exception("Looking after a stream failed")
                    outlet.cut_off()
                if number % LOOKED_AFTER == 0:
                    await asyncio.sleep(0)


def _nobody_cares() -> None:
    pass
