"""A whole installation under load for hours: RabbitMQ, PostgreSQL, three workers, a producer, a sidecar, clients.

One worker stays as it is, one recycles its children, one is restarted now and then: what leaks with time, with a child
and with a worker is told apart.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import psycopg

from oracle_celery.database.opening import BLOCKING_POOL_SIZE
from tests.benchmarks.figure import Comparison, Figure
from tests.local_processes import LocalSidecar, LocalWorker
from tests.soak import census
from tests.soak.census import Census
from tests.soak.load import OWNERS, Load
from tests.soak.vanishing import Clients, Desert
from tests.tokens import TOKEN_SETTINGS, bearer, token

__all__ = ["Leftovers", "Site", "Tally"]

MODULE = "tests.acceptance.signal_app"
TASKS_PER_CHILD = 100
#: A worker's journal, the sidecar's memory of what was: as short as the settings allow, so that it all goes round.
SETTINGS = {
    **TOKEN_SETTINGS,
    "oracle_beat_interval": 5.0,
    "oracle_worker_timeout": 30.0,
    "oracle_retention_completed": 1 / 24,
    "oracle_retention_failed": 1 / 24,
    "oracle_retention_cancelled": 1 / 24,
    "oracle_retention_messages": 1 / 24,
    "oracle_hosts": ["soak.invalid"],
}
#: What pools may hold when nobody asks for anything: they let go after minutes only. The sidecar's connections to
#: PostgreSQL (pool, listener, leader's lock), and its threads for what blocks.
MOST_CONNECTIONS = 16
#: The producer's recorder connects when it reads the producers' journal, which a worker's may do in its place.
MOST_OF_POSTGRESQL = {"sidecar": MOST_CONNECTIONS, "producer": 1}
MOST_IDLE_THREADS = min(32, (os.cpu_count() or 1) + 4)
#: A process opens its connection to the broker when it first sends.
LAZY_BROKER_CONNECTIONS = 1
#: A pool takes a moment to watch a child that it has just begun.
LATE_PIPES = 1
POLL_SECONDS = 0.5
TOKEN_SECONDS = 86_400.0


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What is held by everything that lives, when nothing is done."""

    processes: dict[str, Census]
    connections: dict[str, int]  # of PostgreSQL, by application
    queues: int  # of the broker


class Leftovers(msgspec.Struct, frozen=True, kw_only=True):
    """What is held more than before, in words; empty where all is as it was."""

    descriptors: list[str] = []
    threads: list[str] = []
    connections: list[str] = []
    journals: list[str] = []

    @property
    def are_none(self) -> bool:
        return not (self.descriptors or self.threads or self.connections or self.journals)

    def figures(self) -> list[Figure]:
        return [
            Figure(
                name=f"{name} left over",
                unit="count",
                samples=(float(len(found)),),
                target=0.0,
                comparison=Comparison.AT_MOST,
                note="; ".join(found[:8]),
            )
            for name, found in (
                ("descriptors", self.descriptors),
                ("threads", self.threads),
                ("connections", self.connections),
                ("journal files", self.journals),
            )
        ]


