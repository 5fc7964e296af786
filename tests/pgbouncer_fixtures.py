"""Real pgbouncer before the session's PostgreSQL, in transaction mode: few connections, shared by everybody."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests import scaling_page
from tests.ports import free_port
from tests.postgresql_fixtures import unprivileged_user

START_TIMEOUT = 60.0  # seconds
POLL_SECONDS = 0.02
CONFIGURED = scaling_page.options("pgbouncer")
#: Connections to PostgreSQL for everybody with the same user and database: so few that they must be shared.
POOL_SIZE = int(CONFIGURED["default_pool_size"])
PLACES = ("pgbouncer", "/usr/sbin/pgbouncer")


class Pgbouncer:
    """Leads to the server of `dsn`; `address` is a database's address through it."""

    def __init__(self, dsn: str, **settings: str) -> None:
        server = conninfo_to_dict(dsn)
        self._user = str(server["user"])
        self._owner = unprivileged_user()  # it refuses to run as root
        self.base = Path(tempfile.mkdtemp(prefix="oracle-pgbouncer-", dir="/tmp"))
        self.port = free_port()
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            **CONFIGURED,
            "server_connect_timeout": "2",
            "server_login_retry": "1",
        } | settings
        lines = [f"* = host={server['host']} port={server['port']} user={self._user}"]
        text = "\n".join(
            ["[databases]", *lines, "[pgbouncer]", *(f"{name} = {value}" for name, value in options.items())]
        )
        self._configuration = self.base / "pgbouncer.ini"
        self._configuration.write_text(text + "\n")
        if self._owner:
            for path in (self.base, self._configuration):
                shutil.chown(path, self._owner)
        self._process: subprocess.Popen[bytes] | None = None

    def address(self, dsn: str) -> str:
        return make_conninfo(host="127.0.0.1", port=self.port, user=self._user, dbname=conninfo_to_dict(dsn)["dbname"])

    def start(self) -> None:
        with (self.base / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [_program(), str(self._configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.base,
                user=self._owner,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, (self.base / "log").read_text()
            assert time.monotonic() < deadline, "pgbouncer does not listen"
            time.sleep(POLL_SECONDS)

    def dispose(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_TIMEOUT)
        shutil.rmtree(self.base, ignore_errors=True)

    def leftovers(self, dsn: str) -> list[tuple[str, list[str], int]]:
        """Of each of its connections that is free, all of them held at once: what statements are bounded by, what is
        listened to, and how many locks outlive their transaction. As whoever comes by would find them."""
        address, found = self.address(dsn), []
        neighbours = [psycopg.connect(address, autocommit=True, prepare_threshold=None) for _ in range(POOL_SIZE)]
        try:
            for neighbour in neighbours:
                neighbour.execute("BEGIN")
                row = neighbour.execute(
                    "SELECT current_setting('statement_timeout'), ARRAY(SELECT pg_listening_channels()),"
                    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())::int"
                ).fetchone()
                assert row is not None
                found.append(row)
        finally:
            for neighbour in neighbours:
                neighbour.close()
        return found


@pytest.fixture
def pgbouncer(database: str) -> Iterator[Pgbouncer]:
    """In transaction mode, before the server of `database`."""
    yield from running_pgbouncer(database)


def running_pgbouncer(dsn: str, **settings: str) -> Iterator[Pgbouncer]:
    pooler = Pgbouncer(dsn, **settings)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.dispose()


def _program() -> str:
    for place in PLACES:
        if found := shutil.which(place):
            return found
    pytest.exit("The tests need pgbouncer: sh tests/servers.sh")
