"""Who sends slowly, reads slowly or says nothing is cut off, and keeps nobody else out: on real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from oracle_celery.sidecar import connections as connections_module
from oracle_celery.sidecar.access_log import ACCESS_LOGGER, AccessLog
from oracle_celery.sidecar.connections import Connections, GuardedRunner
from oracle_celery.sidecar.headers import secure
from tests.sidecar_fixtures import DEADLINE_SECONDS, until

#: Instead of ten seconds, for those who are too late; who is in time has much longer, on a busy machine too.
SHORT_SECONDS = 0.4
#: Between two dribbled bytes.
DRIBBLE_SECONDS = 0.05
LARGE_BYTES = 32 * 1024 * 1024

WHOLE = b"GET /fast HTTP/1.1\r\nHost: localhost\r\n\r\n"

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """A guarded server with a few handlers, and sockets to it. It is patient until it is told to hurry."""

    def __init__(self, port: int, connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port = port
        self.connections = connections
        self._monkeypatch = monkeypatch
        self._wait_for(2 * DEADLINE_SECONDS)

    def hurry(self) -> None:
        """Whatever begins from now on has little time."""
        self._wait_for(SHORT_SECONDS)

    def _wait_for(self, seconds: float) -> None:
        for name in ("HEAD_SECONDS", "BODY_SECONDS", "ANSWER_SECONDS"):
            self._monkeypatch.setattr(connections_module, name, seconds)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Pair]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        yield reader, writer
        writer.close()

    async def answers(self) -> bool:
        async with self.connect() as (reader, writer):
            writer.write(WHOLE)
            return await _head(reader) == 200


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts a server."""
    runners: list[GuardedRunner] = []

    async def begin(limit: int = 100, waiting_limit: int = 50, keepalive: float = 75.0) -> Server:
        connections = Connections(limit, waiting_limit)
        runner = GuardedRunner(
            *(_application(), connections),
            shutdown_timeout=0.1,
            keepalive_timeout=keepalive,
            access_log=ACCESS_LOGGER,
            access_log_class=AccessLog,
        )
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return Server(runner.addresses[0][1], connections, monkeypatch)

    yield begin
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize("beginning", [b"", b"GET /fa", b"GET /fast HTTP/1.1\r\nHost: localhost\r\nX-A: "])
async def test_half_a_head_is_cut_off(start: Start, beginning: bytes) -> None:
    """However busily the client adds to it, and without an answer."""
    server = await start()
    server.hurry()
    async with server.connect() as (reader, writer):
        writer.write(beginning)
        await _until_the_end(reader, writer, dribbles=bool(beginning))
    assert server.connections.overdue == 1
    await until(lambda: server.connections.open == 0)


