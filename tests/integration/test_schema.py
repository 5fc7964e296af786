"""Migrations: once, in order, under a lock, and a clear word where they are missing."""

from __future__ import annotations

import threading

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database import schema
from oracle_celery.database.fetching import over
from oracle_celery.database.queries import Queries
from oracle_celery.database.sql import migrations
from oracle_celery.database.store import Store
from oracle_celery.errors import SchemaMissing, SchemaOutOfDate
from oracle_celery.viewer import LOCAL_ADMIN
from tests.ledger import Source, life


def test_an_empty_database_says_what_to_run(empty_database: str) -> None:
    """A worker that finds no schema is told the command, and changes nothing."""
    store = Store(empty_database)
    with pytest.raises(SchemaMissing, match="oracle migrate"):
        store.connect()
    with psycopg.connect(empty_database, autocommit=True) as connection:
        assert schema.current_version(connection) is None
        assert schema.pending(connection) == list(migrations())


def test_a_dry_run_only_tells(empty_database: str) -> None:
    """What would be applied is returned, and the database stays as it was."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        assert schema.migrate(connection, dry_run=True) == list(migrations())
        assert schema.current_version(connection) is None


def test_migrating_twice_is_migrating_once(empty_database: str) -> None:
    """The second call finds nothing to do."""
    with psycopg.connect(empty_database, autocommit=True) as connection:
        assert schema.migrate(connection) == list(migrations())
        assert schema.migrate(connection) == []
        assert schema.pending(connection) == []
        assert schema.current_version(connection) == schema.REQUIRED_VERSION
        schema.require_current(connection)


def test_two_sidecars_start_together(empty_database: str) -> None:
    """Each migration is applied by one of them, and both go on."""
    applied: list[schema.Migration] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        with psycopg.connect(empty_database, autocommit=True) as connection:
            barrier.wait()
            applied.extend(schema.migrate(connection))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied, key=lambda migration: migration.version) == list(migrations())  # one each, perhaps


def test_a_failed_migration_leaves_nothing(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one transaction: half a schema is never seen."""
    broken = schema.Migration(1, "broken", "CREATE SCHEMA oracle; CREATE TABLE oracle.a (); SELECT 1 / 0")
    monkeypatch.setattr(schema, "migrations", lambda: (broken,))
    with psycopg.connect(empty_database, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            schema.migrate(connection)
        assert connection.execute("SELECT to_regnamespace('oracle')").fetchone() == (None,)


def set_version(database: str, version: int, compatible_with: int) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "UPDATE oracle.schema_version SET version = %s, compatible_with = %s", [version, compatible_with]
        )


def test_a_newer_database_that_knows_this_code(database: str) -> None:
    """A rolling upgrade migrates first: older workers go on where the new schema allows it."""
    set_version(database, schema.REQUIRED_VERSION + 1, schema.REQUIRED_VERSION)
    store = Store(database)
    store.connect()
    store.close()
    with psycopg.connect(database, autocommit=True) as connection:
        assert schema.migrate(connection) == []  # an older sidecar that starts again


def test_what_a_migration_locks_out_stays_out(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that older code can live with says so; the one before it may have said otherwise."""
    steps = (
        schema.Migration(1, "one", migrations()[0].sql),
        schema.Migration(2, "two", "SELECT 1", compatible_with=1),
        schema.Migration(3, "three", "SELECT 1"),
        schema.Migration(4, "four", "SELECT 1", compatible_with=1),
    )
    found = []
    with psycopg.connect(empty_database, autocommit=True) as connection:
        for count in range(1, len(steps) + 1):
            monkeypatch.setattr(schema, "migrations", lambda count=count: steps[:count])
            schema.migrate(connection)
            found.append(connection.execute("SELECT compatible_with FROM oracle.schema_version").fetchone())
    assert found == [(1,), (1,), (3,), (3,)]


def test_a_newer_database_that_does_not(database: str) -> None:
    """This code says that it is too old, and does not migrate either."""
    set_version(database, schema.REQUIRED_VERSION + 1, schema.REQUIRED_VERSION + 1)
    with pytest.raises(SchemaOutOfDate, match="newer"):
        Store(database).connect()
    with psycopg.connect(database, autocommit=True) as connection, pytest.raises(SchemaOutOfDate):
        schema.migrate(connection)


def test_an_older_database(database: str) -> None:
    """This code says which command brings the database up to date."""
    set_version(database, schema.REQUIRED_VERSION - 1, 0)
    with pytest.raises(SchemaOutOfDate, match="oracle migrate"):
        Store(database).connect()


async def test_a_history_that_began_before_the_upgrade(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told to the older schema and what is told to the newer one is one task's history, each fact once."""
    names = [one.name for one in migrations()]
    before = migrations()[: names.index("history_by_transaction")]
    with psycopg.connect(empty_database, autocommit=True) as connection:
        with monkeypatch.context() as older:
            older.setattr(schema, "migrations", lambda: before)
            older.setattr(schema, "REQUIRED_VERSION", before[-1].version)
            schema.migrate(connection)
            store = Store(empty_database)
            store.ingest([Source("w@h").slice(life("a", 0)[:2])])
            store.close()
        schema.migrate(connection)
    store.ingest([Source("w@h").slice(life("a", 0)[2:])])
    store.close()
    async with AsyncConnectionPool(empty_database, kwargs={"autocommit": True}, open=False) as pool:
        detail = await Queries(over(pool)).task(LOCAL_ADMIN, "a")
    assert [entry.status for entry in detail.history] == ["pending", "pending", "in_progress", "completed"]


def test_messages_that_were_kept_before_the_upgrade(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of tasks that have failed or were cancelled are not looked at; those that may have to go are."""
    names = [one.name for one in migrations()]
    before = migrations()[: names.index("upkeep")]
    with psycopg.connect(empty_database, autocommit=True) as connection:
        with monkeypatch.context() as older:
            older.setattr(schema, "migrations", lambda: before)
            older.setattr(schema, "REQUIRED_VERSION", before[-1].version)
            schema.migrate(connection)
        connection.execute(
            "INSERT INTO oracle.task_state_record (task_id, created_at, changed_at, run_at, retries, status, rank)"
            " SELECT status::text, now(), now(), 'epoch', 0, status, 40 FROM generate_series(0, 4) AS status"
        )
        connection.execute(
            "INSERT INTO oracle.task_message (task_id, at, is_chord_member)"
            " SELECT n::text, now(), false FROM generate_series(0, 5) AS n"
        )
        schema.migrate(connection)
        looked_at = connection.execute("SELECT task_id FROM oracle.task_message WHERE awaits_end ORDER BY 1")
        assert [task_id for (task_id,) in looked_at] == ["0", "1", "2", "5"]


def test_a_schema_that_goes_away_under_a_recorder(database: str) -> None:
    """Its next batch says that the schema is missing, not that the batch is bad."""
    store = Store(database)
    store.connect()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA oracle CASCADE")
    with pytest.raises(SchemaMissing):
        store.positions([])
    store.close()
