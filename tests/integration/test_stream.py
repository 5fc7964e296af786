"""The live stream over HTTP, from real PostgreSQL: nothing lost, nothing twice, nothing to the wrong viewer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import aiohttp
import psycopg
import pytest

from oracle_celery.database.cursor import Cursor
from oracle_celery.database.queries import Queries
from oracle_celery.settings import Settings
from oracle_celery.sidecar import outlet as outlet_module
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from tests.factories import Feeder, transition
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client, Stream
from tests.tokens import TOKEN_SETTINGS

WRITERS = 4
BATCHES_PER_WRITER = 40
LONG_TRANSACTIONS = 12
READERS = 4
FACTS_THAT_FILL_ANY_PIPE = 10_000  # of 2 KB each


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database) as opened:
        yield opened


async def _list_cursor(client: Client) -> str:
    cursor: str = (await client.ok("/api/tasks"))["cursor"]
    return cursor


async def test_a_committed_fact_arrives(client: Client, feeder: Feeder) -> None:
    """With everything a row of the table shows, and a cursor to go on from."""
    async with client.subscribe(after=await _list_cursor(client)) as stream:
        await asyncio.to_thread(feeder.tell, transition("t-1", Status.FAILED, name="shop.pay", error_type="ValueError"))
        [event] = await stream.tasks(1)
    assert event.id
    assert event.data["task_id"] == "t-1"
    assert event.data["new_status"] == "failed"
    assert event.data["timestamp"].endswith("Z")
    assert event.data["task"]["name"] == "shop.pay"
    assert event.data["task"]["error_type"] == "ValueError"


async def test_it_says_how_it_wants_to_be_treated(client: Client) -> None:
    """No cache, no proxy's buffer, our security headers, a reconnect time of its own."""
    async with client.raw("/api/tasks/subscribe") as response:
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in response.headers
        name, _, milliseconds = (await response.content.readline()).decode().partition(": ")
        assert name == "retry"
        assert 2000 <= int(milliseconds) <= 8000


async def test_it_begins_with_a_summary_and_a_resume_point(client: Client) -> None:
    """A client that never hears of a task can still resume."""
    async with client.subscribe() as stream:
        first = [await stream.event(), await stream.event()]
    assert {event.event for event in first} == {"heartbeat", "summary"}
    assert any(event.id for event in first)


async def test_silence_has_heartbeats(client: Client, feeder: Feeder, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are events that a page can see, and their ids are as good as any."""
    monkeypatch.setattr(outlet_module, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(outlet_module, "ROUND_SECONDS", 0.05)
    async with client.subscribe() as stream:
        beats = [await stream.until("heartbeat") for _ in range(3)]
    await asyncio.to_thread(feeder.tell, transition("t-1"))
    async with client.subscribe(last_event_id=beats[-1].id) as stream:
        assert [event.data["task_id"] for event in await stream.tasks(1)] == ["t-1"]


async def test_the_summary_follows_changes(client: Client, feeder: Feeder) -> None:
    """The header's numbers come by themselves."""
    async with client.subscribe() as stream:
        await asyncio.to_thread(feeder.tell, transition("t-1"), transition("t-2"))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await stream.until("summary")).data["queued"] != 2:
                pass


async def test_a_reconnect_gets_what_it_missed_once(client: Client, feeder: Feeder) -> None:
    """By Last-Event-ID, which wins over the older ?after= that a browser repeats."""
    start = await _list_cursor(client)
    async with client.subscribe(after=start) as stream:
        await asyncio.to_thread(feeder.tell, transition("t-1"))
        [seen] = await stream.tasks(1)
    await asyncio.to_thread(feeder.tell, transition("t-2"))
    await asyncio.to_thread(feeder.tell, transition("t-3"))
    async with client.subscribe(after=start, last_event_id=seen.id) as stream:
        assert [event.data["task_id"] for event in await stream.tasks(2)] == ["t-2", "t-3"]


async def test_moments_outside_the_calendar_stop_nobody(database: str, client: Client, feeder: Feeder) -> None:
    """What workers of before have stored of an eta of `datetime.max`, or of before the year 1: it is told as the last
    moment there is, or the first, in the stream, in lists and in the backlog of a sidecar that starts later; and all
    that comes after it is told, too."""
    first, last = "0001-01-02T00:00:00.000000Z", "9999-12-31T00:00:00.000000Z"
    moments = {"max": 253_402_300_800.0, "late": 9e12, "min": -62_135_596_800.0 - 3_600, "early": -2e11}
    expected = {"max": last, "late": last, "min": first, "early": first, "next": None}
    before = await _list_cursor(client)
    async with client.subscribe(after=before) as stream:
        for name, moment in moments.items():
            await asyncio.to_thread(feeder.tell, transition(name, eta=moment, expires=moment))
        await asyncio.to_thread(feeder.tell, transition("next"))
        told = [event.data["task"] for event in await stream.tasks(len(expected))]
    for tasks in (told, (await client.ok("/api/tasks"))["tasks"]):
        assert {task["task_id"]: task["eta"] for task in tasks} == expected
        assert {task["task_id"]: task["expires"] for task in tasks} == expected
    for name, code in {"early": "expired", "max": "eta"}.items():
        reason = (await client.ok(f"/api/tasks/{name}"))["waiting"]["reasons"][0]
        assert (reason["code"], reason.get("eta") or reason.get("expires")) == (code, expected[name])
    other = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0)
    await other.start()
    try:
        later = Client(client._session, other.address)
        async with later.subscribe(after=before) as stream:
            assert [event.data["task_id"] for event in await stream.tasks(len(expected))] == list(expected)
        assert (await later.ok("/readyz"))["status"] == "ok"
    finally:
        await other.stop()


