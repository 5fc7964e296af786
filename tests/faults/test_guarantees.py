"""What cancel and pause promise, on every broker and pool, while something dies between a command and its effect.

A round pauses a queue, cancels tasks that wait in it, that a worker holds for later and that run, and kills something
at once: the worker, PostgreSQL, the broker or the sidecar. Judged by what the tasks' own bodies wrote down.

The full form (``make faults-full``) takes every broker, pool and fault. It prints what it ran, with Celery's version.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import celery
import psycopg
import pytest

from oracle_celery.database import schema
from oracle_celery.errors import DatabaseUnavailable
from tests.acceptance.station import Station
from tests.broker_fixtures import RabbitServer, RedisServer
from tests.faults.scale import is_full, scaled
from tests.faults.stamps import Stamps
from tests.local_processes import LocalWorker
from tests.postgresql_fixtures import PostgresServer

PAUSED, STEADY = "mail", "signals"
BROKERS, POOLS = ("rabbitmq", "redis"), ("prefork", "threads", "gevent")
FAULTS = ("worker", "database", "broker", "sidecar")
#: (broker, pool, faults). The short form leaves out what test_cancel_storm.py and test_pause_storm.py have: prefork.
CELLS = (
    [(broker, pool, FAULTS) for broker, pool in itertools.product(BROKERS, POOLS)]
    if is_full()
    else [("rabbitmq", "threads", ("sidecar", "worker")), ("redis", "gevent", ("database", "broker"))]
)
#: Tasks of each kind in a round.
CROWD = scaled(3, 10)
#: Seconds for which a worker holds a task before its time has come. A busy machine takes some to cancel twenty of them.
COUNTDOWN = scaled(5, 8)
#: Seconds before that time in which a cancel is answered, or it is not known who was first: then others are cancelled.
IN_TIME = 2.0
#: Seconds after which Redis gives a message to somebody else.
VISIBILITY = scaled(6, 12)
#: Seconds until everything works again, and until all is told.
HEALED, SETTLED = 60.0, 90.0

pytestmark = pytest.mark.timeout(540)


@pytest.fixture(params=CELLS, ids=lambda cell: f"{cell[0]}-{cell[1]}")
def cell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cell]:
    """A station with a worker and a sidecar, on servers of its own where those are to be killed."""
    broker, pool, faults = request.param
    server = _own_broker(broker) if "broker" in faults else request.getfixturevalue(f"{broker}_server")
    postgres: PostgresServer | None = None
    try:
        if "broker" in faults:
            server.start()
        if "database" in faults:
            postgres = request.getfixturevalue("private_postgres")
            database = postgres.dsn()
            with psycopg.connect(database, autocommit=True) as connection:
                schema.migrate(connection)
        else:
            database = request.getfixturevalue("database")
        station = Station(server.new_url(), database, tmp_path)
        settings = {"broker_transport_options": {"visibility_timeout": VISIBILITY}} if broker == "redis" else {}
        station.environment["SIGNALS_SETTINGS"] = json.dumps(settings)
        try:
            yield Cell(station, server, postgres, pool, list(faults))
        finally:
            station.stop()
    finally:
        if "broker" in faults:
            server.dispose()


def _own_broker(kind: str) -> RabbitServer | RedisServer:
    return RabbitServer() if kind == "rabbitmq" else RedisServer(durable=True)


class Cell:
    """One broker, one pool, and what is to happen to them."""

    def __init__(
        self,
        station: Station,
        broker: RabbitServer | RedisServer,
        database: PostgresServer | None,
        pool: str,
        faults: list[str],
    ) -> None:
        self.station = station
        self.broker = broker
        self.database = database
        self.pool = pool
        self.faults = faults
        self.stamps = Stamps(station.folder / "stamps")
        station.start_sidecar()
        self.worker: LocalWorker = station.start_worker(pool=pool, concurrency=4, queues=(PAUSED, STEADY))
        self._strikes: dict[str, Callable[[], object]] = {
            "worker": self._kill_worker,
            "database": self._kill_database,
            "broker": broker.restart,
            "sidecar": self._kill_sidecar,
        }

    def play(self, fault: str) -> str:
        """One round; a line about it."""
        station, stamps = self.station, self.stamps
        self.until(self._pauses, f"{PAUSED} is paused")
        paused_at = time.time()
        waiting = [self.send("stamp", queue=PAUSED) for _ in range(2 * CROWD)]
        running = [self.send("stamp_late", queue=STEADY) for _ in range(2)]
        self.until(lambda: stamps.started().keys() >= set(running), "what is to be stopped runs")
        self.until(lambda: len(self._statuses(waiting)) == 2 * CROWD, "every task is known")
        held, due_at = self._hold_and_cancel()
        spared, doomed = waiting[CROWD:], held + waiting[:CROWD]
        answers = {task_id: self._cancel(task_id) for task_id in waiting[:CROWD] + running}
        assert set(answers.values()) <= {200, 202}, answers

        struck_at = time.monotonic()
        self._strikes[fault]()
        bystanders = [self.send("stamp", queue=STEADY) for _ in range(CROWD)]
        self.until(lambda: stamps.ended() >= set(bystanders), f"others run after {fault}")
        healed = time.monotonic() - struck_at
        self.until(lambda: time.monotonic() > due_at, "the time of what was held has come")
        late = {task_id for task_id, at in stamps.started(PAUSED).items() if at > paused_at}
        assert late == set(), f"tasks of a paused queue started after {fault}"

        self.until(lambda: station.app.oracle.resume(PAUSED), f"{PAUSED} is resumed")
        self.until(lambda: stamps.ended() >= set(spared), f"what was not cancelled runs after {fault}")
        self.until(
            lambda: self._gives_out_again() and set(self._statuses(doomed + running).values()) == {"cancelled"},
            f"all that was cancelled is so after {fault}",
            SETTLED,
        )
        if is_full() and isinstance(self.broker, RabbitServer):  # Redis gives out again what was held after minutes
            self.until(lambda: self._unsettled() == 0, f"every message has been met after {fault}", SETTLED)
        assert set(doomed) & stamps.started().keys() == set(), f"cancelled, and yet started after {fault}"
        assert set(running) & stamps.ended() == set(), f"cancelled, and yet run to its end after {fault}"
        settled = time.monotonic() - struck_at
        return (
            f"{fault}: cancelled {len(doomed)} that waited, {len(running)} that ran, paused {len(waiting)}: none went"
            f" on; others run after {healed:.1f} s, all is told after {settled:.1f} s"
        )

    def _hold_and_cancel(self) -> tuple[list[str], float]:
        """Tasks that a worker holds for later, cancelled well before their time, and when that has come (monotonic)."""
        deadline = time.monotonic() + HEALED
        while time.monotonic() < deadline:
            earliest = time.monotonic() + COUNTDOWN
            held = [self.send("stamp", queue=STEADY, countdown=COUNTDOWN) for _ in range(2 * CROWD)]
            latest = time.monotonic() + COUNTDOWN
            self.until(lambda held=held: len(self._statuses(held)) == 2 * CROWD, "those for later are known, too")  # type: ignore[misc]
            answers = {task_id: self._cancel(task_id) for task_id in held[:CROWD]}
            if time.monotonic() < earliest - IN_TIME:
                assert set(answers.values()) == {200}, answers
                return held[:CROWD], latest
        raise AssertionError(f"no {CROWD} cancels within {COUNTDOWN - IN_TIME:g} s: make COUNTDOWN longer")

    def _cancel(self, task_id: str) -> int:
        """The answer's status, once the sidecar has its database again."""
        return int(
            self.station.poll(
                lambda: (status := self.station.ask("DELETE", f"/api/tasks/{task_id}")[0]) != 503 and status,
                "the sidecar takes a cancel",
                timeout=HEALED,
            )
        )

    def send(self, name: str, **options: object) -> str:
        """However long the broker takes to be back."""

        def attempt() -> str:
            try:
                return self.station.send(name, str(self.stamps.path), retry=False, **options)
            except Exception:  # whatever a broker's client raises
                time.sleep(0.1)
                return ""

        return str(self.station.poll(attempt, "the broker takes a message", timeout=HEALED))

    def until(self, look: Callable[[], object], what: str, timeout: float = HEALED) -> None:
        """As a supervisor does, starts the worker again where it has ended meanwhile: some lose their broker in a way
        that Celery's client does not outlive."""

        def look_and_supervise() -> object:
            if not self.worker.is_alive:
                self.worker.start(wait=False)
            try:
                return look()
            except (psycopg.OperationalError, DatabaseUnavailable):
                return None

        self.station.poll(look_and_supervise, what, self._evidence, timeout)

    def _gives_out_again(self) -> bool:
        """True. What a dead worker held comes back on Redis when a consumer looks for it, which without an event loop
        it does only when nothing at all happens: so we do."""
        if isinstance(self.broker, RedisServer):
            options = {"visibility_timeout": VISIBILITY}
            with (
                contextlib.suppress(*self.station.app.connection_for_read().connection_errors),
                self.station.app.connection_for_read(transport_options=options) as connection,
            ):
                connection.default_channel.qos.restore_visible(interval=1)
        return True

    def _pauses(self) -> bool:
        states = [report.state for report in self.station.app.oracle.pause(PAUSED).workers]
        return "confirmed" in states and set(states) <= {"confirmed", "unreachable"}

    def _statuses(self, task_ids: list[str]) -> dict[str, str]:
        rows = self._fetch(
            "SELECT task_id, oracle.status_word(status) FROM oracle.task_state_record WHERE task_id = ANY (%s)",
            task_ids,
        )
        return dict(rows)

    def _unsettled(self) -> int:
        [(rows,)] = self._fetch("SELECT count(*) FROM oracle.cancellation WHERE settled_at IS NULL")
        return int(rows)

    def _fetch(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.station.database) as connection:
            return connection.execute(query, parameters).fetchall()  # type: ignore[arg-type]

    def _evidence(self) -> object:
        rows = self._fetch(
            "SELECT task_id, oracle.status_word(status), reason, c.settled_as FROM oracle.task_state_record"
            " LEFT JOIN oracle.cancellation AS c USING (task_id)"
            " WHERE status < 2 OR c.settled_at IS NULL AND c.task_id IS NOT NULL"
        )
        return {"tasks": rows, "worker": self.worker.log[-4000:].splitlines()}

    def _kill_worker(self) -> None:
        self.worker.kill_whole()
        self.worker.start()

    def _kill_database(self) -> None:
        assert self.database is not None
        self.database.kill()
        self.database.start()

    def _kill_sidecar(self) -> None:
        assert self.station.sidecar is not None
        self.station.sidecar.kill()
        self.station.sidecar.start()


def test_cancels_and_pauses_hold(cell: Cell) -> None:
    """What was cancelled never starts or never ends, a paused queue starts nothing, all else goes on."""
    seed = int(os.environ.get("ORACLE_SEED", time.time()))
    random.Random(seed).shuffle(cell.faults)
    print(f"ORACLE_SEED={seed}, Celery {celery.__version__}, {type(cell.broker).__name__}, {cell.pool}")
    for fault in cell.faults:
        print(f"    {cell.play(fault)}", flush=True)
