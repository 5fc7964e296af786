"""An example as its README runs it: web process, worker and dashboard, and the service that its task calls."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.local_processes import READY_SECONDS, REPOSITORY, LocalProcess, LocalSidecar, LocalWorker
from tests.ports import free_port
from tests.tokens import KEY

if TYPE_CHECKING:
    from tests.otlp_receiver import ReceivedSpan

__all__ = ["EXAMPLES", "TRACE_URL", "Entry", "Ledger", "LocalWeb", "Site", "branch", "open_site"]

EXAMPLES = REPOSITORY / "examples"
TRACE_URL = "https://traces.example.org/trace/{trace_id}"


class LocalWeb(LocalProcess):
    """A Python program that serves HTTP on a port of this machine; its `arguments` have ``{port}`` for it."""

    def __init__(self, arguments: Sequence[str], log_path: Path, *, env: Mapping[str, str], cwd: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [argument.format(port=self.port) for argument in arguments]
        super().__init__([sys.executable, *command], log_path, env=env, cwd=cwd)

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Entry(NamedTuple):
    """What the ledger was asked to book, and by which span of which trace."""

    body: Any
    trace_id: str
    span_id: str


class Ledger:
    """Somebody else's service: it remembers what it was sent."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self.entries))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Site(NamedTuple):
    """An example that runs."""

    web: LocalWeb
    worker: LocalWorker
    sidecar: LocalSidecar
    ledger: Ledger


@contextlib.contextmanager
def open_site(
    folder: Path, cwd: Path, module: str, serve: Sequence[str], *, broker: str, database: str, env: Mapping[str, str]
) -> Iterator[Site]:
    """Starts all parts at once, with what the README tells to set, and spans that do not wait for company. A web
    process that has logged a traceback fails the test."""
    with Ledger() as ledger:
        given = {
            "BROKER_URL": broker,
            "DATABASE_URL": database,
            "JWT_KEY": KEY,
            "OWNER_KEY": "a key of thirty-two bytes or more",
            "LEDGER_URL": ledger.url,
            "TRACE_URL": TRACE_URL,
            "XDG_STATE_HOME": str(folder / "state"),
            "OTEL_BSP_SCHEDULE_DELAY": "100",  # ms
            "C_FORCE_ROOT": "1",
        } | dict(env)
        sidecar = LocalSidecar(module, folder / "sidecar.log", env=given, cwd=cwd)
        given["DASHBOARD_URL"] = sidecar.env["DASHBOARD_URL"] = sidecar.url
        site = Site(
            LocalWeb(serve, folder / "web.log", env=given, cwd=cwd),
            LocalWorker(module, folder / "worker.log", env=given, cwd=cwd),
            sidecar,
            ledger,
        )
        parts: list[LocalProcess] = [site.web, site.worker, site.sidecar]
        try:
            for part in parts:
                part.start(wait=False)
            for part in parts:
                part.wait_until(part.is_ready, "it is ready", READY_SECONDS)
            yield site
        finally:
            for part in parts:
                if part.is_alive:
                    part.send_signal(signal.SIGTERM)
            for part in parts:
                part.stop()
    assert "Traceback" not in site.web.log, site.web.log


def branch(spans: Sequence[ReceivedSpan], leaf: ReceivedSpan) -> list[tuple[str, str]]:
    """(kind, name) from the root to `leaf`, by the parents that the spans name."""
    by_id = {span.span_id: span for span in spans}
    found = [leaf]
    while found[0].parent_id is not None:
        found.insert(0, by_id[found[0].parent_id])
    return [(span.kind, span.name) for span in found]


def _handler(entries: list[Entry]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            _, trace_id, span_id, _ = self.headers["traceparent"].split("-")
            entries.append(Entry(json.loads(body), trace_id, span_id))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: pytest shows what matters."""

    return Handler
