"""Brings a database to the version of the schema that this Oracle needs, and says when it is not.

Guarantee: each migration is one transaction and they run one after another, under a lock that every Oracle takes, so
two sidecars that start together migrate once. A worker never migrates: it calls `require_current` and journals on.
"""

from __future__ import annotations

from collections.abc import Callable

from psycopg import Connection, errors

from oracle_celery.database import restoration
from oracle_celery.database.sql import Migration, migrations, statement
from oracle_celery.errors import SchemaMissing, SchemaOutOfDate

__all__ = ["REQUIRED_VERSION", "Migration", "current_version", "migrate", "pending", "require_current"]

#: The version that this code's statements are written for.
REQUIRED_VERSION = migrations()[-1].version

#: The advisory lock of migrations, arbitrary but for ever.
LOCK_KEY = 0x6F7261636C65  # "oracle"

MIGRATE = "Stop older workers or let them journal, then run: celery -A <your app> oracle migrate"
UPGRADE = "Install the release of oracle-celery that made this database, or a newer one."

AnyConnection = Connection[tuple[object, ...]]


def current_version(connection: AnyConnection) -> int | None:
    """The version of the database's schema; None where there is none."""
    found = _versions(connection)
    return found[0] if found else None


def pending(connection: AnyConnection) -> list[Migration]:
    """The migrations that this database lacks, oldest first."""
    current = current_version(connection) or 0
    return [migration for migration in migrations() if migration.version > current]


def migrate(
    connection: AnyConnection, *, dry_run: bool = False, begins: Callable[[Migration], None] | None = None
) -> list[Migration]:
    """Applies what is pending and returns it, and settles what was restored from a dump; a dry run only returns it.
    `begins` is called before each migration. Raises SchemaOutOfDate where the database is newer than what this code may
    work on."""
    if dry_run:
        _refuse_newer(connection)
        return pending(connection)
    applied = []
    for migration in migrations():
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
            _refuse_newer(connection)
            if migration in pending(connection):  # asked again under the lock: another Oracle may have been faster
                if begins is not None:
                    begins(migration)
                connection.execute(migration.sql)
                connection.execute(
                    statement("set_schema_version"),
                    {
                        "version": migration.version,
                        "compatible_with": migration.compatible_with or migration.version,
                        "name": migration.name,
                    },
                )
                applied.append(migration)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
        if current_version(connection) == REQUIRED_VERSION:
            restoration.settle(connection)
    return applied


def require_current(connection: AnyConnection) -> None:
    """Raises SchemaMissing or SchemaOutOfDate unless this code may work on the database."""
    found = _versions(connection)
    if found is None:
        raise SchemaMissing
    version, compatible_with = found
    if version < REQUIRED_VERSION:
        raise SchemaOutOfDate(found=version, needed=REQUIRED_VERSION, advice=MIGRATE)
    if compatible_with > REQUIRED_VERSION:
        raise SchemaOutOfDate(found=version, needed=REQUIRED_VERSION, advice=UPGRADE)


def _refuse_newer(connection: AnyConnection) -> None:
    found = _versions(connection)
    if found is not None and found[1] > REQUIRED_VERSION:
        raise SchemaOutOfDate(found=found[0], needed=REQUIRED_VERSION, advice=UPGRADE)


def _versions(connection: AnyConnection) -> tuple[int, int] | None:
    """(version, compatible_with) of the database."""
    try:
        with connection.transaction():  # an undefined table must not abort the caller's transaction
            row = connection.execute(statement("schema_versions")).fetchone()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return None
    return (int(str(row[0])), int(str(row[1]))) if row else None
