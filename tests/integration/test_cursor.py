"""A reader that resumes from cursors sees every committed row once, whatever the writers do."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database.cursor import Cursor, CursorUnusable
from oracle_celery.database.fetching import over
from oracle_celery.database.queries import Queries
from tests.postgresql_fixtures import DatabaseServer

WRITERS = 5
ROUNDS = 60  # transactions per writer
DEADLINE = 120.0  # seconds

INSERT = """
INSERT INTO oracle.task_transition (txid, at, run_at, retries, status, rank, task_id, reason)
SELECT pg_current_xact_id(), now(), 'epoch', 0, 0, 0, 'task', %s FROM generate_series(1, %s)
RETURNING history_id"""


@pytest.fixture
async def queries(database: str) -> AsyncIterator[Queries]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO oracle.task_state_record (task_id, created_at, changed_at, run_at, retries, status, rank)"
            " VALUES ('task', now(), now(), 'epoch', 0, 0, 0)"
        )
    async with AsyncConnectionPool(database, kwargs={"autocommit": True}, open=False) as pool:
        yield Queries(over(pool))


def insert(connection: psycopg.Connection[Any], label: str = "x", rows: int = 1) -> list[int]:
    return [history_id for (history_id,) in connection.execute(INSERT, [label, rows]).fetchall()]


async def seen(queries: Queries, cursor: Cursor, limit: int = 1000) -> tuple[list[int], Cursor]:
    changes = await queries.changes(Cursor.parse(str(cursor)), limit)
    return [transition.public.history_id for transition in changes.transitions], changes.cursor


async def test_a_late_commit_is_seen_though_a_counter_would_lose_it(database: str, queries: Queries) -> None:
    """The row with the smaller number commits last: a reader of `history_id > last` never sees it, the cursor does."""
    cursor = await queries.start_cursor()
    with psycopg.connect(database) as slow, psycopg.connect(database, autocommit=True) as quick:
        [early] = insert(slow)
        [late] = insert(quick)
        assert early < late
        found, cursor = await seen(queries, cursor)
        assert found == [late]
        last = max(found)
        slow.commit()
        plain = quick.execute("SELECT history_id FROM oracle.task_transition WHERE history_id > %s", [last]).fetchall()
        assert plain == []
        assert (await seen(queries, cursor))[0] == [early]
        assert (await seen(queries, (await seen(queries, cursor))[1]))[0] == []


async def test_a_long_transaction_delays_nobody(database: str, queries: Queries) -> None:
    """While somebody else's transaction is open, what others commit is seen at once, and its own rows once it ends."""
    cursor = await queries.start_cursor()
    with psycopg.connect(database) as slow, psycopg.connect(database, autocommit=True) as quick:
        [held] = insert(slow)
        for _ in range(5):
            committed = insert(quick, rows=3)
            found, cursor = await seen(queries, cursor)
            assert sorted(found) == committed
        slow.commit()
    found, cursor = await seen(queries, cursor)
    assert found == [held]


async def test_rolled_back_rows_are_never_seen(database: str, queries: Queries) -> None:
    """Neither in between nor afterwards; the cursor forgets the transaction."""
    cursor = await queries.start_cursor()
    with psycopg.connect(database) as slow, psycopg.connect(database, autocommit=True) as quick:
        insert(slow)
        [(transaction,)] = slow.execute("SELECT pg_current_xact_id()::text::bigint").fetchall()
        insert(quick)
        _, cursor = await seen(queries, cursor)
        assert transaction in cursor.xip  # maybe beside one of the server's own, or of another database
        slow.rollback()
    found, cursor = await seen(queries, cursor)
    assert found == []
    assert transaction not in cursor.xip


async def test_a_transaction_is_never_cut(database: str, queries: Queries) -> None:
    """A read may exceed its limit, but the cursor never stands inside of a transaction."""
    cursor = await queries.start_cursor()
    with psycopg.connect(database, autocommit=True) as connection:
        batches = [insert(connection, rows=rows) for rows in (3, 4, 2)]
    found, cursor = await seen(queries, cursor, limit=4)
    assert found == batches[0] + batches[1]
    found, cursor = await seen(queries, cursor, limit=1)
    assert found == batches[2]
    assert (await queries.changes(cursor, 1)).more is False


