"""Workers that die are shown as lost, and only those: not what is stopped for a while, nor has its clock set, nor
loses its database.

The full form takes the usual beat (10 s) and timeout (30 s): a hundred workers are killed and each is shown as lost
within `LOST_WITHIN`, and `ORACLE_MINUTES` (60) of disturbances raise no false alarm. The short form has all times a
tenth of that, and fewer workers.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import random
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.station import MODULE, Station
from tests.broker_fixtures import RabbitServer
from tests.faults.scale import is_full, scaled
from tests.faults.stamps import Stamps
from tests.local_processes import LocalWorker
from tests.postgresql_fixtures import PostgresServer

#: Of the short form's times, and of the full one's.
PACE = scaled(1, 10)
BEAT = 1.0 * PACE
SETTINGS = {"oracle_beat_interval": BEAT, "oracle_worker_timeout": 3.0 * PACE, "broker_pool_limit": 2}
#: Seconds from a kill until everybody is told. A ping alone takes three of them, whatever the pace.
LOST_WITHIN = 45.0
ROUNDS, KILLED = 4, 25
#: Seconds over which the kills of a round are spread: they come at every moment between two beats.
SPREAD = 1.0 * PACE
MINUTES = float(os.environ.get("ORACLE_MINUTES", 60)) if is_full() else 0.0
#: Seconds for which a worker is stopped. A stop just before a beat makes it late by the time between beats, too.
STOPPED = 2.5 * PACE
HOUR = 3_600
POOLS = ("prefork", "threads", "solo")
#: Seconds: a task that runs longer than anything here.
FOR_EVER = 7_200.0

pytestmark = pytest.mark.timeout(4_000)


@pytest.fixture
def fleet(station: Station, rabbitmq_server: RabbitServer) -> Iterator[Fleet]:
    # else the broker takes the consumer from whoever has not acknowledged a task for half an hour
    rabbitmq_server.control("eval", f"application:set_env(rabbit, consumer_timeout, {FOR_EVER * 1000:.0f}).")
    fleet = Fleet(station)
    yield fleet
    fleet.stop()


class Fleet:
    """Workers, each of which runs one task that does not end, and who listens to what is said of them."""

    def __init__(self, station: Station) -> None:
        self.station = station
        station.environment["SIGNALS_SETTINGS"] = json.dumps(SETTINGS)
        station.start_sidecar()
        self.lost_tasks: dict[str, float] = {}
        self._numbers = itertools.count()
        self._is_stopping = False
        self._listener = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._listener.start()

    def stop(self) -> None:
        self._is_stopping = True
        for worker in self.station.workers:
            if worker.is_alive:
                worker.kill_whole()  # nobody waits for tasks that do not end

    def start(self, pools: list[str], environment: dict[str, str] | None = None) -> dict[str, LocalWorker]:
        """Workers of these pools, by the task that each runs."""
        workers = []
        for pool in pools:
            number = next(self._numbers)
            log = self.station.folder / f"fleet{number}.log"
            env = self.station.environment | (environment or {})
            options: dict[str, Any] = {"pool": pool, "concurrency": 2, "queues": [f"fleet{number}"], "env": env}
            workers.append(LocalWorker(MODULE, log, name=f"fleet{number}", warm=not environment, **options))
        self.station.workers.extend(workers)
        with ThreadPoolExecutor(4) as starters:
            list(starters.map(lambda worker: worker.start(), workers))
        tasks = {self.send_to(worker, "sleep_late", FOR_EVER): worker for worker in workers}
        for task_id in tasks:
            self.station.wait_for(task_id, "in_progress", timeout=120)
        return tasks

    def send_to(self, worker: LocalWorker, name: str, *args: Any) -> str:
        """Each has a queue of its own, of its own name."""
        return self.station.send(name, *args, queue=worker.node.partition("@")[0])

    def states(self) -> dict[str, str]:
        """What the API says of each worker; nothing while it has no database."""
        return {worker["node"]: worker["state"] for worker in self.station.get("/api/workers").get("workers", [])}

    def says_nobody_is_lost(self) -> bool:
        """True, or it fails."""
        states = self.states()
        assert "lost" not in states.values(), states
        assert self.lost_tasks == {}
        return True

    def kill(self, doomed: dict[str, LocalWorker]) -> list[float]:
        """The seconds after which each of them was shown: in the list of workers, and in the stream for what it ran."""
        killed_at, shown = {}, {}
        for task_id, worker in doomed.items():
            time.sleep(random.uniform(0, 2 * SPREAD / len(doomed)))
            if random.random() < 0.5:
                worker.kill_whole()
            else:
                worker.kill()
            killed_at[task_id] = time.monotonic()

        def look() -> bool:
            states = self.states()
            for task_id, worker in doomed.items():
                if states.get(worker.node) == "lost" and task_id in self.lost_tasks:
                    shown.setdefault(task_id, time.monotonic())
            return len(shown) == len(doomed)

        self.station.poll(look, "all of them are shown as lost", self.states, timeout=180)
        for task_id in doomed:
            detail = self.station.detail(task_id)["task"]
            assert (detail["status"], detail["reason"]) == ("failed", "worker_lost")
        return [shown[task_id] - killed_at[task_id] for task_id in doomed]

    def _listen(self) -> None:
        """Streams end with a sidecar's database; then the next one goes on from where the last one was."""
        cursor = None
        while not self._is_stopping:
            try:
                with self.station.stream(after=cursor) as events:
                    for event, data, last in events:
                        cursor = last or cursor
                        if event == "task" and data["reason"] == "worker_lost":
                            self.lost_tasks.setdefault(data["task_id"], time.monotonic())
            except Exception:  # whatever becomes of a connection
                time.sleep(0.2)


