"""Behind a real pgbouncer a connection knows what it is, and leaves nothing of its own to whoever comes next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from oracle_celery.database import opening, silence
from oracle_celery.database import store as store_module
from oracle_celery.database.fetching import Blocking, over
from oracle_celery.database.pooler import is_pooled
from oracle_celery.database.queries import Queries
from oracle_celery.database.store import Store
from oracle_celery.database.transactions import CommandStore
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.errors import ConfigurationError, DatabaseUnavailable, QueryTooBroad
from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from tests.ledger import Source, life
from tests.pgbouncer_fixtures import POOL_SIZE, Pgbouncer, running_pgbouncer
from tests.tokens import TOKEN_SETTINGS

#: What a connection of nobody's is like: no time limit, no channels, no locks.
UNTOUCHED = [("0", [], 0)] * POOL_SIZE
NEVER = "SELECT pg_sleep(60)"


@pytest.fixture
def silent_pgbouncer(database: str) -> Iterator[Pgbouncer]:
    """It ignores the options that it does not know, as some drivers need it."""
    yield from running_pgbouncer(database, ignore_startup_parameters="options")


@pytest.fixture
def session_pgbouncer(database: str) -> Iterator[Pgbouncer]:
    yield from running_pgbouncer(database, pool_mode="session")


async def test_whose_a_session_is_is_found_out(
    database: str, pgbouncer: Pgbouncer, silent_pgbouncer: Pgbouncer, session_pgbouncer: Pgbouncer
) -> None:
    """A direct one is ours, one of pgbouncer's session mode as long as we hold it, and all others are everybody's."""
    found: dict[Pgbouncer, tuple[bool, bool]] = {}
    for pooler in (pgbouncer, silent_pgbouncer, session_pgbouncer):
        with psycopg.connect(pooler.address(database), autocommit=True) as connection:
            found[pooler] = is_pooled(connection), await opening.is_shared(pooler.address(database))
    assert found == {pgbouncer: (True, True), silent_pgbouncer: (True, True), session_pgbouncer: (True, False)}
    with psycopg.connect(database, autocommit=True) as connection:
        assert not is_pooled(connection)
    assert not await opening.is_shared(database)


@pytest.mark.parametrize("kind", ["pgbouncer", "silent_pgbouncer"])
def test_recorders_share_it_and_leave_nothing(database: str, kind: str, request: pytest.FixtureRequest) -> None:
    """More recorders than connections, many batches each: every fact is in once, and no prepared statement, time
    limit or lock of theirs meets a neighbour."""
    pooler: Pgbouncer = request.getfixturevalue(kind)
    batches, failures = 12, list[BaseException]()

    def record(number: int) -> None:
        source, store = Source(f"node{number}"), Store(pooler.address(database))
        try:
            for batch in range(batches):
                store.ingest([source.slice(life(f"{number}-{batch}", 1000 * batch))])
        except BaseException as error:
            failures.append(error)
        finally:
            store.close()

    recorders = [threading.Thread(target=record, args=(number,)) for number in range(2 * POOL_SIZE)]
    for recorder in recorders:
        recorder.start()
    for recorder in recorders:
        recorder.join()
    assert failures == []
    with psycopg.connect(database) as connection:
        counted = connection.execute("SELECT count(*), count(DISTINCT task_id) FROM oracle.task_transition").fetchone()
    assert counted == (4 * 2 * POOL_SIZE * batches, 2 * POOL_SIZE * batches)
    assert pooler.leftovers(database) == UNTOUCHED


def test_a_recorder_waits_no_longer_than_elsewhere(
    database: str, pgbouncer: Pgbouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that somebody holds costs it its patience, though its session has no time limit."""
    monkeypatch.setitem(store_module._BOUNDS, "lock_timeout", "50")
    store = Store(pgbouncer.address(database))
    store.connect()
    with psycopg.connect(database) as holder:
        holder.execute("LOCK TABLE oracle.journal_fence")
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            store.ingest([Source().slice(life("task", 0))])
    store.close()


async def test_readers_are_bounded_and_leave_nothing(
    database: str, pgbouncer: Pgbouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sidecar's and an application's: a statement that takes too long ends, and none of a neighbour's does."""
    address = pgbouncer.address(database)
    crowd = await opening.open_pool(address)
    monkeypatch.setattr(opening, "STATEMENT_TIMEOUT_MILLISECONDS", 100)
    monkeypatch.setattr(silence, "GRACE_SECONDS", 60.0)  # pgbouncer may be slow
    hasty, blocking = await opening.open_pool(address), Blocking(address)
    try:
        await asyncio.gather(*(Queries(over(crowd, 60_000)).start_cursor() for _ in range(2 * POOL_SIZE)))
        with pytest.raises(QueryTooBroad):
            await over(hasty)(NEVER, {})
        with pytest.raises(QueryTooBroad):
            await asyncio.to_thread(blocking.answer, blocking.fetch(NEVER, {}))
    finally:
        await crowd.close()
        await hasty.close()
        blocking.close()
    assert pgbouncer.leftovers(database) == UNTOUCHED


def test_what_writes_facts_waits_for_the_disk(database: str, pgbouncer: Pgbouncer) -> None:
    """Recorders, commands and the leader, whatever the database's default: a cursor, and a standby's mark, may promise
    only what is in the flushed log."""
    with psycopg.connect(database, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
    asked = "SELECT current_setting('synchronous_commit')"
    for address in (database, pgbouncer.address(database)):
        store = Store(address)
        store.connect()
        assert store._connection is not None
        with store._bounded(store._connection):
            assert store._connection.execute(asked).fetchone() == ("local",)
        store.close()
        with CommandStore(address) as commands, commands._transaction() as transaction:
            assert transaction._connection.execute(asked).fetchone() == ("local",)

    async def leader() -> Any:
        upkeep = Upkeep(database)
        try:
            return await (await (await upkeep._connect()).execute(asked)).fetchone()
        finally:
            await upkeep.close()

    assert asyncio.run(leader()) == ("local",)


async def test_a_sidecar_that_would_listen_there_does_not_start(database: str, pgbouncer: Pgbouncer) -> None:
    """It says what to set, and has touched nobody's session; with a direct address beside it, it starts."""
    address = pgbouncer.address(database)
    for settings in ({"oracle_url": address}, {"oracle_url": database, "oracle_listen_url": address}):
        with pytest.raises(ConfigurationError, match="set oracle_listen_url to PostgreSQL's own address"):
            await Sidecar(Settings.from_mapping({**settings, **TOKEN_SETTINGS}), port=0).start()
    assert pgbouncer.leftovers(database) == UNTOUCHED
    settings = {"oracle_url": address, "oracle_listen_url": database, **TOKEN_SETTINGS}
    sidecar = Sidecar(Settings.from_mapping(settings), port=0)
    await sidecar.start()
    await sidecar.stop()
