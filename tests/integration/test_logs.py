"""A task's log as it is read: pages, the live stream, the file. Nothing lost or twice, nothing to the wrong one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import psycopg
import pytest

from oracle_celery.database.cursor import Cursor
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.logs import END, Following, LogQueries
from oracle_celery.database.sql import statement
from oracle_celery.database.store import Store
from oracle_celery.errors import DatabaseUnavailable, TaskNotFound
from oracle_celery.records import LogLine
from oracle_celery.settings import Settings
from oracle_celery.sidecar import log_stream
from oracle_celery.sidecar import stream as stream_module
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from oracle_celery.viewer import LOCAL_ADMIN, Viewer
from tests.factories import Feeder, transition
from tests.ledger import SECOND, Source, sent, started
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client, Stream
from tests.tokens import TOKEN_SETTINGS, bearer

ANN = Viewer("ann")
PATH = "/api/tasks/t/logs"
LIVE = f"{PATH}/subscribe"
WRITERS = 3
BATCHES_PER_WRITER = 25

INSERT = """
INSERT INTO oracle.task_log (txid, at, level, number, task_id, run_id, logger, message)
SELECT pg_current_xact_id(), now(), 20, n, 't', %s, 'shop', %s FROM generate_series(%s::integer, %s) AS n
RETURNING line_id"""


@pytest.fixture
def queries(fetch: Fetch) -> LogQueries:
    return LogQueries(fetch)


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database) as opened:
        opened.tell(transition("t", Status.IN_PROGRESS, user_id="ann", run_id="r1"))
        yield opened


def line(number: int, *, task_id: str = "t", run_id: str = "r1", level: int = 20, **fields: Any) -> LogLine:
    fields.setdefault("message", f"{run_id} {number}")
    fields.setdefault("logger", "shop")
    return LogLine(task_id=task_id, at=number * SECOND, number=number, level=level, run_id=run_id, **fields)


def write(
    connection: psycopg.Connection[Any], first: int = 0, last: int | None = None, message: str = "x"
) -> list[int]:
    """Lines without a recorder, in the connection's transaction."""
    rows = connection.execute(INSERT, ["r1", message, first, first if last is None else last]).fetchall()
    return [line_id for (line_id,) in rows]


# -- pages ------------------------------------------------------------------------------------------------------------


async def test_pages_go_both_ways_and_say_what_is_missing(store: Store, queries: LogQueries) -> None:
    """From the beginning on, from the end back, of one run, from a level on; with the runs and what was not kept."""
    store.ingest([Source().slice([sent("t", 0, user_id="ann"), started("t", 2, 1, run_id="r1")])])
    assert (await queries.page(ANN, "t")).lines == []
    store.ingest([Source("w@h").slice([started("t", 4 * SECOND, 3 * SECOND, run_id="r2", retries=1)])])
    source = Source("w@h")
    other = [line(number, task_id="other", message="not ours") for number in range(3)]
    store.ingest_logs([source.slice([*(line(number) for number in range(3)), *other])])
    store.ingest_logs([source.slice([line(0, run_id="r2"), line(3, run_id="r2", level=40)])])
    store.ingest_logs([source.slice([line(9, run_id="r2", level=0, message=None, logger="oracle_log_lines_per_run")])])
    said = ["r1 0", "r1 1", "r1 2", "r2 0", "r2 3", None]
    first = await queries.page(ANN, "t", limit=4)
    assert first.next is not None
    rest = await queries.page(ANN, "t", after=first.next, limit=4)
    assert [each.message for each in first.lines + rest.lines] == said
    assert (rest.next, first.previous, first.lines[1].at) == (None, None, "2026-01-01T00:00:01.000000Z")
    last = await queries.page(ANN, "t", before=END, limit=2)
    assert last.previous is not None
    earlier = await queries.page(ANN, "t", before=last.previous, limit=4)
    assert [each.message for each in earlier.lines + last.lines] == said
    assert (earlier.previous, last.next) == (None, None)
    assert [each.message for each in (await queries.page(ANN, "t", run_id="r1")).lines] == said[:3]
    assert [each.message for each in (await queries.page(ANN, "t", level=30)).lines] == ["r2 3", None]
    runs = [(run.attempt, run.run_id, run.lines, run.not_kept, run.reasons) for run in first.runs]
    assert runs == [(1, "r1", 3, 0, []), (2, "r2", 2, 8, ["oracle_log_lines_per_run"])]
    blind = await queries.page(Viewer("rolf", is_reader=True, sees_payloads=False), "t")
    assert (blind.lines, blind.payloads_withheld, [run.lines for run in blind.runs]) == ([], True, [0, 0])
    for stranger, task_id in ((Viewer("bob"), "t"), (Viewer(""), "t"), (LOCAL_ADMIN, "nothing")):
        with pytest.raises(TaskNotFound):
            await queries.page(stranger, task_id)