def test_only_the_dead_are_lost(fleet: Fleet, private_postgres: PostgresServer, tmp_path: Path) -> None:
    """Workers are stopped with SIGSTOP, as a whole or their main process alone, the clock of others goes an hour on,
    an hour back and right again, and PostgreSQL dies and comes back, all at once: none is said to be lost before some
    are killed, and then no other."""
    clock = SteppedClock(tmp_path)
    stopped = fleet.start(_scaled(["prefork", "solo"], ["prefork", "prefork", "threads", "solo"]))
    stepped = fleet.start(_scaled(["threads"], ["threads", "prefork"]), clock.environment)
    stops = [functools.partial(_stop_for_a_while, worker) for worker in stopped.values()]
    disturbances = [Disturbance(stop, rest=BEAT) for stop in stops]  # two without a beat between are a longer one
    disturbances.append(steps := Disturbance(clock.step))
    disturbances.append(restarts := Disturbance(functools.partial(_restart, private_postgres), pause=scaled(2, 240)))
    until = time.monotonic() + MINUTES * 60
    for disturbance in disturbances:
        disturbance.begin(until)
    fleet.station.poll(
        lambda: fleet.says_nobody_is_lost() and not any(disturbance.is_alive() for disturbance in disturbances),
        "it is over",
        timeout=MINUTES * 60 + 120,
    )
    for disturbance in disturbances:
        disturbance.check()
    workers = stopped | stepped
    fleet.station.poll(
        lambda: (
            fleet.says_nobody_is_lost()
            and {fleet.states().get(worker.node) for worker in workers.values()} == {"alive"}
        ),
        "all are alive",
        fleet.states,
    )
    clock.check(fleet, next(iter(stepped.values())))
    with psycopg.connect(fleet.station.database) as connection:
        rows = connection.execute("SELECT node FROM oracle.worker WHERE lost_at IS NOT NULL").fetchall()
    assert rows == []
    delays = fleet.kill(stopped)
    fleet.station.poll(
        lambda: {fleet.states().get(worker.node) for worker in stepped.values()} == {"alive"},
        "the others are alive",
        fleet.states,
    )
    assert fleet.lost_tasks.keys() == stopped.keys(), "whoever was taken for lost lost its task"
    assert {fleet.station.detail(task_id)["task"]["status"] for task_id in stepped} == {"in_progress"}
    times = sum(disturbance.count for disturbance in disturbances[: len(stopped)])
    print(
        f"{MINUTES:g} minutes, {len(workers)} workers: {times} stops of {STOPPED:g} s, {steps.count} steps of a clock,"
        f" {restarts.count} restarts of PostgreSQL: no alarm; {len(delays)} killed: lost {max(delays):.0f} s later"
    )


