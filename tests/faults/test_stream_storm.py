"""Streams of many owners, cut off again and again while transactions commit in another order than they began.

Guarantee under test: each client's list, without what came twice, is the committed list of its owner: no gap, and
nothing of anybody else. The expected list is read from the history itself, which every writer has filled.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import struct
import time
import urllib.parse
from typing import Any

import aiohttp
import psycopg
import pytest

from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from tests.factories import Feeder, transition
from tests.faults.scale import scaled
from tests.sidecar_fixtures import Client
from tests.tokens import TOKEN_SETTINGS, bearer

CLIENTS = scaled(40, 200)
DISCONNECTS = scaled(6, 50)
OWNERS = 8
WRITERS = 4
#: Seconds that one connection lives at most, and that a late transaction stays open.
LIFE_SECONDS = 0.5
LATE_SECONDS = 0.4
#: Seconds between two batches of a writer; and until everything has been seen, once all is written.
PAUSE_SECONDS = 0.03
CATCH_UP_SECONDS = 60.0
#: SO_LINGER with no time: closing sends RST.
RESET = struct.pack("ii", 1, 0)

pytestmark = pytest.mark.timeout(900)


async def test_nobody_misses_anything_and_nobody_sees_anybody_else(database: str) -> None:
    """0 gaps, 0 foreign events, 0 resyncs."""
    seed = int(os.environ.get("ORACLE_SEED", time.time()))
    print(f"ORACLE_SEED={seed}")
    dice = random.Random(seed)
    settings = {"oracle_url": database, "oracle_streams_per_user": CLIENTS, **TOKEN_SETTINGS}
    sidecar = Sidecar(Settings.from_mapping(settings), port=0)
    await sidecar.start()
    try:
        clients = [await _opened(sidecar, f"owner-{number % OWNERS}", dice) for number in range(CLIENTS)]
        is_over = asyncio.Event()
        reading = [asyncio.create_task(client.run(is_over)) for client in clients]
        writing = [asyncio.create_task(_write(database, writer, dice.random(), is_over)) for writer in range(WRITERS)]
        late = asyncio.create_task(_write_late(database, dice.random(), is_over))
        async with asyncio.timeout(600):
            while any(client.disconnects < DISCONNECTS for client in clients):
                await asyncio.sleep(0.05)
        is_over.set()
        await asyncio.gather(*writing, late)
        committed = await _committed(database)
        for client in clients:
            client.expected = committed[client.owner]
        async with asyncio.timeout(CATCH_UP_SECONDS):
            await asyncio.gather(*reading)
        for client in clients:
            assert client.seen == committed[client.owner], client.owner
            assert client.foreign == 0
            assert client.resyncs == 0
        assert min(map(len, committed.values())) > DISCONNECTS
    finally:
        await sidecar.stop()


async def _opened(sidecar: Sidecar, owner: str, dice: random.Random) -> StormClient:
    async with aiohttp.ClientSession() as session:
        cursor = (await Client(session, sidecar.address, bearer(owner)).ok("/api/tasks"))["cursor"]
    port = urllib.parse.urlsplit(sidecar.address).port or 0
    return StormClient(port, owner, cursor, random.Random(dice.random()))


class StormClient:
    """An EventSource whose connection is reset in the middle of whatever it was reading."""

    def __init__(self, port: int, owner: str, cursor: str, dice: random.Random) -> None:
        self.owner = owner
        self.seen: set[int] = set()
        self.expected: set[int] | None = None
        self.foreign = self.resyncs = self.disconnects = 0
        self._port, self._cursor, self._dice = port, cursor, dice

    async def run(self, is_over: asyncio.Event) -> None:
        """Until it has seen what is expected of it, or somebody gives up."""
        while self.expected is None or not self.expected <= self.seen:
            await self._connect(5.0 if is_over.is_set() else self._dice.uniform(0.0, LIFE_SECONDS))
            self.disconnects += 1

    async def _connect(self, seconds: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        try:
            address = f"/api/tasks/subscribe?after={urllib.parse.quote(self._cursor)}"
            headers = {"Host": "127.0.0.1", "Accept": "text/event-stream", **bearer(self.owner)}
            lines = [f"GET {address} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            async with asyncio.timeout(seconds):
                await self._read(reader)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 200"), head
        is_chunked = "chunked" in head.lower()
        held = b""
        while self.expected is None or not self.expected <= self.seen:
            held += await _chunk(reader) if is_chunked else await _some(reader)
            *blocks, held = held.split(b"\n\n")
            for block in blocks:
                self._take(block.decode())

    def _take(self, block: str) -> None:
        fields = dict(line.partition(": ")[::2] for line in block.splitlines())
        if fields.get("event") == "task":
            event: dict[str, Any] = json.loads(fields["data"])
            self.seen.add(event["history_id"])
            self.foreign += event["task"]["user_id"] != self.owner
        self.resyncs += fields.get("event") == "resync"
        if fields.get("id"):
            self._cursor = fields["id"]


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    """One of a chunked answer."""
    size = int(await reader.readuntil(b"\r\n"), 16)
    return (await reader.readexactly(size + 2))[:-2]


async def _some(reader: asyncio.StreamReader) -> bytes:
    held = await reader.read(65_536)
    if not held:
        raise asyncio.IncompleteReadError(b"", None)
    return held


async def _write(database: str, writer: int, seed: float, is_over: asyncio.Event) -> None:
    """Batches of several owners' facts, each in a transaction of its own."""
    dice, number = random.Random(seed), 0
    with Feeder(database) as feeder:
        while not is_over.is_set():
            facts = []
            for _ in range(dice.randint(1, 6)):
                number += 1
                status = dice.choice([Status.PENDING, Status.IN_PROGRESS, Status.COMPLETED])
                owner = f"owner-{dice.randrange(OWNERS)}"
                facts.append(transition(f"{writer}-{number}", status, user_id=owner, name="shop.pay"))
            await asyncio.to_thread(feeder.tell, *facts)
            await asyncio.sleep(dice.uniform(0, PAUSE_SECONDS))