# -- what is new ------------------------------------------------------------------------------------------------------


async def test_a_line_that_commits_late_is_not_lost(database: str, queries: LogQueries, feeder: Feeder) -> None:
    """The line with the smaller number commits last: who follows is given it, and after a page with the later one."""
    page = await queries.page(ANN, "t")

    async def news(cursor: str, limit: int = 100) -> tuple[list[int], str]:
        [told] = await queries.news([Following("t", ANN, Cursor.parse(cursor))], limit)
        assert told.cursor is not None
        return [each.line_id for each in told.lines], str(told.cursor)

    with psycopg.connect(database) as slow, psycopg.connect(database, autocommit=True) as quick:
        [early] = write(slow)
        [late] = write(quick)
        assert early < late
        found, cursor = await news(page.cursor)
        assert found == [late]
        paged = await queries.page(ANN, "t", before=END)
        assert [each.line_id for each in paged.lines] == [late]
        slow.commit()
        assert (await news(cursor))[0] == [early]
        assert (await news(paged.cursor))[0] == [early]
        assert (await news((await news(cursor))[1]))[0] == []
        batches = [write(quick, 1, 3), write(quick, 4, 7)]
        found, cursor = await news(paged.cursor, limit=3)
        assert found == [early, *batches[0]]  # a transaction is never cut
        assert (await news(cursor))[0] == batches[1]
    bob, blind = Viewer("bob"), Viewer("rolf", is_reader=True, sees_payloads=False)
    start = Cursor.parse(page.cursor)
    told = await queries.news([Following("t", viewer, start) for viewer in (bob, blind, LOCAL_ADMIN)], 100)
    assert [len(each.lines) for each in told] == [0, 0, 9]


async def test_news_are_found_by_index(database: str, queries: LogQueries, feeder: Feeder) -> None:
    """However long a log is, as many of its lines are looked at as are new."""
    with psycopg.connect(database, autocommit=True) as connection:
        write(connection, 0, 20_000)
        cursor = Cursor.parse((await queries.page(ANN, "t")).cursor)
        write(connection, 20_001)
        connection.execute("VACUUM ANALYZE oracle.task_log")
        parameters = {
            "followers": [0],
            "task_ids": ["t"],
            "owners": [None],
            "see_payloads": [True],
            "xmaxs": [str(cursor.xmax)],
            "xips": [""],
            "since": datetime.fromtimestamp(0, UTC),
            "limit": 100,
        }
        query = statement("log_news").format(snapshot=statement("snapshot"))
        plan = "\n".join(text for (text,) in connection.execute(f"EXPLAIN (ANALYZE) {query}", parameters).fetchall())
    assert re.search(r"using log_arrival_first on task_log_first g_\d .*rows=1(\.00)? loops=1", plan), plan
    assert "Seq Scan on task_log_first" not in plan


# -- the stream -------------------------------------------------------------------------------------------------------