async def test_random_writers_and_a_resuming_reader(database: str, queries: Queries) -> None:
    """Random sleeps, savepoints, rollbacks, one long transaction, any limit: nothing is lost, nothing repeated."""
    cursor = await queries.start_cursor()
    committed: Counter[int] = Counter()
    lock = threading.Lock()
    dice = random.Random(20260101)
    writers = [
        threading.Thread(target=_writer, args=(database, random.Random(dice.random()), committed, lock))
        for _ in range(WRITERS)
    ]
    has_begun, is_passed = threading.Event(), threading.Event()
    writers.append(threading.Thread(target=_long_writer, args=(database, committed, lock, has_begun, is_passed)))
    writers[-1].start()
    assert await asyncio.to_thread(has_begun.wait, DEADLINE)
    for writer in writers[:-1]:
        writer.start()
    found: Counter[int] = Counter()
    deadline = time.monotonic() + DEADLINE
    highest, went_back = 0, 0
    while True:
        is_over = not any(writer.is_alive() for writer in writers)
        changes = await queries.changes(Cursor.parse(str(cursor)), dice.choice([1, 3, 10, 1000]))
        cursor = changes.cursor
        numbers = [transition.public.history_id for transition in changes.transitions]
        went_back += any(number < highest for number in numbers)
        highest = max([highest, *numbers])
        found.update(numbers)
        if numbers:
            is_passed.set()  # all that has been seen so far came after the long one's rows
        if is_over and not changes.more:
            break
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    assert found == committed
    assert went_back > 0, "no commit was out of order: this run has proved nothing"


def _writer(database: str, dice: random.Random, committed: Counter[int], lock: threading.Lock) -> None:
    with psycopg.connect(database) as connection:
        for _ in range(ROUNDS):
            rows: list[int] = []
            connection.execute("SELECT 1")  # begins the transaction in which the savepoints are
            for _ in range(dice.choice([1, 1, 2, 4])):
                if dice.random() < 0.2:
                    with connection.transaction():  # a savepoint: a transaction number of its own
                        rows += insert(connection)
                else:
                    rows += insert(connection, rows=dice.choice([1, 1, 5]))
                connection.execute("SELECT pg_sleep(%s)", [dice.choice([0, 0, 0.001, 0.01])])
            if dice.random() < 0.2:
                connection.rollback()
                continue
            connection.commit()
            with lock:
                committed.update(rows)


def _long_writer(
    database: str, committed: Counter[int], lock: threading.Lock, has_begun: threading.Event, is_passed: threading.Event
) -> None:
    """It takes the smallest numbers, and commits when the reader has seen larger ones."""
    with psycopg.connect(database) as connection:
        rows = insert(connection, rows=7)
        has_begun.set()
        is_passed.wait(DEADLINE)
        connection.commit()
        with lock:
            committed.update(rows)


async def test_another_databases_cursor(database_server: DatabaseServer, database: str, queries: Queries) -> None:
    """The same server counts the same transactions in all its databases; their cursors are not each other's."""
    other = database_server.create()
    async with AsyncConnectionPool(other, kwargs={"autocommit": True}, open=False) as pool:
        cursor = await Queries(over(pool)).start_cursor()
        with pytest.raises(CursorUnusable, match="other_database"):
            await queries.changes(cursor, 10)
    database_server.drop(other)


async def test_history_that_is_gone(database: str, queries: Queries) -> None:
    """A cursor older than what retention has left is told so; a new one goes on."""
    cursor = await queries.start_cursor()
    with psycopg.connect(database, autocommit=True) as connection:
        insert(connection)
        _, later = await seen(queries, cursor)
        connection.execute("DELETE FROM oracle.task_transition")
        connection.execute("UPDATE oracle.history_floor SET txid = %s::text::xid8", [str(later.xmax)])
        with pytest.raises(CursorUnusable, match="cursor_expired"):
            await queries.changes(cursor, 10)
        assert (await queries.start_cursor()).xmax == later.xmax
        [fresh] = insert(connection)
    assert (await seen(queries, later))[0] == [fresh]
