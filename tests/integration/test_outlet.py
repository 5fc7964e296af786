"""A stream's connection after its beginning: out of aiohttp's hands, still bounded, and nobody waits for anybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from oracle_celery.sidecar import outlet as outlet_module
from oracle_celery.sidecar.connections import Connections
from oracle_celery.sidecar.outlet import Outlet, Outlets
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.sidecar.subscription import Subscription
from oracle_celery.viewer import LOCAL_ADMIN
from tests.factories import Feeder, transition
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client, until
from tests.tokens import token

CROWD = 300

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def _opened(sidecar: Sidecar, user: str, last_id: str = "", version: str = "1.1") -> AsyncIterator[Pair]:
    """A socket that has asked for a stream."""
    port = int(sidecar.address.rstrip("/").rpartition(":")[2])
    async with asyncio.timeout(DEADLINE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    resumed = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
    writer.write(
        f"GET /api/tasks/subscribe HTTP/{version}\r\nHost: localhost\r\n"
        f"Authorization: Bearer {token(user)}\r\n{resumed}\r\n".encode()
    )
    try:
        yield reader, writer
    finally:
        writer.close()


async def _read_until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await reader.readuntil(end)


async def test_aiohttp_keeps_nothing_of_a_stream(sidecar: Sidecar, client: Client) -> None:
    """It is counted among the connections and streams for as long as it is open, and leaves when its client does."""
    assert sidecar._runner is not None
    assert sidecar._runner.server is not None
    connections, streams = sidecar._meter._connections, sidecar._backend.parts.streams  # type: ignore[union-attr]
    async with _opened(sidecar, "ann") as (reader, _):
        await _read_until(reader, b"event: summary\n")
        await until(lambda: not sidecar._runner.server.connections)  # type: ignore[union-attr]
        assert (connections.open, connections.waiting, streams.open) == (1, 0, 1)
    await until(lambda: (connections.open, streams.open) == (0, 0))
    assert not sidecar._backend.parts.broadcaster.scopes()


async def test_a_storm_of_those_who_come_back(sidecar: Sidecar, database: str) -> None:
    """Everybody hangs up, something happens to each, everybody is back at once: each is told theirs, and once."""
    users = [f"u-{number}" for number in range(CROWD)]
    async with AsyncExitStack() as stack:
        readers = [(await stack.enter_async_context(_opened(sidecar, user)))[0] for user in users]
        beginnings = await asyncio.gather(*(_read_until(reader, b"event: summary\n") for reader in readers))
    last_ids = [text.rpartition(b"id: ")[2].partition(b"\n")[0].decode() for text in beginnings]
    assert all(last_ids)
    with Feeder(database) as feeder:
        facts = [transition(f"t-{user}", user_id=user) for user in users]
        await asyncio.to_thread(feeder.tell, *facts, transition("nobody's"))

    async def come_back(user: str, last_id: str) -> bytes:
        async with _opened(sidecar, user, last_id) as (reader, _):
            text = b""
            while not (b"event: task\n" in text and b"event: summary\n" in text):
                text += await _read_until(reader, b"\n\n")
            return text

    told = await asyncio.gather(*map(come_back, users, last_ids))
    for user, text in zip(users, told, strict=True):
        assert text.count(b"event: task\n") == 1, text
        assert f'"task_id":"t-{user}"'.encode() in text


async def test_a_client_has_nothing_to_say(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    """A little is overheard, too much ends the stream."""
    monkeypatch.setattr(outlet_module, "RECEIVED_LIMIT_BYTES", 1_000)
    streams = sidecar._backend.parts.streams
    async with _opened(sidecar, "ann") as (reader, writer):
        await _read_until(reader, b"event: summary\n")
        writer.write(b"x" * 900)
        async with _opened(sidecar, "ann") as (other, _):
            await _read_until(other, b"event: summary\n")
            assert streams.open == 2
        writer.write(b"x" * 900)
        await until(lambda: streams.open == 0)


async def test_an_old_client_gets_no_chunks(sidecar: Sidecar, database: str) -> None:
    """HTTP/1.0 knows none: the stream is as it is, live events too."""
    async with _opened(sidecar, "ann", version="1.0") as (reader, _):
        assert b"chunked" not in await _read_until(reader, b"event: summary\n")
        with Feeder(database) as feeder:
            await asyncio.to_thread(feeder.tell, transition("t", user_id="ann"))
        assert await _read_until(reader, b"event: task\n")
        assert (await _read_until(reader, b"\n\n")).startswith(b"data: {")


async def test_a_stopping_sidecar_ends_streams(sidecar: Sidecar) -> None:
    """With the end of the answer, and at once."""
    async with _opened(sidecar, "ann") as (reader, _):
        await _read_until(reader, b"event: summary\n")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await sidecar.stop()
            assert (await reader.read()).endswith(b"0\r\n\r\n")


class Pipe(asyncio.Transport):
    """Takes what is written, or nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_aborted = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 100_000

    def close(self) -> None:
        """What is left must be taken first."""

    def abort(self) -> None:
        self.is_aborted = True


def _outlet(pipe: Pipe) -> tuple[Outlet, Subscription]:
    outlets = Outlets(lambda _: b"heartbeat", lambda _: None)
    subscription = Subscription(LOCAL_ADMIN)
    outlet = Outlet(outlets, subscription, is_chunked=False, address="-")
    outlet.inherit(pipe, Connections(10, 10), is_paused=False)
    return outlet, subscription


async def test_a_heartbeat_tells_no_place_behind_what_waits() -> None:
    """Its id is the place after everything offered: a client that got it first would miss what had waited."""
    pipe = Pipe()
    outlet, subscription = _outlet(pipe)
    outlet.look_after(outlet._spoke_at + 60.0)
    assert pipe.written == [b"heartbeat"]
    subscription.offer(b"news")
    outlet.look_after(outlet._spoke_at + 60.0)
    assert pipe.written == [b"heartbeat"]
    outlet.write_what_waits(0.0, 0.0)
    assert pipe.written == [b"heartbeat", b"news"]


async def test_who_takes_nothing_is_cut_off() -> None:
    """Nothing more is written meanwhile; half a minute is enough."""
    pipe = Pipe()
    outlet, subscription = _outlet(pipe)
    outlet.pause_writing()
    subscription.offer(b"news")
    outlet.write_what_waits(0.0, 0.0)
    outlet.look_after(outlet._paused_at + 29.0)
    assert not pipe.written
    assert not pipe.is_aborted
    outlet.look_after(outlet._paused_at + 31.0)
    assert pipe.is_aborted


async def test_an_end_that_nobody_takes_is_cut_off_too() -> None:
    """A client that takes a part of what was left when its stream ended, and then no more, does not stay for ever."""
    pipe = Pipe()
    outlet, subscription = _outlet(pipe)
    subscription.close()
    outlet.write_what_waits(0.0, 0.0)
    outlet.resume_writing()
    outlet.look_after(time.monotonic() + 31.0)
    assert pipe.is_aborted
