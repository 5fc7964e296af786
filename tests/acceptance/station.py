"""A whole Oracle as its users have it: broker, PostgreSQL, worker and sidecar in processes, and an app that sends."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

from tests.acceptance import signal_app
from tests.local_processes import REPOSITORY, LocalBeat, LocalSidecar, LocalWorker
from tests.polling import pauses
from tests.tokens import local_bearer

__all__ = ["DEADLINE", "Station"]

MODULE = "tests.acceptance.signal_app"
#: Seconds in which a fact must have come all the way.
DEADLINE = 60.0


class Station:
    """Starts nothing by itself; `worker` and `sidecar` do."""

    def __init__(
        self,
        broker: str,
        database: str,
        folder: Path,
        *,
        backend: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """`backend`: of results, else files; `settings`: the workers', the sidecar's and the sender's, of Celery."""
        self.broker = broker
        self.database = database
        self.folder = folder
        self.results = folder / "results"
        self.results.mkdir()
        self.state = folder / "state"
        self.environment = {
            "SIGNALS_BROKER_URL": broker,
            "SIGNALS_DATABASE_URL": database,
            "SIGNALS_STATE_DIR": str(self.state),
            "SIGNALS_RESULT_BACKEND": backend or self.results.as_uri(),
            "SIGNALS_SETTINGS": json.dumps(settings or {}),
            "SIGNALS_WITNESS_DIR": str(folder),
            "C_FORCE_ROOT": "1",
        }
        self.workers: list[LocalWorker] = []
        self.sidecar: LocalSidecar | None = None
        #: The port at which it is asked, where that is not the sidecar's own.
        self.entrance: int | None = None
        self.beat: LocalBeat | None = None
        self.app = self._make_app(settings or {})

    def _make_app(self, settings: dict[str, Any]) -> Celery:
        backend = self.environment["SIGNALS_RESULT_BACKEND"]
        app = signal_app.make_app(self.broker, self.database, str(self.state), backend)
        app.conf.update(settings)
        app.set_current()
        return app

    def start_worker(self, **options: Any) -> LocalWorker:
        log_path = self.folder / f"worker{len(self.workers)}.log"
        worker = LocalWorker(MODULE, log_path, env=self.environment, warm=True, **options)
        self.workers.append(worker)
        return worker.start()

    def start_sidecar(self) -> LocalSidecar:
        self.sidecar = LocalSidecar(MODULE, self.folder / "sidecar.log", env=self.environment, warm=True)
        return self.sidecar.start()

    def start_beat(self) -> LocalBeat:
        options = ["-s", str(self.folder / "beat-schedule")]
        self.beat = LocalBeat(MODULE, self.folder / "beat.log", options=options, env=self.environment, warm=True)
        return self.beat.start()

    def stop(self) -> None:
        for process in [self.beat, *self.workers, self.sidecar]:
            if process is not None:
                process.stop()
        self.app.oracle.stop()
        self.app.close()

    def send(self, name: str, *args: Any, **options: Any) -> str:
        """Sends ``signals.<name>`` and returns the task's id."""
        self.app.set_current()
        return str(self.app.tasks[f"signals.{name}"].apply_async(args, **options).id)

    def witness(self, name: str) -> str:
        """A file that a task may use to know whether it ran before."""
        return str(self.folder / name)

    def doctor(self, timeout: float = DEADLINE) -> list[dict[str, Any]]:
        """What ``oracle doctor`` finds, within `timeout` seconds."""
        command = [sys.executable, "-m", "celery", "-A", MODULE, "oracle", "doctor", "--json"]
        env = os.environ | self.environment
        done = subprocess.run(command, env=env, capture_output=True, cwd=REPOSITORY, check=False, timeout=timeout)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    # -- HTTP ----------------------------------------------------------------------------------------------------

    def get(self, path: str) -> Any:
        """The JSON answer, whatever its status."""
        return self.ask("GET", path)[1]

    def ask(
        self, method: str, path: str, body: Any = None, authorization: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """(status, JSON answer), as this machine's admin where nothing else is said."""
        connection = self._connection()
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.request(
                method, path, None if body is None else json.dumps(body), (authorization or self.authorization) | kind
            )
            with connection.getresponse() as answer:
                return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        assert self.sidecar is not None
        return http.client.HTTPConnection("127.0.0.1", self.entrance or self.sidecar.port, timeout=DEADLINE)

    @property
    def authorization(self) -> dict[str, str]:
        """The header of this machine's admin."""
        return local_bearer(self.app.oracle.settings)

    def detail(self, task_id: str) -> Any:
        """A task with its history."""
        return self.get(f"/api/tasks/{urllib.parse.quote(task_id, safe='')}")

    def wait_for(self, task_id: str, *statuses: str, reason: str | None = None, timeout: float = DEADLINE) -> Any:
        """The task's detail once it has one of these statuses (and that reason)."""

        def look() -> Any:
            detail = self.detail(task_id)
            task = detail.get("task", {})
            return detail if task.get("status") in statuses and reason in (None, task.get("reason")) else None

        return self.poll(
            look, f"{task_id} is {' or '.join(statuses)} {reason or ''}", lambda: self.detail(task_id), timeout
        )

    def wait_for_reason(self, task_id: str, reason: str) -> Any:
        """The task's detail once its history has an entry with that reason."""

        def look() -> Any:
            detail = self.detail(task_id)
            return detail if reason in [entry["reason"] for entry in detail.get("history", [])] else None

        return self.poll(look, f"{task_id} has {reason} in its history", lambda: self.detail(task_id))

    def poll(
        self,
        look: Callable[[], Any],
        what: str,
        evidence: Callable[[], Any] | None = None,
        timeout: float = DEADLINE,
    ) -> Any:
        """The first true answer of `look`."""
        deadline, pause = time.monotonic() + timeout, pauses()
        while not (found := look()):
            if time.monotonic() > deadline:
                shown = "" if evidence is None else json.dumps(evidence(), indent=1)
                raise AssertionError(f"waited {timeout:g} s in vain until {what}\n{shown}")
            time.sleep(next(pause))
        return found

    @contextmanager
    def stream(
        self,
        after: str | None = None,
        path: str = "/api/tasks/subscribe",
        authorization: dict[str, str] | None = None,
    ) -> Iterator[Iterator[tuple[str, Any, str | None]]]:
        """Server-sent events as (event, data, id)."""
        connection = self._connection()
        query = f"?after={urllib.parse.quote(after)}" if after else ""
        try:
            connection.request("GET", f"{path}{query}", headers=authorization or self.authorization)
            with connection.getresponse() as answer:
                assert answer.status == 200, answer.read()
                yield _events(answer)
        finally:
            connection.close()


def _events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, Any, str | None]]:
    event, data, cursor = "message", [], None
    for raw in answer:
        line = raw.decode().rstrip("\r\n")
        field, _, value = line.partition(": ")
        if field == "event":
            event = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            cursor = value
        elif not line:
            if data:
                yield event, json.loads("\n".join(data)), cursor
            event, data, cursor = "message", [], None
