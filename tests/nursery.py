"""Celery programs that begin with everything imported: forked from a process that has done nothing but import.

Most of what it costs to start a worker or a sidecar is reading their modules, and the tests start hundreds of them. A
nursery reads them once; what it forks has its own session, environment and log, and runs ``python -m celery …`` from
the first line on. It has no thread, no connection and no app of a test, so nothing passes from one child to the next.

What it does not prove is that the program starts from nothing: tests of the quickstart, of enabling and of kills start
theirs the long way. Programs whose pool patches Python before anything is imported (gevent, eventlet) have to.

``python -m tests.nursery <descriptor> <module>…`` is the nursery itself; it ends when the other end is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Child", "Nursery", "nursery"]

#: What each kind of program has read by the time that it works.
MODULES = {
    "worker": (
        "celery.bin.celery",
        "celery.apps.worker",
        "celery.concurrency.prefork",
        "celery.worker.consumer",
        "celery.worker.components",
        "celery.backends.filesystem",
        "celery.fixups.django",
        "kombu.transport.pyamqp",
        "psycopg_pool",
        "oracle_celery.extension",
        "oracle_celery.bootsteps",
        "oracle_celery.database.store",
    ),
    "beat": ("celery.bin.celery", "celery.apps.beat", "kombu.transport.pyamqp", "oracle_celery.extension"),
    "oracle": (
        "celery.bin.celery",
        "kombu.transport.pyamqp",
        "oracle_celery.extension",
        "oracle_celery.sidecar.server",
    ),
}
STOP_SECONDS = 10
GREETING = b"ready\n"


class Nursery:
    """One of a kind: asked for children from any thread."""

    def __init__(self, modules: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery", str(theirs.fileno()), *modules],
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).resolve().parents[1],
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._socket = ours
        self._answers = ours.makefile("rb")
        if self._answers.readline() != GREETING:
            raise RuntimeError(f"no nursery: it could not import {', '.join(modules)}")

    def start(self, arguments: Sequence[str], log: Path, *, env: Mapping[str, str], cwd: Path) -> Child:
        """``python -m celery <arguments>``, its output at the end of `log`."""
        told = {"do": "start", "arguments": list(arguments), "log": str(log), "env": dict(env), "cwd": str(cwd)}
        return Child(self, self.ask(told))

    def ask(self, request: dict[str, Any]) -> Any:
        with self._lock:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            answer = self._answers.readline()
        if not answer:
            raise RuntimeError("the nursery is gone")
        return json.loads(answer)

    def close(self) -> None:
        self._answers.close()
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self._process.kill()
        self._process.wait()


class Child:
    """What `subprocess.Popen` is for processes of one's own, as far as tests need it."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._descriptor = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._descriptor)  # not before: another thread may be waiting for it
        self._lock = threading.Lock()  # who asks first is told its end, once

    def poll(self) -> int | None:
        """Its exit code (negative: the signal that ended it), None while it runs."""
        with self._lock:
            if self.returncode is None:
                self.returncode = self._nursery.ask({"do": "poll", "pid": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._descriptor], [], [], left)[0] and timeout is not None:
                raise subprocess.TimeoutExpired(f"celery, process {self.pid}", timeout)
        return code


_nurseries: dict[str, Nursery] = {}
_making = threading.Lock()


def nursery(kind: str) -> Nursery:
    """This process's nursery of `worker`, `beat` or `oracle`, made at the first call."""
    with _making:
        if kind not in _nurseries:
            _nurseries[kind] = Nursery(MODULES[kind])
            atexit.register(_nurseries[kind].close)
        return _nurseries[kind]


def _serve(connection: socket.socket) -> None:
    """Answers until nobody asks any more."""
    connection.sendall(GREETING)
    with connection, connection.makefile("rb") as requests:
        for line in requests:
            request = json.loads(line)
            if request["do"] == "start":
                pid = os.fork()
                if pid == 0:
                    requests.detach()
                    connection.close()
                    _become(request)
                answer: int | None = pid
            else:
                pid, status = os.waitpid(request["pid"], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if pid else None
            connection.sendall(json.dumps(answer).encode() + b"\n")


def _become(request: dict[str, Any]) -> None:
    """The child: from here on it is as if it had been executed."""
    code = 1
    try:
        os.setsid()
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["celery", *request["arguments"]]
        runpy.run_module("celery", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter's own end does
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _main() -> None:
    descriptor, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    if threading.active_count() != 1:
        raise SystemExit(f"a module of the nursery has started a thread: {threading.enumerate()}")
    gc.collect()
    gc.freeze()  # what is never collected stays shared
    _serve(socket.socket(fileno=int(descriptor)))


if __name__ == "__main__":
    _main()
