"""Runs the whole shop on this machine: PostgreSQL, dashboard, worker, beat, customers. Ctrl-C stops it and tidies up.

    python demo.py [--port 5556] [--folder .demo] [--pace 1.0]

Everything it starts runs in sessions of its own, so that one Ctrl-C reaches only this program, which then stops the
parts in order: first those that send, last the database. When a part dies, it says which, shows the part's last lines
and stops the rest. With SHOP_BROKER_URL or SHOP_DATABASE_URL set, those servers are used and left alone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from oracle_celery.embedded import EmbeddedPostgres
from oracle_celery.errors import EmbeddedUnavailable

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
DEFAULT_PORT = 5556
QUEUES = "default,orders,emails,images,reports"
CONCURRENCY = 4

READY_SECONDS = 60
#: A worker ends its running tasks first; the slowest report takes eight seconds.
STOP_SECONDS = 15
POLL_SECONDS = 0.1
LOG_LIMIT_BYTES = 20 * 1024 * 1024
TAIL_LINES = 20
SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)


#: Somebody pressed Ctrl-C, or asked for the same by a signal. Looked at between steps, so that no step is torn.
stop_asked = threading.Event()


class Stopped(Exception):
    """`stop_asked` was seen."""


class PartDied(Exception):
    """A part ended by itself."""


class Part:
    """One program of the demo, its output in a file."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=HERE,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def check(self) -> None:
        """Raises `PartDied` with the end of its log."""
        code = self.process.poll()
        if code is not None:
            last = "\n".join(f"    {line}" for line in self.log.splitlines()[-TAIL_LINES:])
            raise PartDied(f"The {self.name} ended with exit code {code}. Its last lines:\n{last}")
        if self.log_path.stat().st_size > LOG_LIMIT_BYTES:
            os.truncate(self.log_path, 0)

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise PartDied(f"The {self.name} is not ready after {READY_SECONDS} seconds. See {self.log_path}")
            pause()

    def stop(self) -> None:
        """Kindly, then with everything that it started."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                say(f"The {self.name} takes too long and is killed.")
        with contextlib.suppress(ProcessLookupError):  # the usual case: the whole session is gone
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--port", type=int, default=DEFAULT_PORT)
    arguments.add_argument("--folder", type=Path, default=Path(".demo"), help="its files while it runs; removed after")
    arguments.add_argument("--pace", type=float, default=1.0, help="2 sends twice as many tasks")
    options = arguments.parse_args()
    logging.getLogger("oracle_celery").setLevel(logging.ERROR)  # that it serves one machine only is no news here
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop_asked.set())
    folder: Path = options.folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another demo runs in {folder}. Stop that one first, or give this one another --folder.")
            return 1
        return _run(folder, options.port, options.pace)


def _run(folder: Path, port: int, pace: float) -> int:
    postgres = None if os.environ.get("SHOP_DATABASE_URL") else EmbeddedPostgres(folder / "postgres")
    parts: list[Part] = []
    code = 0
    try:
        environment = os.environ | {"SHOP_FOLDER": str(folder), "PYTHONUNBUFFERED": "1"}
        if postgres is not None:
            say("Starting PostgreSQL ...")
            environment["SHOP_DATABASE_URL"] = postgres.start()
        _open_shop(parts, folder, port, pace, environment)
        while True:
            for part in parts:
                part.check()
            pause()
    except Stopped:
        say("\nStopping; the worker ends its running tasks first ...")
    except (PartDied, EmbeddedUnavailable) as error:
        say(f"\n{error}\n")
        code = 1
    for part in reversed(parts):
        part.stop()
    if postgres is not None:
        postgres.remove()
    shutil.rmtree(folder, ignore_errors=True)
    say("Everything is stopped and removed." if code == 0 else "The rest is stopped and removed.")
    return code


def _open_shop(parts: list[Part], folder: Path, wanted_port: int, pace: float, environment: dict[str, str]) -> None:
    """Starts the parts one after the other; `parts` has each as soon as it runs."""

    def start(name: str, *command: str) -> Part:
        say(f"Starting the {name} ...")
        parts.append(Part(name, list(command), folder, environment))
        return parts[-1]

    port = _usable_port(wanted_port)
    celery = ("-m", "celery", "-A", "shop")
    sidecar = start("sidecar", *celery, "oracle", "--host", HOST, "--port", str(port))
    sidecar.wait_until(lambda: _answers(f"http://{HOST}:{port}/readyz"))
    options = ("-c", str(CONCURRENCY), "-Q", QUEUES, "-n", "shop@%h", "-l", "INFO", "--without-gossip")
    worker = start("worker", *celery, "worker", *options)
    worker.wait_until(lambda: " ready." in worker.log)
    start("beat", *celery, "beat", "-s", str(folder / "beat-schedule"), "-l", "INFO")
    start("traffic", str(HERE / "traffic.py"), "--pace", str(pace))
    link = re.search(rf"http://{re.escape(HOST)}:{port}/#/login/\S+", sidecar.log)  # it logs in once
    say(f"\n  The shop is open. Watch it on\n\n      {link[0] if link else f'http://{HOST}:{port}/'}\n")
    say("  Ctrl-C stops everything.")


def _usable_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
            if found != wanted:
                say(f"Port {wanted} is taken; the dashboard takes {found}.")
            return found
    raise PartDied("There is no free port.")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def pause() -> None:
    if stop_asked.wait(POLL_SECONDS):
        raise Stopped


def _end_with_parent() -> None:
    """A demo that is killed outright takes its parts along, all but PostgreSQL, which the next demo adopts."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