async def lines_of(stream: Stream, count: int) -> tuple[list[dict[str, Any]], str]:
    """At least so many lines, and the last id that came with them."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while len(found) < count or not cursor:
        event = await stream.until("log")
        assert event.data["task_id"] == "t"
        found += event.data["lines"]
        cursor = event.id or ""
    return found, cursor


async def test_lines_come_as_they_are_stored(client: Client, feeder: Feeder, store: Store) -> None:
    """Woken by the notification of any task; a client that comes back goes on where it was, one without a place from
    now on."""
    source = Source("w@h")
    page = await client.ok(PATH)
    async with client.of("ann").subscribe(path=LIVE) as stream:
        await stream.until("heartbeat")
        await asyncio.to_thread(store.ingest_logs, [source.slice([line(0), line(0, task_id="unknown"), line(1)])])
        found, cursor = await lines_of(stream, 2)
        assert [(each["message"], each["number"], each["level"]) for each in found] == [
            ("r1 0", 0, 20),
            ("r1 1", 1, 20),
        ]
    await asyncio.to_thread(store.ingest_logs, [source.slice([line(2)])])
    async with client.subscribe(path=LIVE, last_event_id=cursor, after=page["cursor"]) as stream:  # the header wins
        assert [each["message"] for each in (await lines_of(stream, 1))[0]] == ["r1 2"]
    async with client.subscribe(path=LIVE, after=page["cursor"]) as stream:
        assert [each["message"] for each in (await lines_of(stream, 3))[0]] == ["r1 0", "r1 1", "r1 2"]


async def test_nothing_is_lost_or_told_twice(database: str, client: Client, feeder: Feeder) -> None:
    """Writers whose transactions commit out of order, a reader that comes and goes: every line, each once."""
    dice = random.Random(5)
    found: list[int] = []
    cursor = (await client.ok(PATH))["cursor"]

    async def read(done: asyncio.Event) -> None:
        nonlocal cursor
        while not (done.is_set() and len(found) == await _count(database)):
            async with client.subscribe(path=LIVE, after=cursor) as stream:
                for _ in range(dice.randint(1, 6)):
                    event = await stream.event()
                    found.extend(each["line_id"] for each in event.data.get("lines", ()))
                    cursor = event.id or cursor
                    if done.is_set() and len(found) == await _count(database):
                        return

    async with asyncio.timeout(3 * DEADLINE_SECONDS):
        done = asyncio.Event()
        reading = asyncio.create_task(read(done))
        async with asyncio.TaskGroup() as writing:
            for writer in range(WRITERS):
                writing.create_task(_write_out_of_order(database, random.Random(writer)))
        done.set()
        await asyncio.to_thread(feeder.tell, transition("rings"))
        await reading
    assert len(found) == len(set(found)) == WRITERS * BATCHES_PER_WRITER * 2


async def _write_out_of_order(database: str, dice: random.Random) -> None:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        for number in range(BATCHES_PER_WRITER):
            await connection.execute(INSERT, ["r1", "x", number, number + 1])
            await asyncio.sleep(dice.random() * 0.03)  # meanwhile others take larger numbers and commit
            await connection.execute("SELECT pg_notify('oracle_channel', '')")
            await connection.commit()


async def _count(database: str) -> int:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        row = await (await connection.execute("SELECT count(*) FROM oracle.task_log")).fetchone()
        assert row is not None
        return int(row[0])


async def test_a_slow_reader_is_not_read_for_and_loses_nothing(
    sidecar: Sidecar, client: Client, feeder: Feeder, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for one who takes nothing is one read's lines; who is hopelessly behind is told to read anew."""
    monkeypatch.setattr(log_stream, "LINES_LIMIT", 50)
    monkeypatch.setattr(stream_module, "SEND_TIMEOUT_SECONDS", 3 * DEADLINE_SECONDS)  # a busy machine takes its time
    start = (await client.ok(PATH))["cursor"]
    with psycopg.connect(database, autocommit=True) as connection:
        async with client.subscribe(path=LIVE, after=start) as slow, client.subscribe(path=LIVE, after=start) as fast:
            slow.response.connection.transport.pause_reading()  # type: ignore[union-attr]
            for number in range(30):
                await asyncio.to_thread(write, connection, number * 50, number * 50 + 49, "x" * 5_000)
                await asyncio.to_thread(feeder.tell, transition(f"rings {number}"))
                await lines_of(fast, 50)
            waiting = [sum(map(len, follower._waiting)) for follower in sidecar._backend.parts.log_streams._followers]
            assert max(waiting) < 60 * 6_000
            slow.response.connection.transport.resume_reading()  # type: ignore[union-attr]
            found, _ = await lines_of(slow, 1_500)
            assert [each["number"] for each in found] == list(range(1_500))
        monkeypatch.setattr(log_stream, "BEHIND_LIMIT", 3)
        async with client.subscribe(path=LIVE, after=start) as stream:
            resync = await stream.until("resync")
            assert resync.data == {"reason": "slow_reader"}
    async with client.subscribe(path=LIVE, after="nonsense") as stream:
        assert (await stream.until("resync")).data == {"reason": "malformed_cursor"}