async def test_who_comes_with_the_start_misses_nothing(
    database: str, feeder: Feeder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar is there when it knows where the news begin, however long that takes: a stream without a cursor is told
    of all that happens from its head on."""
    earlier_cursor = Queries.earlier_cursor

    async def slow(queries: Queries, transitions: int) -> Cursor:
        await asyncio.sleep(0.3)
        return await earlier_cursor(queries, transitions)

    monkeypatch.setattr(Queries, "earlier_cursor", slow)
    other = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0)
    await other.start()
    try:
        async with aiohttp.ClientSession() as session, Client(session, other.address).subscribe() as stream:
            await asyncio.to_thread(feeder.tell, transition("t"))
            [told] = await stream.tasks(1)
            assert told.data["task_id"] == "t"
    finally:
        await other.stop()


async def test_a_cursor_of_another_sidecar_works_here(database: str, client: Client, feeder: Feeder) -> None:
    """What is older than this sidecar's ring comes from the database; then it goes on live."""
    start = await _list_cursor(client)
    await asyncio.to_thread(feeder.tell, *(transition(f"t-{number}") for number in range(5)))
    other = Sidecar(Settings.from_mapping({"oracle_url": database, **TOKEN_SETTINGS}), port=0)
    await other.start()
    try:
        client_of_other = Client(client._session, other.address)
        async with client_of_other.subscribe(after=start) as stream:
            first = await stream.tasks(5)
            await asyncio.to_thread(feeder.tell, transition("t-5"))
            [last] = await stream.tasks(1)
    finally:
        await other.stop()
    assert sorted(event.data["task_id"] for event in first) == [f"t-{number}" for number in range(5)]
    assert last.data["task_id"] == "t-5"


@pytest.mark.parametrize("cursor", ["nonsense", "1.1.1.1.", "9.a.b.c.d", "1." + "9" * 300])
async def test_a_cursor_that_cannot_be_served_gets_a_resync(client: Client, feeder: Feeder, cursor: str) -> None:
    """Never an error that ends an EventSource for good, never silence; the stream goes on live."""
    async with client.subscribe(after=cursor) as stream:
        resync = await stream.until("resync")
        assert resync.data["reason"]
        await asyncio.to_thread(feeder.tell, transition("t-1"))
        assert [event.data["task_id"] for event in await stream.tasks(1)] == ["t-1"]


async def test_an_unknown_parameter_is_refused(client: Client) -> None:
    """A mistyped ?after= must not silently begin somewhere else."""
    status, body = await client.get("/api/tasks/subscribe", afer="1")
    assert status == 400
    assert body["error"]["parameter"] == "afer"
    assert body["error"]["allowed"] == ["after"]


async def test_foreign_tasks_never_reach_a_viewer(client: Client, feeder: Feeder) -> None:
    """Live, in the backlog, and in the summary: an owner's stream holds nothing but the owner's."""
    start = await _list_cursor(client)
    async with client.of("ann").subscribe(after=start) as ann, client.subscribe(after=start) as admin:
        for number in range(10):
            owner = ("ann", "bob", None)[number % 3]
            await asyncio.to_thread(feeder.tell, transition(f"t-{number}", user_id=owner))
        assert len(await admin.tasks(10)) == 10
        live = await ann.tasks(4)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await ann.until("summary")).data["queued"] != 4:
                pass
    async with client.of("ann").subscribe(after=start) as stream:
        backlog = await stream.tasks(4)
        await asyncio.to_thread(feeder.tell, transition("bob's", user_id="bob"), transition("ann's", user_id="ann"))
        backlog += await stream.tasks(1)
    assert {event.data["task"]["user_id"] for event in live + backlog} == {"ann"}
    assert backlog[-1].data["task_id"] == "ann's"


