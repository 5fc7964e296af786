"""A primary with a standby by streaming replication, of one test alone: to be killed, cut off and promoted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from oracle_celery.database import schema
from tests import scaling_page
from tests.polling import eventually
from tests.postgresql_fixtures import CARELESS, PostgresServer

#: What the standby calls itself.
STANDBY = scaling_page.options("failover")["synchronous_standby_names"].strip("'")

__all__ = ["Replicas", "running_replicas"]


class Replicas:
    """`address` finds whichever of the two takes writes."""

    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self.primary = primary
        self.standby = standby
        self.address: str = scaling_page.settings("failover", db1=primary.dsn(), db2=standby.dsn())["oracle_url"]

    def ask(self, server: PostgresServer, query: str) -> Any:
        """The one value that a query gives."""
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            row = connection.execute(query).fetchone()  # type: ignore[call-overload]
            assert row is not None
            return row[0]

    def synchronize(self) -> None:
        """From now on a commit is one when the standby has it."""
        self.primary.configure(**scaling_page.options("failover"))
        state = "SELECT string_agg(sync_state, ',') FROM pg_stat_replication"
        eventually(lambda: self.ask(self.primary, state) == "sync", "the standby is a synchronous one")

    def wait_until_equal(self) -> None:
        """Until the standby shows all that is committed now."""
        there = self.ask(self.primary, "SELECT pg_current_wal_flush_lsn()")
        eventually(
            lambda: self.ask(self.standby, f"SELECT pg_last_wal_replay_lsn() >= '{there}'"), "the standby is equal"
        )

    def cut(self) -> None:
        """The standby hears nothing of the primary any more; the primary goes on without it."""
        with psycopg.connect(self.standby.dsn(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
        eventually(
            lambda: self.ask(self.primary, "SELECT count(*) FROM pg_stat_replication") == 0, "the standby is cut off"
        )

    def fail_over(self) -> None:
        self.primary.kill()
        self.standby.promote()


def running_replicas(**settings: str) -> Iterator[Replicas]:
    # processes are killed, machines are not
    settings = CARELESS | scaling_page.options("standby") | settings
    primary = PostgresServer(settings=settings)
    standby: PostgresServer | None = None
    try:
        primary.start()
        with psycopg.connect(primary.dsn(), autocommit=True) as connection:
            schema.migrate(connection)
        standby = PostgresServer(follows=primary, settings=settings, name=STANDBY)
        standby.start()
        yield Replicas(primary, standby)
    finally:
        for server in (standby, primary):
            if server is not None:
                server.dispose()
