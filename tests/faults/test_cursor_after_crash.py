"""A cursor survives a crash of the server, after which transaction numbers are given out again."""

from __future__ import annotations

import psycopg
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database import schema
from oracle_celery.database.fetching import over
from oracle_celery.database.queries import Queries
from oracle_celery.database.store import Store
from tests.ledger import Source, sent
from tests.postgresql_fixtures import PostgresServer

#: Crashes until a number comes again. It does not where something, such as a checkpoint, flushes just before the kill.
CRASHES = 5
#: So that nothing does, however long the machine takes from the number to the kill.
NOTHING_FLUSHES = {"wal_writer_delay": "10s", "checkpoint_timeout": "1d", "autovacuum": "off"}


async def test_reused_transaction_numbers(private_postgres: PostgresServer) -> None:
    """A cursor taken after a transaction that was never flushed sees what a later one with its number writes."""
    dsn = private_postgres.dsn()
    private_postgres.configure(**NOTHING_FLUSHES)
    with psycopg.connect(dsn, autocommit=True) as connection:
        schema.migrate(connection)
    source = Source()
    store = Store(dsn)
    store.ingest([source.slice([sent("before", 0)])])
    for crash in range(CRASHES):
        with psycopg.connect(dsn) as connection:
            for _ in range(20):
                connection.execute("SELECT pg_current_xact_id()")
                connection.rollback()
            raw = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
            assert raw is not None
            connection.rollback()
            async with AsyncConnectionPool(dsn, kwargs={"autocommit": True}, open=False) as pool:
                cursor = await Queries(over(pool)).start_cursor()
                private_postgres.kill()
        private_postgres.start()
        store.close()
        store.ingest([source.slice([sent(f"after {crash}", 0)])])
        store.close()
        async with AsyncConnectionPool(dsn, kwargs={"autocommit": True}, open=False) as pool:
            changes = await Queries(over(pool)).changes(cursor, 10)
        [transition] = changes.transitions
        assert transition.public.task_id == f"after {crash}"
        if transition.txid < raw[0]:
            return
    raise AssertionError(f"in {CRASHES} crashes no number was given out again: this run has proved nothing")