async def test_a_slow_reader_is_told_to_resync_and_delays_nobody(
    sidecar: Sidecar, client: Client, feeder: Feeder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client that reads nothing while megabytes pass; another one gets every one of them."""
    monkeypatch.setattr(outlet_module, "ANSWER_SECONDS", 3_600.0)  # it is cut off for nothing else meanwhile
    streams = sidecar._backend.parts.streams
    start = await _list_cursor(client)
    async with client.subscribe(after=start) as slow, client.subscribe(after=start) as fast:
        await slow.until("summary")
        slow.response.connection.transport.pause_reading()  # type: ignore[union-attr]
        numbers = iter(range(1_000_000))
        total = 0
        while not any(subscription._resync for subscription in streams._seats._taken):
            batch = [transition(f"t-{next(numbers)}", name="x" * 2_000) for _ in range(100)]
            await asyncio.to_thread(feeder.tell, *batch)
            total += len(batch)
            got = await fast.tasks(len(batch))
            assert len({event.data["history_id"] for event in got}) == len(batch)
            assert total < FACTS_THAT_FILL_ANY_PIPE
        slow.response.connection.transport.resume_reading()  # type: ignore[union-attr]
        resync = await slow.until("resync")
        assert resync.data == {"reason": "slow_reader"}
        await asyncio.to_thread(feeder.tell, transition("after"))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await slow.until("task")).data["task_id"] != "after":
                pass


async def test_nothing_is_lost_or_told_twice(database: str, client: Client) -> None:
    """Concurrent writers whose transactions commit out of order, readers that come and go at random moments."""
    start = await _list_cursor(client)
    dice = random.Random(20)
    done = asyncio.Event()
    readers = [Reader(client, start, random.Random(number)) for number in range(READERS)]
    async with asyncio.timeout(3 * DEADLINE_SECONDS), asyncio.TaskGroup() as reading:
        for reader in readers:
            reading.create_task(reader.run(done))
        async with asyncio.TaskGroup() as writing:
            for writer in range(WRITERS):
                writing.create_task(_write(database, writer, dice.random()))
            for _ in range(LONG_TRANSACTIONS):
                writing.create_task(_write_slowly(database, dice.random()))
        async with await psycopg.AsyncConnection.connect(database) as connection:
            rows = await (await connection.execute("SELECT history_id FROM oracle.task_transition")).fetchall()
        expected = {row[0] for row in rows}
        assert len(expected) > WRITERS * BATCHES_PER_WRITER
        for reader in readers:
            reader.expected = expected
        done.set()
    assert all(reader.received == expected for reader in readers)
    assert sum(reader.reconnects for reader in readers) > READERS


class Reader:
    """Reads, hangs up at random, resumes from the last id; fails on an event that its cursor had seen already."""

    def __init__(self, client: Client, cursor: str, dice: random.Random) -> None:
        self.received: set[int] = set()
        self.expected: set[int] | None = None
        self.reconnects = -1
        self._client = client
        self._cursor = cursor
        self._covered: set[int] = set()
        self._dice = dice

    async def run(self, done: asyncio.Event) -> None:
        while self.expected is None or self.received < self.expected:
            self.reconnects += 1
            async with self._client.subscribe(after=self._cursor) as stream:
                patience = 2.0 if done.is_set() else self._dice.uniform(0.0, 0.4)
                try:
                    async with asyncio.timeout(patience):
                        await self._read(stream)
                except TimeoutError:
                    continue

    async def _read(self, stream: Stream) -> None:
        here: set[int] = set()
        while self.expected is None or self.received < self.expected:
            event = await stream.event()
            assert event.event != "resync", event.data
            if event.event == "task":
                history_id = event.data["history_id"]
                assert history_id not in here, "twice in one stream"
                assert history_id not in self._covered, "told again although the cursor had seen it"
                here.add(history_id)
                self.received.add(history_id)
            if event.id:
                self._cursor = event.id
                self._covered = set(self.received)


async def _write(database: str, writer: int, seed: float) -> None:
    """A recorder: many small transactions."""

    def run() -> None:
        dice = random.Random(seed)
        with Feeder(database) as feeder:
            for number in range(BATCHES_PER_WRITER):
                feeder.tell(*(transition(f"w{writer}-{number}-{index}") for index in range(dice.randint(1, 4))))

    await asyncio.to_thread(run)


async def _write_slowly(database: str, seed: float) -> None:
    """A transaction that takes its numbers early and commits late."""
    dice = random.Random(seed)
    async with await psycopg.AsyncConnection.connect(database) as connection:
        for _ in range(3):
            async with connection.transaction():
                for _ in range(2):
                    await connection.execute(
                        "WITH task AS (INSERT INTO oracle.task_state_record (created_at, changed_at, run_at, retries,"
                        " status, rank, task_id) VALUES (now(), now(), 'epoch', 0, 0, 0, gen_random_uuid()::text)"
                        " RETURNING *)"
                        " INSERT INTO oracle.task_transition (txid, at, run_at, retries, status, rank, task_id)"
                        " SELECT pg_current_xact_id(), changed_at, run_at, retries, status, rank, task_id FROM task"
                    )
                    await asyncio.sleep(dice.uniform(0.0, 0.2))