class Site:
    """Starts with `with`. `broker` is a RabbitServer, whose programs tell its queues."""

    def __init__(
        self,
        broker: Any,
        broker_url: str,
        database: str,
        folder: Path,
        *,
        is_warm: bool,
        tasks_per_child: int = TASKS_PER_CHILD,
    ) -> None:
        self.broker = broker
        self.broker_url = broker_url
        self.database = database
        self.folder = folder
        self.state = folder / "state"
        self.environment = {
            "SIGNALS_BROKER_URL": broker_url,
            "SIGNALS_DATABASE_URL": database,
            "SIGNALS_STATE_DIR": str(self.state),
            "SIGNALS_WITNESS_DIR": str(folder),
            "SIGNALS_SETTINGS": json.dumps(SETTINGS),
            "C_FORCE_ROOT": "1",
        }
        self.steady, self.recycling, self.restarted = (
            LocalWorker(
                MODULE,
                folder / f"{name}.log",
                name=name,
                concurrency=1,
                options=["-l", "WARNING", *more],
                env=self.environment,
                warm=is_warm,
            )
            for name, more in (
                ("steady", []),
                ("recycling", ["--max-tasks-per-child", str(tasks_per_child)]),
                ("restarted", []),
            )
        )
        self.sidecar = LocalSidecar(
            MODULE, folder / "sidecar.log", options=["--host", "0.0.0.0"], env=self.environment, warm=is_warm
        )
        self.load = Load(self.environment)
        port = int(psycopg.conninfo.conninfo_to_dict(database)["port"])
        self._ports = {port: "postgresql", broker.port: "broker", self.sidecar.port: "http"}

    def __enter__(self) -> Self:
        try:
            for worker in self.workers:
                worker.start(wait=False)
            self.sidecar.start(wait=False)
            for worker in self.workers:
                worker.wait_until(lambda worker=worker: len(worker.pool_children()) == 1, "it has its child", 60)
            self.sidecar.wait_until(self.sidecar.is_ready, "it is ready", 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.load.stop()
        for process in (*self.workers, self.sidecar):
            process.stop()

    @property
    def workers(self) -> tuple[LocalWorker, ...]:
        return self.steady, self.recycling, self.restarted

    # -- what goes on ----------------------------------------------------------------------------------------------

    def restart_worker(self) -> None:
        self.restarted.terminate()
        self.restarted.start(wait=False)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """As an admin: (status, JSON answer)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.sidecar.port, timeout=60)
        try:
            kind = {} if body is None else {"Content-Type": "application/json"}
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {**bearer(role="admin"), **kind, "Connection": "close"})
            with connection.getresponse() as answer:
                said = answer.read()
                return answer.status, json.loads(said) if said[:1] in (b"{", b"[") else said.decode()
        finally:
            connection.close()

    def act(self) -> None:
        """What an operator does now and then: looks at the page's lists, retries a failed task, pauses and resumes."""
        for path in ("/api/tasks?limit=50", "/api/workers", "/api/queues", "/metrics"):
            self.ask("GET", path)
        _, found = self.ask("GET", "/api/tasks?status=failed&limit=1")
        for task in found["tasks"]:
            self.ask("POST", f"/api/tasks/{task['task_id']}/retry", {})
        for action in ("pause", "resume"):
            self.ask("POST", f"/api/admin/queue/{action}", {"queues": ["nobody-uses-it"]})

    def consuming(self) -> int:
        """Workers that are at work, as they say themselves."""
        with psycopg.connect(self.database) as connection:
            row = connection.execute(
                "SELECT count(*) FROM oracle.worker"
                " WHERE cardinality(consuming) > 0 AND stopped_at IS NULL AND lost_at IS NULL"
            ).fetchone()
        return row[0] if row else 0

    def unfinished(self) -> int:
        """Tasks that have no final status."""
        with psycopg.connect(self.database) as connection:
            row = connection.execute("SELECT count(*) FROM oracle.task_state_record WHERE status < 2").fetchone()
        return row[0] if row else 0

    # -- what is held ----------------------------------------------------------------------------------------------

    def processes(self) -> dict[str, int]:
        """Process ids by what they are. A recorder is a thread of a worker's main process, and of the producer."""
        found = {
            "worker's main process": self.steady.pid,
            "main process that recycles children": self.recycling.pid,
            "sidecar": self.sidecar.pid,
            "producer": self.load.pid,
        }
        for child in self.steady.pool_children():
            found["pool child"] = child
        return found

    def take_census(self) -> dict[str, Census]:
        taken = {kind: census.take(pid, self._ports) for kind, pid in self.processes().items()}
        return {kind: one for kind, one in taken.items() if one is not None}

    def tally(self) -> Tally:
        with psycopg.connect(self.database) as connection:
            rows = connection.execute(
                "SELECT application_name, count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                " GROUP BY 1"
            ).fetchall()
        host = self.broker_url.rpartition("/")[2]
        return Tally(
            processes=self.take_census(),
            connections=dict(rows),
            queues=len(self.broker.control("--quiet", "list_queues", "-p", host, "name").split()),
        )

    def stray_journals(self) -> list[str]:
        """Files of the journal that no living process writes: all they hold has been told, or nobody will tell it."""
        written = _written_below(self.state)
        strays = []
        for path in self.state.rglob("*"):
            segment = path.with_suffix(".jsonl")
            if path.suffix not in {".jsonl", ".committed", ".draft", ".drops"} and not path.name.startswith("."):
                continue
            if path.is_file() and path.name != ".lock" and str(path) not in written and str(segment) not in written:
                strays.append(str(path.relative_to(self.state)))
        return strays

    def leftovers(self, before: Tally, timeout: float) -> Leftovers:
        """As soon as there are none; after `timeout` seconds those that there still are."""
        deadline = time.monotonic() + timeout
        while True:
            left = self._compare(before, self.tally())
            if left.are_none or time.monotonic() > deadline:
                return left
            time.sleep(POLL_SECONDS)

    def _compare(self, before: Tally, after: Tally) -> Leftovers:
        descriptors, threads = [], []
        for kind, now in after.processes.items():
            then = before.processes[kind]
            for name, count in now.descriptors.items():
                lazily = MOST_OF_POSTGRESQL.get(kind, 0) if name == "postgresql" else 0
                at_most = max(then.descriptors.get(name, 0), lazily)
                at_most += LAZY_BROKER_CONNECTIONS if name == "broker" else 0
                at_most += LATE_PIPES if name == "pipe" else 0
                if name != "journal" and count > at_most:
                    descriptors.append(f"{kind}: {count} {name}, had {then.descriptors.get(name, 0)}")
            at_most = then.threads + (MOST_IDLE_THREADS if kind == "sidecar" else 0)
            if now.threads > at_most:
                threads.append(f"{kind}: {now.threads}, had {then.threads}")
        most = {
            "oracle-sidecar": MOST_CONNECTIONS,
            "oracle-app": BLOCKING_POOL_SIZE,
            "oracle-recorder": len(self.workers) + 1,
        }
        connections = [
            f"{count} of {name}, were {before.connections.get(name, 0)}"
            for name, count in after.connections.items()
            if count > max(before.connections.get(name, 0), most.get(name, 0))
        ]
        if after.queues > before.queues:
            connections.append(f"{after.queues} queues of the broker, were {before.queues}")
        return Leftovers(
            descriptors=descriptors, threads=threads, connections=connections, journals=self.stray_journals()
        )

    # -- streams ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def audience(self, count: int) -> Iterator[Clients]:
        """Clients that stay, of the tasks' owners and an admin."""
        clients = Clients("127.0.0.1", self.sidecar.port)
        try:
            clients.ask(do="open", tokens=str(self.tokens(OWNERS[: count - 1], admins=1)))
            yield clients
        finally:
            clients.stop()

    def tokens(self, owners: list[str], admins: int = 0) -> Path:
        path = self.folder / f"tokens-{len(owners)}-{admins}"
        users = [("admin", f"admin-{number}") for number in range(admins)] + [(None, owner) for owner in owners]
        path.write_text("\n".join(token(user, role, TOKEN_SECONDS) for role, user in users))
        return path

    def streams(self) -> int:
        """Connections to the sidecar's port, as the kernel knows them."""
        taken = census.take(self.sidecar.pid, self._ports)
        assert taken is not None, "the sidecar is gone"
        return taken.descriptors.get("http", 0)

    def abandon(self, aborted: int, half_open: int, timeout: float) -> float | None:
        """Seconds from the last client's disappearance until nothing of them is left; None where it takes longer."""
        before = self.streams()
        near = Clients("127.0.0.1", self.sidecar.port)
        with contextlib.ExitStack() as stack:
            stack.callback(near.stop)
            near.ask(do="open", tokens=str(self.tokens(_crowd("near", aborted))))
            if half_open:
                desert = stack.enter_context(Desert())
                far = Clients(Desert.HERE, self.sidecar.port, within=desert.within)
                stack.callback(far.stop)
                far.ask(do="open", tokens=str(self.tokens(_crowd("far", half_open))))
                assert self.streams() >= before + aborted + half_open
                desert.swallow()
                far.stop()  # its system would say so, and nothing comes out
            began = time.monotonic()
            near.ask(do="abort", count=aborted // 2)
            near.stop()  # the others are closed by their system
            while self.streams() > before:
                if time.monotonic() - began > timeout:
                    return None
                time.sleep(POLL_SECONDS)
            return time.monotonic() - began


def _crowd(name: str, count: int) -> list[str]:
    return [f"{name}-{number // 20}" for number in range(count)]


def _written_below(folder: Path) -> set[str]:
    """Files that somebody has open for writing."""
    written = set()
    for fds in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            for entry in os.scandir(fds):
                with contextlib.suppress(OSError):
                    target = os.readlink(entry.path)
                    if target.startswith(str(folder)):
                        flags = (fds.parent / "fdinfo" / entry.name).read_text().split("flags:")[1].split()[0]
                        if int(flags, 8) & (os.O_WRONLY | os.O_RDWR):
                            written.add(target)
    return written