async def test_half_a_body_is_cut_off(start: Start) -> None:
    """Its handler ends, too."""
    server = await start()
    async with server.connect() as (reader, writer):
        await until(lambda: server.connections.waiting == 1)
        server.hurry()
        writer.write(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc")
        await _until_the_end(reader, writer, dribbles=True)
    await until(lambda: server.connections.open == 0 and not _handlers())


async def test_a_body_that_goes_on_at_the_deadline_is_no_failure(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Its handler is cancelled, also where a piece has come in the very moment in which the connection is cut off."""
    server = await start()
    async with server.connect() as (reader, writer):
        writer.write(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc")
        await until(lambda: server.connections.waiting == 1)
        [connection] = server.connections._waiting
        await until(lambda: connection._payload is not None and connection._payload._waiter is not None)
        connection.data_received(b"x")
        connection.cut_off()
        await _until_the_end(reader, writer)
    await until(lambda: server.connections.open == 0 and not _handlers())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_large_body_gets_the_time_it_needs(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it comes at a decent rate."""
    monkeypatch.setattr(connections_module, "BODY_BYTES_PER_SECOND", 1_000 / DEADLINE_SECONDS)
    server = await start()
    async with server.connect() as (reader, writer):
        writer.write(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n")
        await until(lambda: server.connections.waiting == 1)
        [connection] = server.connections._waiting
        await until(lambda: connection._payload is not None)
        writer.write(b"x" * 2_000)
        await until(lambda: connection._received == 2_000)
        connection._since -= 3 * DEADLINE_SECONDS  # so long has it been coming: one deadline, and two for what has come
        connection._check_receipt()
        writer.write(b"x" * 1_000)
        assert await _head(reader) == 200
    assert server.connections.overdue == 0


async def test_a_second_half_a_head_is_cut_off(start: Start) -> None:
    """A connection that was good once has no more rights than a new one, and may rest longer."""
    server = await start()
    async with server.connect() as (reader, writer):
        writer.write(WHOLE)
        assert await _head(reader) == 200
        server.hurry()
        writer.write(WHOLE)
        assert await _head(reader) == 200
        await asyncio.sleep(2 * SHORT_SECONDS)
        writer.write(WHOLE)
        assert await _head(reader) == 200
        writer.write(b"GET /")
        await _until_the_end(reader, writer, dribbles=True)


async def test_a_resting_connection_ends(start: Start) -> None:
    """When its keep-alive does."""
    server = await start(keepalive=SHORT_SECONDS)
    async with server.connect() as (reader, writer):
        writer.write(WHOLE)
        assert await _head(reader) == 200
        await _until_the_end(reader, writer)


async def test_pipelined_requests_are_all_answered(start: Start) -> None:
    """And the half of one behind them is cut off."""
    server = await start()
    async with server.connect() as (reader, writer):
        writer.write(WHOLE * 5)
        for _ in range(5):
            assert await _head(reader) == 200
        server.hurry()
        writer.write(WHOLE + b"GET /half")
        assert await _head(reader) == 200
        await _until_the_end(reader, writer, dribbles=True)


async def test_who_does_not_read_is_cut_off(start: Start) -> None:
    """The answer would stay in memory for ever."""
    server = await start()
    async with server.connect() as (_, writer):
        await until(lambda: server.connections.waiting == 1)
        server.hurry()
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: server.connections.overdue == 1)
    await until(lambda: server.connections.open == 0 and not _handlers())


async def test_who_reads_slowly_gets_everything(start: Start) -> None:
    """A slow line is no attack: between two looks enough has been taken."""
    server = await start()
    async with server.connect() as (reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await _head(reader, has_body=False) == 200
        [connection] = server.connections._open
        await until(lambda: connection._answer_timer is not None)
        enough = connections_module.ANSWER_SECONDS * connections_module.ANSWER_BYTES_PER_SECOND
        left = LARGE_BYTES
        async with asyncio.timeout(DEADLINE_SECONDS):
            for _ in range(2):
                while connection._unsent - connection.transport.get_write_buffer_size() < enough:
                    left -= len(await reader.read(64 * 1024))
                connection._answer_timer.cancel()
                connection._check_answer()
                assert server.connections.overdue == 0
            await reader.readexactly(left)


async def test_whoever_sends_a_request_is_answered(start: Start) -> None:
    """Though as many as may wait do: the one that has waited longest gives way."""
    server = await start(limit=20, waiting_limit=10)
    waiting = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(10)]
    assert await server.answers()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await _ends(waiting[0][0])
    assert server.connections.displaced >= 1
    assert server.connections.waiting <= 10
    for _, writer in waiting:
        writer.close()


async def test_who_has_left_waits_for_nothing(start: Start) -> None:
    """Also where the handler takes no notice of its cancel: a connection that is lost has no place among the others."""
    server = await start()
    async with server.connect() as (_, writer):
        writer.write(b"GET /stubborn HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: server.connections.open == 1 and server.connections.waiting == 0)
    await until(lambda: server.connections.open == 0 and not _handlers())
    assert server.connections.waiting == 0


async def test_what_is_answered_never_gives_way(start: Start) -> None:
    """Streams stay; beyond the last place nobody is let in, and the server lives on."""
    server = await start(limit=5, waiting_limit=5)
    streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
    await until(lambda: server.connections.waiting == 5)
    deadlines = [connection._timer for connection in server.connections._waiting]
    for reader, writer in streams:
        writer.write(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await _head(reader, has_body=False) == 200
    async with server.connect() as (reader, _), asyncio.timeout(DEADLINE_SECONDS):
        assert await _ends(reader)
    assert all(deadline is not None and deadline.cancelled() for deadline in deadlines)
    assert [connection._timer for connection in server.connections._open] == [None] * 5
    assert not any(reader.at_eof() for reader, _ in streams)
    streams[0][1].close()
    await until(lambda: server.connections.open == 4)
    assert await server.answers()
    for _, writer in streams:
        writer.close()


@pytest.mark.parametrize(
    "noise",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"G<script> /\r\n\r\n"],
)
async def test_what_is_no_http_is_answered_in_our_words(
    start: Start, noise: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of it comes back, no version is told, and the log stays quiet."""
    server = await start()
    async with server.connect() as (reader, writer):
        writer.write(noise)
        async with asyncio.timeout(DEADLINE_SECONDS):
            answer = (await reader.read()).decode()
    assert answer.startswith(("HTTP/1.1 400 ", "HTTP/1.0 400 "))
    assert '"code":"bad_request"' in answer
    assert "Content-Security-Policy: default-src 'none'" in answer
    assert "Server:" not in answer
    assert "aiohttp" not in answer
    assert "script>" not in answer
    assert "Traceback" not in caplog.text


def _application() -> web.Application:
    async def fast(request: web.Request) -> web.Response:
        return web.Response(body=b"ok")

    async def body(request: web.Request) -> web.Response:
        return web.Response(body=str(len(await request.read())).encode())

    async def large(request: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE_BYTES))

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    async def stubborn(request: web.Request) -> web.Response:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return web.Response(body=b"late")

    application = web.Application()
    application.on_response_prepare.append(secure)
    application.add_routes([web.get("/fast", fast), web.get("/large", large), web.get("/stream", stream)])
    application.add_routes([web.post("/body", body), web.get("/stubborn", stubborn)])
    return application


async def _head(reader: asyncio.StreamReader, *, has_body: bool = True) -> int:
    """Reads an answer, or its head, and returns its status."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        if has_body:
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split()[1])


async def _until_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, dribbles: bool = False) -> None:
    """Of a connection that nobody else would end in this time."""
    ending = asyncio.create_task(_ends(reader))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not ending.done():
            if dribbles:
                writer.write(b"x")
            await asyncio.wait({ending}, timeout=DRIBBLE_SECONDS)
    assert await ending, "it was answered"


async def _ends(reader: asyncio.StreamReader) -> bool:
    """True where nothing came before the end."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


def _handlers() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if "RequestHandler" in repr(task)]