async def _write_late(database: str, seed: float, is_over: asyncio.Event) -> None:
    """Transactions that have their number early and commit when many later ones have."""
    dice, number = random.Random(seed), 0
    while not is_over.is_set():
        async with await psycopg.AsyncConnection.connect(database) as connection:
            await connection.execute("SELECT pg_current_xact_id()")
            await asyncio.sleep(dice.uniform(0, LATE_SECONDS))
            for _ in range(dice.randint(1, 3)):
                number += 1
                await connection.execute(
                    "INSERT INTO oracle.task_state_record (task_id, user_id, status, rank, retries, created_at,"
                    " changed_at, run_at, name) VALUES (%s, %s, 0, 0, 0, now(), now(), 'epoch', 'late')",
                    [f"late-{number}", f"owner-{dice.randrange(OWNERS)}"],
                )
                await connection.execute(
                    "INSERT INTO oracle.task_transition (txid, at, run_at, retries, status, rank, task_id)"
                    " VALUES (pg_current_xact_id(), now(), 'epoch', 0, 0, 0, %s)",
                    [f"late-{number}"],
                )
            await connection.execute("SELECT pg_notify('oracle_channel', '{}')")


async def _committed(database: str) -> dict[str, set[int]]:
    """History by owner, from the tables alone."""
    found: dict[str, set[int]] = {f"owner-{number}": set() for number in range(OWNERS)}
    async with await psycopg.AsyncConnection.connect(database) as connection:
        rows = await connection.execute(
            "SELECT t.user_id, h.history_id FROM oracle.task_transition AS h"
            " JOIN oracle.task_state_record AS t USING (task_id)"
        )
        for owner, history_id in await rows.fetchall():
            found[owner].add(history_id)
    return found