async def test_a_log_is_its_owners_and_takes_a_seat(database: str) -> None:
    """A foreign task is not there; streams of logs count as streams and end with their token."""
    settings = {"oracle_url": database, **TOKEN_SETTINGS, "oracle_streams_per_user": 1, "oracle_jwt_leeway": 0}
    sidecar = Sidecar(Settings.from_mapping(settings), port=0)
    await sidecar.start()
    try:
        with Feeder(database) as feeder:
            feeder.tell(transition("t", Status.IN_PROGRESS, user_id="ann"))
        async with aiohttp.ClientSession() as session:
            ann = Client(session, sidecar.address, bearer("ann"))
            bob = Client(session, sidecar.address, bearer("bob"))
            for path in (PATH, LIVE, f"{PATH}/download"):
                status, refused = await bob.get(path)
                assert (status, refused["error"]["code"]) == (404, "task_not_found")
            # made last: until it ends nothing has to be done in time but this one request
            briefly = Client(session, sidecar.address, bearer("ann", ttl=6.0))
            async with briefly.subscribe(path=LIVE) as stream:
                for path in (LIVE, "/api/tasks/subscribe"):
                    status, refused = await ann.get(path)
                    assert (status, refused["error"]["code"]) == (429, "too_many_streams")
                assert (await stream.until("bye")).data == {"reason": "token_expired"}
    finally:
        await sidecar.stop()


# -- the file ---------------------------------------------------------------------------------------------------------


async def test_a_log_is_downloaded_whole(client: Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As text, whatever the length, with what is missing, under a name that no id can break out of."""
    monkeypatch.setattr("oracle_celery.sidecar.log_api.FILE_LINES", 2)
    task_id = 'x"\r\nSet-Cookie: a=b; ü/..'
    store.ingest([Source().slice([sent(task_id, 0), started(task_id, 2, 1, run_id="r1")])])
    source = Source("w@h")
    numbers = (0, 1, 2, 5)
    store.ingest_logs([source.slice([line(number, task_id=task_id, level=30) for number in numbers])])
    store.ingest_logs([source.slice([line(7, task_id=task_id, message=None, level=0, logger="why")])])
    async with client.raw(f"/api/tasks/{quote(task_id, safe='')}/logs/download") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["Content-Disposition"] == ('attachment; filename="task-x___Set-Cookie__a_b______.log"')
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        text = (await response.read()).decode()
    assert text.splitlines() == [
        "2026-01-01T00:00:00.000000Z WARNING shop: r1 0",
        "2026-01-01T00:00:01.000000Z WARNING shop: r1 1",
        "2026-01-01T00:00:02.000000Z WARNING shop: r1 2",
        "2026-01-01T00:00:05.000000Z -- 2 lines not kept --",
        "2026-01-01T00:00:05.000000Z WARNING shop: r1 5",
        "2026-01-01T00:00:07.000000Z -- 2 lines not kept --",
    ]


async def test_a_download_that_fails_half_way_is_cut_off(
    sidecar: Sidecar, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its client sees that it is not whole, and no second answer within it; the log says why."""
    monkeypatch.setattr("oracle_celery.sidecar.log_api.FILE_LINES", 2)
    store.ingest([Source().slice([sent("t", 0), started("t", 2, 1, run_id="r1")])])
    store.ingest_logs([Source("w@h").slice([line(number) for number in range(4)])])
    logs = sidecar._backend.parts.logs
    page, asked = logs.page, 0

    async def fail_later(*arguments: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise DatabaseUnavailable(detail="gone")
        return await page(*arguments, **options)

    monkeypatch.setattr(logs, "page", fail_later)
    port = int(sidecar.address.rstrip("/").rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "".join(f"{name}: {value}\r\n" for name, value in bearer(role="admin").items())
    writer.write(f"GET /api/tasks/t/logs/download HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
    received = b""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65_536):
                received += piece
    writer.close()
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"r1 1" in received
    assert received.count(b"HTTP/1.1") == 1
    assert not received.endswith(b"0\r\n\r\n")
    assert "cut off half-way: GET download_logs" in caplog.text
    assert "Traceback" not in caplog.text