if is_full():

    def test_the_dead_are_shown_in_time(fleet: Fleet) -> None:
        """In the list of workers and, for what they ran, in the stream; their neighbours are left alone."""
        neighbours = fleet.start(["threads"])
        delays: list[float] = []
        for _ in range(ROUNDS):
            delays += fleet.kill(fleet.start([POOLS[number % len(POOLS)] for number in range(KILLED)]))
        delays.sort()
        print(f"{len(delays)} workers killed: shown as lost {delays[0]:.1f} to {delays[-1]:.1f} s later")
        assert delays[-1] <= LOST_WITHIN
        for task_id, worker in neighbours.items():
            assert fleet.states()[worker.node] == "alive"
            assert fleet.station.detail(task_id)["task"]["status"] == "in_progress"


def _scaled(short: list[str], full: list[str]) -> list[str]:
    return full if is_full() else short


class Disturbance(threading.Thread):
    """Does something again and again, and at least once or (a clock) once for each of its states."""

    def __init__(self, act: Callable[[], None], *, rest: float = 0.0, pause: float = SPREAD) -> None:
        """`rest` and up to `pause` seconds lie before each."""
        super().__init__(daemon=True)
        self._act = act
        self._rest = rest
        self._pause = pause
        self._error: BaseException | None = None
        self._until = 0.0
        self.count = 0

    def begin(self, until: float) -> None:
        self._until = until
        self.start()

    def run(self) -> None:
        try:
            while self.count == 0 or time.monotonic() < self._until:
                left = max(self._until - time.monotonic(), SPREAD)
                time.sleep(self._rest + random.uniform(0, min(self._pause, left)))  # any moment between two beats
                self._act()
                self.count += 1
        except BaseException as error:
            self._error = error

    def check(self) -> None:
        assert self._error is None, self._error


def _stop_for_a_while(worker: LocalWorker) -> None:
    send = random.choice([os.kill, os.killpg])  # its main process alone, or all of it
    send(worker.pid, signal.SIGSTOP)
    time.sleep(STOPPED)
    send(worker.pid, signal.SIGCONT)


def _restart(server: PostgresServer) -> None:
    server.kill()
    server.start()


class SteppedClock:
    """What workers of this environment read as the time of day; it begins an hour ahead."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "clock"
        self._steps = itertools.cycle([-HOUR, 0, HOUR])
        self._set(HOUR)
        library = folder / "stepped_clock.so"
        source = Path(__file__).with_name("stepped_clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
        self.environment = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(self._path)}

    def step(self) -> None:
        self._set(next(self._steps))

    def check(self, fleet: Fleet, worker: LocalWorker) -> None:
        """The step reaches a worker's tasks, and not what the record says of them."""
        self._set(HOUR)
        before = time.time()
        stamps = Stamps(fleet.station.folder / "stamps")
        task_id = fleet.send_to(worker, "stamp", str(stamps.path))
        record = fleet.station.wait_for(task_id, "completed")["task"]
        assert stamps.started()[task_id] - before > HOUR / 2, "its clock was not set: nothing is proven"
        assert abs(datetime.fromisoformat(record["started_at"]).timestamp() - before) < HOUR / 2

    def _set(self, seconds: int) -> None:
        with self._path.open("r+b" if self._path.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))
