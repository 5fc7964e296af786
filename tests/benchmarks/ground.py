"""What a part of the benchmark stands on: servers of its own, started when somebody asks for them."""

from __future__ import annotations

from functools import cached_property

from tests.broker_fixtures import RabbitServer
from tests.postgresql_fixtures import DatabaseServer, PostgresServer

__all__ = ["Ground"]

#: A server as somebody would set one up for this load, not as it comes; it waits for the disk.
POSTGRESQL_SETTINGS = {"max_wal_size": "'4GB'", "shared_buffers": "'512MB'"}


class Ground:
    """`is_full` asks for more and larger rounds than the few minutes of the short form allow."""

    def __init__(self, *, is_full: bool) -> None:
        self.is_full = is_full

    @cached_property
    def postgres(self) -> PostgresServer:
        server = PostgresServer(settings=POSTGRESQL_SETTINGS)
        server.start()
        return server

    @cached_property
    def databases(self) -> DatabaseServer:
        return DatabaseServer(self.postgres.dsn())

    @cached_property
    def rabbitmq(self) -> RabbitServer:
        server = RabbitServer()
        server.start()
        return server

    def close(self) -> None:
        """Only what was started."""
        for name in ("rabbitmq", "postgres"):
            if name in self.__dict__:
                getattr(self, name).dispose()
