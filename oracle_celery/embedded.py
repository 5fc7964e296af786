"""A private PostgreSQL for laptops, demos and tests: one server per OS user and app, on this machine only.

Whoever starts it owns it and stops it; its address stands in ``embedded.url`` (0600) as long as it runs. It listens on
a Unix socket in a 0700 folder and asks the kernel who connects (peer), so there is no password and no TCP port.
The data stays between starts. fsync is on.

What bites:

- An owner that is killed with SIGKILL leaves its server running. The next start adopts that server; nothing else ever
  stops it. A second starter, while an owner lives, attaches to the owner's server and stops nothing.
- PostgreSQL refuses to run as root. Started as root, the server runs as ``postgres``, or ``nobody`` where there is no
  such user, and its files live in ``/var/lib/oracle-celery`` (``/var/tmp`` where that cannot be), never below the
  state folder: that one is usually private to root, and the rights of folders above it are not ours to change.
- The system's PostgreSQL is preferred. The extra's binaries are used as plain files: its own start-up code would create
  an OS user and open parent folders to everybody.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, quote, urlsplit

from oracle_celery.embedded_binaries import Binaries, find_binaries
from oracle_celery.errors import EmbeddedUnavailable

__all__ = ["URL_FILE", "EmbeddedPostgres"]

logger = logging.getLogger(__name__)

#: Name of the file in the state folder that holds the running server's address (`Settings.embedded_url_path`).
URL_FILE = "embedded.url"
LOCK_FILE = "embedded.lock"
DATABASE_USER = "oracle"
DATABASE = "postgres"
SOCKET_NAME = ".s.PGSQL.5432"

INITDB_TIMEOUT_SECONDS = 120
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 30
POLL_SECONDS = 0.05
#: Bytes of a Unix socket's path that every system takes (macOS: 104 with the closing NUL).
SOCKET_PATH_LIMIT = 103
LOG_TAIL_LINES = 15

#: Places for the server's files when root starts it; the first that root can write to is taken.
ROOT_BASES = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108  # a folder of our own below it, checked for its owner

_CONFIGURATION = """\
# Written by Oracle for Celery at every start: changes are lost.
listen_addresses = ''
unix_socket_directories = '{socket_path}'
unix_socket_permissions = 0700
hba_file = '{home}/pg_hba.conf'
ident_file = '{home}/pg_ident.conf'
fsync = on
synchronous_commit = on
max_connections = 60
shared_buffers = 64MB
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
"""


class EmbeddedPostgres:
    """Starts, adopts and stops the server that belongs to one state folder. Also a context manager."""

    def __init__(self, state_path: Path) -> None:
        self.state_path = state_path.absolute()
        self.url_path = self.state_path / URL_FILE
        self._lock: int | None = None
        self._binaries: Binaries | None = None

    def start(self) -> str:
        """The address of the running server. Raises `EmbeddedUnavailable` with the reason where there can be none."""
        self.state_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._take_ownership():
            url = self._published_url()
            if url is not None and _answers(url):
                return url
            if time.monotonic() > deadline:
                raise EmbeddedUnavailable(detail=f"another process owns {self.state_path} and its server is silent")
            time.sleep(POLL_SECONDS)
        try:
            url = self._start_owned()
            self._publish(url)
        except OSError as error:
            self.stop()
            raise EmbeddedUnavailable(detail=str(error)) from error
        except BaseException:
            self.stop()
            raise
        logger.warning("The embedded PostgreSQL in %s serves this machine only.", self.home)
        return url

    def stop(self) -> None:
        """Stops the server if this object owns it; its data stays. Safe twice, and if never started."""
        if self._lock is None:
            return
        self._stop_server()
        os.close(self._lock)
        self._lock = None

    def remove(self) -> None:
        """Stops the server and deletes its data, unless another process owns it: for demos and tests."""
        if not self.state_path.exists() or not self._take_ownership():
            return
        self._stop_server()
        shutil.rmtree(self.home, ignore_errors=True)
        if self.home.parent != self.state_path:
            with contextlib.suppress(OSError):
                self.home.parent.rmdir()  # only when no other app's server lives there
        (self.state_path / LOCK_FILE).unlink(missing_ok=True)
        self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def home(self) -> Path:
        """The folder of the server's files."""
        if os.geteuid() != 0:
            return self.state_path / "postgresql"
        base = next((base for base in ROOT_BASES if os.access(base, os.W_OK)), ROOT_BASES[-1])
        name = re.sub(r"[^A-Za-z0-9_-]", "_", self.state_path.name)[:24]
        return base / "oracle-celery" / f"{name}-{_fingerprint(self.state_path)}"

    @property
    def data_path(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "data"

    # -- ownership --------------------------------------------------------------------------------------------------

    def _take_ownership(self) -> bool:
        if self._lock is not None:
            return True
        lock = os.open(self.state_path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def _published_url(self) -> str | None:
        try:
            return self.url_path.read_text().strip() or None
        except FileNotFoundError:
            return None

    def _publish(self, url: str) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self.state_path, prefix=URL_FILE)  # mkstemp's files are 0600
        with os.fdopen(descriptor, "w") as file:
            file.write(url)
        Path(temporary).replace(self.url_path)

    def _stop_server(self) -> None:
        self.url_path.unlink(missing_ok=True)
        if self._server_pid() is None:
            return
        if self._binaries is None:
            self._binaries = find_binaries(self._data_version(), _server_account().pw_name, copies=self.home)
        socket_path = self._running_socket_path()
        for mode in ("fast", "immediate"):
            if self._pg_ctl("stop", "-m", mode, "-t", str(STOP_TIMEOUT_SECONDS)).returncode == 0:
                break
        if socket_path is not None and not socket_path.is_relative_to(self.home):
            with contextlib.suppress(OSError):
                socket_path.rmdir()

    # -- the server -------------------------------------------------------------------------------------------------

    def _start_owned(self) -> str:
        account = _server_account()
        self._make_home()
        self._binaries = find_binaries(self._data_version(), account.pw_name, copies=self.home)
        if self._server_pid() is None:
            self._prune_stale_pid_file()
            if not self.data_path.exists():
                self._initialise(account)
            self._launch(self._make_socket_path(account), account)
        return self._wait_until_ready()

    def _make_home(self) -> None:
        """As root, `home` stays root's, so that the server's user can plant no link where root writes."""
        if os.geteuid() != 0:
            self.home.mkdir(mode=0o700, exist_ok=True)
        else:
            self._make_home_of_root()
        _require_owner(self.home, os.geteuid())

    def _make_home_of_root(self) -> None:
        while True:
            self.home.parent.mkdir(mode=0o755, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # it went with the last of other apps' servers in the meantime
                _require_owner(self.home.parent, 0)
                self.home.mkdir(mode=0o755, exist_ok=True)
                return

    def _data_version(self) -> int | None:
        try:
            return int((self.data_path / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    def _initialise(self, account: pwd.struct_passwd) -> None:
        """A killed initdb leaves no half data directory: it works beside the final place."""
        unfinished = self.home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        _private_folder(unfinished, account)
        assert self._binaries is not None
        done = self._binaries.run(
            "initdb", "-D", str(unfinished), "-U", DATABASE_USER, "--auth-local=peer", "--auth-host=reject",
            "--encoding=UTF8", "--locale=C", "--data-checksums", timeout=INITDB_TIMEOUT_SECONDS,
        )  # fmt: skip
        if done.returncode != 0:
            raise EmbeddedUnavailable(detail=f"initdb failed: {_tail(done.stdout)}")
        unfinished.rename(self.data_path)

    def _make_socket_path(self, account: pwd.struct_passwd) -> Path:
        """A short path that only the server's user may enter; root always can."""
        places = [self.home / "run"]
        if os.geteuid() != 0:
            name = f"oracle-celery-{os.geteuid()}-{_fingerprint(self.state_path)}"
            runtime = os.environ.get("XDG_RUNTIME_DIR")
            places += [Path(folder) / name for folder in (runtime, "/tmp") if folder]  # noqa: S108  # owner is checked
        for place in places:
            if len(os.fsencode(place / SOCKET_NAME)) <= SOCKET_PATH_LIMIT and not set(str(place)) & set(",'\"\\\n"):
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    _private_folder(place, account)
                    return place
        raise EmbeddedUnavailable(detail=f"no folder for its socket: {', '.join(map(str, places))} will not do")

    def _launch(self, socket_path: Path, account: pwd.struct_passwd) -> None:
        home = str(self.home).replace("'", "''")
        _write(self.home / "postgresql.conf", _CONFIGURATION.format(home=home, socket_path=socket_path))
        _write(self.home / "pg_hba.conf", "local all all peer map=oracle\n")
        users = dict.fromkeys((pwd.getpwuid(os.geteuid()).pw_name, account.pw_name))
        _write(self.home / "pg_ident.conf", "".join(f'oracle "{user}" {DATABASE_USER}\n' for user in users))
        log = self.data_path / "server.log"
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            log.unlink(missing_ok=True)
            options = f"-c config_file={shlex.quote(str(self.home / 'postgresql.conf'))}"
            done = self._pg_ctl("start", "-l", str(log), "-o", options, "-t", str(START_TIMEOUT_SECONDS))
            if done.returncode == 0:
                return
            said = log.read_text(errors="replace") if log.exists() else done.stdout
            # A server that was killed a moment ago, or its backends, may still be on their way out.
            is_leaving = "shared memory block" in said or ("lock file" in said and "already exists" in said)
            if not is_leaving or time.monotonic() > deadline:
                raise EmbeddedUnavailable(detail=f"PostgreSQL does not start: {_tail(said)}")
            time.sleep(POLL_SECONDS)

    def _wait_until_ready(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            socket_path = self._running_socket_path()
            if socket_path is not None:
                url = f"postgresql://{DATABASE_USER}@/{DATABASE}?host={quote(str(socket_path), safe='')}"
                if _answers(url):
                    return url
            time.sleep(POLL_SECONDS)
        raise EmbeddedUnavailable(detail=f"its server in {self.home} does not become ready")

    def _pg_ctl(self, action: str, *options: str) -> subprocess.CompletedProcess[str]:
        assert self._binaries is not None
        allowed = START_TIMEOUT_SECONDS + STOP_TIMEOUT_SECONDS
        return self._binaries.run("pg_ctl", action, "-w", "-D", str(self.data_path), *options, timeout=allowed)

    # -- postmaster.pid ---------------------------------------------------------------------------------------------

    def _pid_file(self) -> list[str]:
        """Lines: process id, data directory, start time, port, socket folder, address, shared memory, status."""
        try:
            return (self.data_path / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _server_pid(self) -> int | None:
        """The process that serves our data directory; None where the file names a dead or a foreign process."""
        lines = self._pid_file()
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        return pid if _works_in(pid, self.data_path) else None

    def _running_socket_path(self) -> Path | None:
        lines = self._pid_file()
        ready = len(lines) >= 8 and lines[7].strip() == "ready"
        return Path(lines[4]) if ready and lines[4] and self._server_pid() is not None else None

    def _prune_stale_pid_file(self) -> None:
        """PostgreSQL would take any living process with that number, as after a container's restart, for itself."""
        (self.data_path / "postmaster.pid").unlink(missing_ok=True)


def _server_account() -> pwd.struct_passwd:
    """Whom the server runs as: ourselves, or for root somebody with no rights."""
    names = ["postgres", "nobody"] if os.geteuid() == 0 else []
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise EmbeddedUnavailable(detail=f"the OS user {os.geteuid()} has no name in the user database") from error


def _works_in(pid: int, data_path: Path) -> bool:
    """A PostgreSQL server's working directory is its data directory."""
    if Path("/proc/self/cwd").exists():
        try:
            return Path(f"/proc/{pid}/cwd").samefile(data_path)
        except OSError:
            return False
    command = ["ps", "-ww", "-p", str(pid), "-o", "command="]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603  # our own words
    return str(data_path) in said


def _answers(url: str) -> bool:
    folder = parse_qs(urlsplit(url).query).get("host", [""])[0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(f"{folder}/{SOCKET_NAME}")
        except OSError:
            return False
    return True


def _private_folder(path: Path, account: pwd.struct_passwd) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(path, account.pw_uid, account.pw_gid)
    _require_owner(path, account.pw_uid)
    path.chmod(0o700)


def _require_owner(path: Path, uid: int) -> None:
    status = path.lstat()
    if path.is_symlink() or not path.is_dir() or status.st_uid != uid:
        raise EmbeddedUnavailable(detail=f"{path} is not a folder of OS user {uid}")


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)  # the server's user reads it


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:10]


def _tail(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-LOG_TAIL_LINES:])
