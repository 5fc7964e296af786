"""A database, its sidecar, a crowd of clients and whoever tells facts: each a process, so that its CPU can be told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.ground import Ground
from tests.local_processes import LocalSidecar
from tests.tokens import token

__all__ = ["ADMINS", "Program", "Stage", "cpu_seconds", "proportional_bytes"]

#: Clients that see everything; the others see their own tasks.
ADMINS = 5
TOKEN_SECONDS = 86_400.0


class Program:
    """A process that answers a line with a line of JSON."""

    def __init__(self, module: str, *arguments: object) -> None:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args} has ended with {self._process.wait()}")
        return json.loads(answer)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                end.close()


class Stage:
    """One sidecar on an empty database, and a crowd that may come; `tell` adds facts."""

    def __init__(self, ground: Ground, folder: Path, database: str, owners: int) -> None:
        self.ground = ground
        self.database = database
        self._folder = folder
        self._owners = owners
        environment = {"BENCH_DATABASE_URL": database, "BENCH_STATE_DIR": str(folder / "state")}
        self.sidecar = LocalSidecar("tests.benchmarks.stream_app", folder / "sidecar.log", env=environment)
        self.crowd: Program
        self._told = 0

    @classmethod
    @contextmanager
    def ready(cls, ground: Ground, clients: int, admins: int = ADMINS) -> Iterator[Stage]:
        folder = Path(tempfile.mkdtemp(prefix="oracle-bench-"))
        database = ground.databases.create()
        stage = cls(ground, folder, database, max(1, clients - admins))
        try:
            stage.sidecar.start()
            users = [("admin", f"a-{number}") for number in range(admins)]
            users += [(None, f"u-{number}") for number in range(clients - admins)]
            (folder / "tokens").write_text("\n".join(token(user, role, TOKEN_SECONDS) for role, user in users))
            stage.crowd = Program("tests.benchmarks.crowd", stage.sidecar.port, folder / "tokens")
            yield stage
        finally:
            if hasattr(stage, "crowd"):
                stage.crowd.stop()
            stage.sidecar.stop()
            ground.databases.drop(database)
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def telling(self, rate: int) -> Iterator[Program]:
        """Facts a second, of as many owners as there are clients that see their own, or of one."""
        self._told += 1
        folder = self._folder / f"telling-{self._told}"
        program = Program("tests.benchmarks.telling", self.database, rate, self._owners, folder)
        try:
            yield program
        finally:
            program.stop()

    def cpu(self) -> dict[str, float]:
        """Seconds until now of the sidecar, PostgreSQL and the crowd."""
        return {
            "sidecar": cpu_seconds(self.sidecar.pid),
            "PostgreSQL": cpu_seconds(self.ground.postgres.pid, with_children=True),
            "crowd": cpu_seconds(self.crowd.pid),
        }


def cpu_seconds(pid: int, *, with_children: bool = False) -> float:
    """User and system time; with children, also of those that have ended."""
    total = 0
    processes = [str(pid)]
    if with_children:
        processes += Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for process in processes:
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11 : 15 if process == str(pid) and with_children else 13]))
    return total / os.sysconf("SC_CLK_TCK")


def proportional_bytes(pid: int) -> int:
    """The memory that is the process's own, and its share of what it shares (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
