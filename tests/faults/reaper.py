"""Kills at random, and brings back what it killed: pool children, workers, the sidecar, and every server.

Everything is SIGKILL. What comes back does so after a random moment. A worker that ended otherwise, or that takes no
task any more although its broker is there, is started again, as a service manager would, and counted: that is Celery's
own matter, and not hidden.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable

import psycopg

from tests.acceptance.station import Station
from tests.broker_fixtures import RabbitServer, RedisServer
from tests.postgresql_fixtures import PostgresServer

__all__ = ["DEATHS", "Reaper"]

#: How often each is chosen, in proportion. A server takes seconds to come back, a child none.
DEATHS = {
    "pool child": 40,
    "worker with its children": 4,
    "worker alone": 4,
    "sidecar": 4,
    "postgresql": 3,
    "a backend of postgresql": 3,
    "broker": 1,
    "result backend": 2,
}
#: Longest absence of what was killed, seconds.
ABSENCE_SECONDS = 2.0
#: Seconds without a single task's end after which workers are started again.
STUCK_SECONDS = 45.0


class Reaper:
    """`deaths` counts what it killed. `done` tells how many tasks have come to their end."""

    def __init__(
        self,
        station: Station,
        postgres: PostgresServer,
        broker: RabbitServer | RedisServer,
        backend: RedisServer,
        *,
        done: Callable[[], int],
        seed: int,
    ) -> None:
        self.deaths: collections.Counter[str] = collections.Counter()
        #: Workers that nobody killed and that ended, or that took no task any more.
        self.ended = 0
        self.stuck = 0
        self._station = station
        self._postgres = postgres
        self._servers = {"broker": broker, "result backend": backend}
        self._done = done
        self._dice = random.Random(seed)
        self._stopping = threading.Event()
        self._progress = (0, time.monotonic())

    def reap_each(self, pause: Callable[[], None]) -> None:
        """Every kind of death once, in random order, with `pause` before each."""
        kinds = list(DEATHS)
        self._dice.shuffle(kinds)
        for kind in kinds:
            pause()
            self.reap(kind)

    def reap_until(self, is_over: Callable[[], bool], seconds: float) -> None:
        """One death after another, with `seconds` between them on average; the first ones are one of each kind."""
        kinds = list(DEATHS)
        self._dice.shuffle(kinds)
        while not is_over():
            time.sleep(self._dice.uniform(0, 2 * seconds))
            self.supervise()
            self.reap(kinds.pop() if kinds else self._dice.choices(list(DEATHS), list(DEATHS.values()))[0])

    def reap(self, kind: str) -> None:
        self.deaths[kind] += 1
        if kind == "pool child":
            self._kill_child()
        elif kind.startswith("worker"):
            worker = self._dice.choice(self._station.workers)
            worker.kill_whole() if "children" in kind else worker.kill()
            self._be_absent()
            worker.start()
        elif kind == "sidecar":
            assert self._station.sidecar is not None
            self._station.sidecar.kill()
            self._be_absent()
            self._station.sidecar.start()
        elif kind == "postgresql":
            self._postgres.kill()
            self._be_absent()
            self._postgres.start()
        elif kind == "a backend of postgresql":
            self._kill_backend()
        else:
            server = self._servers[kind]
            server.kill()
            self._be_absent()
            server.start()

    def supervise(self) -> None:
        """Starts again what ended by itself, and all workers where nothing has moved for long."""
        for worker in self._station.workers:
            if not worker.is_alive:
                self.ended += 1
                worker.start()
        done, now = self._done(), time.monotonic()
        if done > self._progress[0]:
            self._progress = (done, now)
        elif now - self._progress[1] > STUCK_SECONDS:
            self.stuck += 1
            self._progress = (done, now)
            for worker in self._station.workers:
                worker.kill_whole()
                worker.start()

    def _kill_child(self) -> None:
        worker = self._dice.choice(self._station.workers)
        with contextlib.suppress(OSError, IndexError):  # it has just ended, or there is none for a moment
            os.kill(self._dice.choice(worker.pool_children()), signal.SIGKILL)

    def _kill_backend(self) -> None:
        """The server takes it for a crash, ends every other session, and recovers."""
        with contextlib.suppress(psycopg.Error), psycopg.connect(self._station.database) as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'oracle-%'"
            ).fetchall()
            if found:
                os.kill(self._dice.choice(found)[0], signal.SIGKILL)

    def _be_absent(self) -> None:
        time.sleep(self._dice.uniform(0, ABSENCE_SECONDS))
