"""Connections that cannot be held open by sending slowly, reading slowly, or saying nothing.

aiohttp waits for ever for the second half of a request, and for a client that does not read. Here a request's head must
be whole 10 seconds after its first byte (a new connection's: after it was made), its body 10 seconds later plus what
its size needs at 64 KiB/s, and an answer must be taken at 4 KiB/s. Between two requests a connection may rest as long
as aiohttp's keep-alive lets it. Who is too slow is cut off without an answer.

Guarantee: no number of connections that only wait can keep another client out. Those that have no whole request are
bounded; a new one beyond the bound takes the place of the one that has waited longest, so that somebody who does send
a request is answered. What is being answered, streams above all, is never cut off to make room.

A handler whose answer goes on for hours hands its connection over (`handed_over`): aiohttp's part in it ends there.

What bites: aiohttp has no interface for this, so `Connection` looks at some of its fields (`_messages`,
`_request_count`, `_force_close`, `_task_handler`). The tests with real sockets say when a new aiohttp differs.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from oracle_celery.sidecar.answers import failure
from oracle_celery.sidecar.half_open import notice_vanishing
from oracle_celery.sidecar.headers import SECURITY_HEADERS

__all__ = ["ANSWER_BYTES_PER_SECOND", "ANSWER_SECONDS", "Connections", "GuardedRunner", "Heir", "handed_over"]

logger = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
BODY_SECONDS = 10.0
#: What a body may take longer for each byte that has come: 8 MiB over a slow line is two minutes.
BODY_BYTES_PER_SECOND = 64 * 1024
#: Between two looks at an answer that the client does not take as fast as it is written.
ANSWER_SECONDS = 30.0
ANSWER_BYTES_PER_SECOND = 4 * 1024


class Heir(Protocol):
    """An asyncio protocol that a connection may be handed over to. It tells `connections` when it is lost."""

    def inherit(self, transport: asyncio.Transport, connections: Connections, *, is_paused: bool) -> None: ...


class Connections:
    """All connections of one server: at most `limit`, of which at most `waiting_limit` have no whole request."""

    def __init__(self, limit: int, waiting_limit: int) -> None:
        self._limit = limit
        self._waiting_limit = waiting_limit
        self._open: set[Connection | Heir] = set()
        #: Those that have waited longest come first.
        self._waiting: dict[Connection, None] = {}
        #: Since the start: cut off because they were too slow, and to make room.
        self.overdue = 0
        self.displaced = 0

    @property
    def open(self) -> int:
        return len(self._open)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def admit(self, connection: Connection) -> bool:
        """False where even making room does not help."""
        if len(self._open) >= self._limit and not self._make_room():
            self.displaced += 1
            return False
        self._open.add(connection)
        return True

    def wait(self, connection: Connection) -> None:
        """It has no whole request, from now on."""
        self._waiting.pop(connection, None)
        if len(self._waiting) >= self._waiting_limit:
            self._make_room()
        self._waiting[connection] = None

    def answer(self, connection: Connection) -> None:
        """It has one."""
        self._waiting.pop(connection, None)

    def hand_over(self, connection: Connection, heir: Heir) -> None:
        """It is still open, and nobody's to make room with."""
        self.leave(connection)
        self._open.add(heir)

    def leave(self, connection: Connection | Heir) -> None:
        if isinstance(connection, Connection):
            self._waiting.pop(connection, None)
        self._open.discard(connection)

    def _make_room(self) -> bool:
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        self.displaced += 1
        self.leave(longest)
        longest.cut_off()
        return True


class _Phase(Enum):
    RESTING = auto()  # between two requests
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()


