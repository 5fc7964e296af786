"""Workers and sidecars as the real programs, in processes of their own; each is stopped as a whole, children too."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.nursery import Child, nursery
from tests.polling import pauses
from tests.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[1]
READY_SECONDS = 120
STOP_SECONDS = 60
#: Those that change nothing in Python before Celery is imported.
WARM_POOLS = frozenset({"prefork", "solo", "threads"})

_numbers = itertools.count(1)


class LocalProcess:
    """One command, its output in a file. `start` returns when `is_ready` says so; `stop` ends the whole session."""

    def __init__(
        self, command: Sequence[str], log_path: Path, *, env: Mapping[str, str] | None = None, cwd: Path = REPOSITORY
    ) -> None:
        self.command = list(command)
        self.log_path = log_path
        self.cwd = cwd
        path = os.pathsep.join(filter(None, [str(cwd), os.environ.get("PYTHONPATH")]))
        self.env = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | dict(env or {})
        self.process: subprocess.Popen[bytes] | Child | None = None
        self._read_from = 0

    def is_ready(self) -> bool:
        """Whether it does its work by now."""
        return True

    def start(self, *, wait: bool = True) -> Self:
        """Starts it, or starts it again; its log goes on in the same file."""
        assert not self.is_alive, "it runs already"
        self._read_from = self.log_path.stat().st_size if self.log_path.exists() else 0
        self.process = self._begin()
        if wait:
            self.wait_until(self.is_ready, "it is ready", READY_SECONDS)
        return self

    def _begin(self) -> subprocess.Popen[bytes] | Child:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Fails with the log's end where `condition` does not come true, or the process ends before."""
        deadline, pause = time.monotonic() + timeout, pauses()
        while True:
            is_alive = self.is_alive  # asked first: what it did just before its end counts
            if condition():
                return
            if not is_alive:
                pytest.fail(f"{self} ended with {self.returncode} before {what}:\n{self.log[-4000:]}")
            if time.monotonic() > deadline:
                pytest.fail(f"{self}: waited {timeout:g} s in vain until {what}:\n{self.log[-4000:]}")
            time.sleep(next(pause))

    def wait_for_log(self, text: str, timeout: float = READY_SECONDS) -> None:
        self.wait_until(lambda: text in self.log, f"it logs {text!r}", timeout)

    @property
    def log(self) -> str:
        """What it has written since the last start."""
        with self.log_path.open("rb") as file:
            file.seek(self._read_from)
            return file.read().decode(errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None, "not started"
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def returncode(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """To the main process alone."""
        os.kill(self.pid, number)

    def terminate(self) -> int:
        """SIGTERM to the main process, as a supervisor does, and its exit code."""
        self.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """SIGKILL to the main process alone: its children find out by themselves."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def kill_whole(self) -> None:
        """SIGKILL to everything it started, as a machine that dies."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        assert self.process is not None, "not started"
        return self.process.wait(timeout)

    def stop(self) -> None:
        """Ends it, kindly first, with everything it started. Safe twice."""
        if self.process is None:
            return
        if self.is_alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.terminate()
        # No number of a process is given away while one of the group has it. Once nobody of it is left, it may be
        # somebody else's by now.
        if self.is_alive or not Path(f"/proc/{self.pid}").exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def __str__(self) -> str:
        return f"{Path(self.command[0]).name} {' '.join(self.command[1:])}"


class CeleryProcess(LocalProcess):
    """``celery -A <module> …``; a `warm` one is forked with everything imported, see tests/nursery.py."""

    kind: str
    warm = False

    def _begin(self) -> subprocess.Popen[bytes] | Child:
        if not self.warm or self.cwd != REPOSITORY:
            return super()._begin()
        self.log_path.touch()
        return nursery(self.kind).start(self.command[3:], self.log_path, env=self.env, cwd=self.cwd)


class LocalWorker(CeleryProcess):
    """``celery -A <module> worker``: a real worker with a real pool."""

    kind = "worker"

    def __init__(
        self,
        module: str,
        log_path: Path,
        *,
        name: str | None = None,
        pool: str = "prefork",
        concurrency: int = 2,
        queues: Sequence[str] = (),
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path = REPOSITORY,
        warm: bool = False,
    ) -> None:
        self.warm = warm and pool in WARM_POOLS
        self.node = f"{name or f'worker{next(_numbers)}-{os.getpid()}'}@{socket.gethostname()}"
        command = [sys.executable, "-m", "celery", "-A", module, "worker", "-P", pool, "-c", str(concurrency)]
        command += ["-n", self.node, "-l", "INFO", "--without-gossip", "--without-mingle"]
        command += ["-Q", ",".join(queues)] if queues else []
        super().__init__([*command, *options], log_path, env=env, cwd=cwd)

    def is_ready(self) -> bool:
        return f"{self.node} ready." in self.log

    def pool_children(self) -> list[int]:
        """Process ids of the prefork pool, from the kernel."""
        said = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in said.split()]


class LocalBeat(CeleryProcess):
    """``celery -A <module> beat``."""

    kind = "beat"

    def __init__(
        self,
        module: str,
        log_path: Path,
        *,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        warm: bool = False,
    ) -> None:
        self.warm = warm
        command = [sys.executable, "-m", "celery", "-A", module, "beat", "-l", "INFO", "--pidfile="]
        super().__init__([*command, *options], log_path, env=env)

    def is_ready(self) -> bool:
        return "beat: Starting..." in self.log


class LocalSidecar(CeleryProcess):
    """``celery -A <module> oracle`` on a free port of this machine; the port stays the same when it starts again."""

    kind = "oracle"

    def __init__(
        self,
        module: str,
        log_path: Path,
        *,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path = REPOSITORY,
        warm: bool = False,
    ) -> None:
        self.warm = warm
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "celery", "-A", module, "oracle", "--host", "127.0.0.1"]
        super().__init__([*command, "--port", str(self.port), *options], log_path, env=env, cwd=cwd)

    def is_ready(self) -> bool:
        # Its own word first: the port was free a moment ago, and somebody else's sidecar would answer as well.
        if f":{self.port}/" not in self.log:
            return False
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()  # else it is closed whenever the garbage is collected, with a warning perhaps
        except OSError:
            pass
        return False