class Connection(RequestHandler):
    """One client's connection; aiohttp's protocol with deadlines."""

    __slots__ = (
        "_answer_timer",
        "_connections",
        "_heir",
        "_payload",
        "_phase",
        "_received",
        "_since",
        "_timer",
        "_unsent",
    )

    def __init__(self, manager: web.Server, connections: Connections, **options: Any) -> None:
        super().__init__(manager, **options)
        self._connections = connections
        self._phase = _Phase.RESTING
        self._since = 0.0
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        #: Of the newest request whose head has come and that is not answered.
        self._payload: StreamReader | None = None
        self._unsent = 0
        self._answer_timer: asyncio.TimerHandle | None = None
        self._heir: Heir | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._connections.admit(self):
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)
        notice_vanishing(transport)
        self._enter(_Phase.HEAD)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.leave(self)
        for timer in (self._timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        known = self._request_count
        super().data_received(data)
        self._received += len(data)
        if self._request_count != known and self._messages:
            self._payload = self._messages[-1][1]
            self._enter(_Phase.ANSWERING if self._payload.is_eof() else _Phase.BODY)
        elif self._payload is None:
            if data and self._phase is _Phase.RESTING:
                self._enter(_Phase.HEAD)
        elif self._phase is _Phase.BODY and self._payload.is_eof():
            self._enter(_Phase.ANSWERING)

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """aiohttp calls this, whether it logs or not, when a request has been answered."""
        super().log_access(request, response, time)
        if self._payload is None or not self._payload.is_eof():
            return  # the rest of a body that nobody wanted: aiohttp waits for it as long as we do, and then closes
        self._payload = self._messages[-1][1] if self._messages else None
        if self._payload is None:
            self._enter(_Phase.RESTING)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_answer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What is no HTTP is answered in our words: aiohttp's repeat what was sent and name its version."""
        if isinstance(exc, ConnectionError) and request.writer.output_size > 0:
            raise exc  # the connection is gone already, and whoever did not lose but cut it has said why
        if status == web.HTTPBadRequest.status_code:
            logger.debug("Not HTTP, from %s: %s", request.remote, type(exc).__name__)
        else:
            logger.error("A connection failed: %s", type(exc).__name__, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("A part of the answer is sent: there is no way to say that it failed")
        answer = _Unsigned.of(status)
        answer.force_close()
        return answer

    def hand_over(self, heir: Heir) -> None:
        """What comes and goes is `heir`'s from now on; the handler that called this returns at once."""
        transport = self.transport
        if transport is None:
            raise ConnectionResetError("The client has left")
        self._heir = heir
        self.transport = None  # aiohttp closes it no more
        self._connections.hand_over(self, heir)
        transport.set_protocol(cast("asyncio.BaseProtocol", heir))
        heir.inherit(transport, self._connections, is_paused=self.writing_paused)
        transport.resume_reading()  # aiohttp pauses it where a client sends ahead

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """aiohttp calls this when a handler has returned; True ends its part."""
        if self._heir is None:
            return await super().finish_response(request, resp, start_time)
        self._task_handler = None  # it ends by itself, and this very moment is a part of it
        self.connection_lost(None)
        return resp, True

    def cut_off(self) -> None:
        # Not force_close: it forgets the transport at once, and a handler that has just been given a piece of its body
        # would find itself without a connection a moment before it is cancelled.
        if self.transport is not None:
            self.transport.abort()

    def _enter(self, phase: _Phase) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.transport is None:
            return  # it is lost: a handler that took no notice of its cancel has come to its end
        self._phase = phase
        self._received = 0
        if phase is _Phase.ANSWERING:
            self._connections.answer(self)
            return
        self._connections.wait(self)
        if phase is not _Phase.RESTING:
            self._since = self._loop.time()
            self._timer = self._loop.call_at(self._deadline, self._check_receipt)

    @property
    def _deadline(self) -> float:
        if self._phase is _Phase.HEAD:
            return self._since + HEAD_SECONDS
        return self._since + BODY_SECONDS + self._received / BODY_BYTES_PER_SECOND

    def _check_receipt(self) -> None:
        if self._loop.time() < self._deadline:  # more of the body has come since the timer was set
            self._timer = self._loop.call_at(self._deadline, self._check_receipt)
            return
        self._timer = None
        self._connections.overdue += 1
        self.cut_off()

    def _watch_answer(self) -> None:
        assert self.transport is not None
        self._unsent = self.transport.get_write_buffer_size()
        self._answer_timer = self._loop.call_later(ANSWER_SECONDS, self._check_answer)

    def _check_answer(self) -> None:
        if self.transport is None:
            return
        taken = self._unsent - self.transport.get_write_buffer_size()
        if taken >= ANSWER_SECONDS * ANSWER_BYTES_PER_SECOND:
            self._watch_answer()
            return
        self._connections.overdue += 1
        self.cut_off()


def handed_over(request: web.BaseRequest, heir: Heir) -> None:
    """The connection of a request that is being answered. Raises ConnectionError where its client has left."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    connection.hand_over(heir)


class GuardedRunner(web.AppRunner):
    """An application's runner whose connections are `Connection`s. `options` are aiohttp's own of a connection."""

    __slots__ = ("_connections", "_options")

    def __init__(
        self, application: web.Application, connections: Connections, *, shutdown_timeout: float, **options: Any
    ) -> None:
        super().__init__(application, shutdown_timeout=shutdown_timeout)
        self._connections = connections
        self._options = options

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        return _GuardedServer(plain, self._connections, self._options)


class _GuardedServer(web.Server):
    def __init__(self, plain: web.Server, connections: Connections, options: dict[str, Any]) -> None:
        super().__init__(plain.request_handler, request_factory=plain.request_factory, handler_cancellation=True)
        self._guarded_connections = connections
        self._options = options

    def __call__(self) -> RequestHandler:
        return Connection(self, self._guarded_connections, loop=self._loop, **self._options)


class _Unsigned(web.Response):
    """An answer to what was no request: it passes no middleware and no signal."""

    @classmethod
    def of(cls, status: int) -> _Unsigned:
        words = ("bad_request", "This is no HTTP request.") if status < 500 else ("internal_error", "Something failed.")
        body = failure(status, *words).body
        headers = {**SECURITY_HEADERS, "Cache-Control": "no-store"}
        return cls(status=status, body=body, content_type="application/json", headers=headers)

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)
