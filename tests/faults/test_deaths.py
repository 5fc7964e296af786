"""Everything that a task's life needs is killed at random, and comes back: no final status is lost, false or undone.

The tasks acknowledge late and come again until they have run to their end, so what is lost by no broker ends as
completed. What happened is told by the tasks themselves: a line when one begins, a line when it ends. What Oracle said
meanwhile is told by a client of the stream, a reader of the API and a reader of the database, each with a file of all
that it was told.

Told apart from Oracle's faults, by the same witness, and printed: messages that the broker or Celery lost (their tasks
never began, and Oracle must say no more than that they were sent), and tasks that ran more than once.
"""

from __future__ import annotations

import collections
import gc
import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from oracle_celery.database import schema
from oracle_celery.states import Rank
from tests.acceptance.station import Station
from tests.broker_fixtures import RabbitServer, RedisServer, served
from tests.faults.observers import Reader, Watcher, backwards, told
from tests.faults.reaper import Reaper
from tests.faults.scale import is_full, scaled
from tests.polling import eventually
from tests.postgresql_fixtures import PostgresServer

TASKS = int(os.environ.get("ORACLE_DEATHS_TASKS", scaled(400, 50_000)))
#: Seconds after which no more are sent: what a machine does not do in that time it does not do at all.
SEND_SECONDS = float(os.environ.get("ORACLE_DEATHS_SECONDS", scaled(240, 7_200)))
#: Seconds between two deaths, on average.
DEATH_SECONDS = 3.0
#: Tasks that may wait at once: a killed broker holds some, and the sender does not run away.
WAITING_LIMIT = 2_000
#: One of so many tasks takes a while, so that many of those who are killed are at work.
SLOW_SHARE = 40
SLOW_SECONDS = 0.2
#: Seconds that a message of Redis stays with a worker that is silent about it, and in which Celery, which looks for
#: those every hundred seconds, has given it to another.
VISIBILITY_SECONDS = 20
VANISHED_SECONDS = {"rabbitmq": 45.0, "redis": VISIBILITY_SECONDS + 130.0}
SETTLE_SECONDS = 600.0

#: Redis as the broker, too, takes the minutes that Celery needs to find what a killed worker held.
BROKERS = ["rabbitmq", "redis"] if is_full() else ["rabbitmq"]

#: Until a tenth of the tasks has ended: a worker that takes none any more is noticed and started again meanwhile.
TENTH_SECONDS = 240.0

pytestmark = pytest.mark.timeout(scaled(1_200, 3_600))


class Sender(threading.Thread):
    """Sends them all, however often the broker is away; the same message may come twice, with the same task id."""

    def __init__(self, station: Station, witness: Witness, dice: random.Random) -> None:
        super().__init__(name="sender", daemon=True)
        self.sent: list[str] = []
        self.error: BaseException | None = None
        self._station = station
        self._witness = witness
        self._dice = dice

    def run(self) -> None:
        deadline = time.monotonic() + SEND_SECONDS
        try:
            while len(self.sent) < TASKS and time.monotonic() < deadline:
                while len(self.sent) - len(self._witness.ended) > WAITING_LIMIT:
                    time.sleep(0.1)
                    self._witness.read()
                slow = SLOW_SECONDS if self._dice.randrange(SLOW_SHARE) == 0 else 0.0
                self.sent.append(self._station.send("survive", str(self._witness.path), slow))
        except BaseException as error:  # the test would wait for it in vain
            self.error = error


class Witness:
    """What the tasks wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self.began: collections.Counter[str] = collections.Counter()
        self.ended: collections.Counter[str] = collections.Counter()
        self._position = 0
        self._lock = threading.Lock()

    def read(self) -> int:
        """How many tasks have come to their end."""
        with self._lock, self.path.open() as lines:
            lines.seek(self._position)
            text = lines.read()
            text = text[: text.rfind("\n") + 1]
            self._position += len(text)
            for line in text.splitlines():
                word, task_id, _ = line.split()
                (self.began if word == "began" else self.ended)[task_id] += 1
            return len(self.ended)


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[RabbitServer | RedisServer]:
    server: RabbitServer | RedisServer = RabbitServer() if request.param == "rabbitmq" else RedisServer(durable=True)
    yield from served(server)


@pytest.fixture
def backend() -> Iterator[RedisServer]:
    """Of results."""
    yield from served(RedisServer(durable=True))


# Celery's own client, which sends the tasks here, leaves a connection that a death has cut to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_whatever_dies_the_statuses_are_true(
    broker: RabbitServer | RedisServer, backend: RedisServer, private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """0 lost, 0 false, 0 backwards."""
    seed = int(os.environ.get("ORACLE_SEED", random.randrange(2**31)))
    print(f"ORACLE_SEED={seed}")
    with psycopg.connect(private_postgres.dsn(), autocommit=True) as connection:
        schema.migrate(connection)
    is_rabbit = isinstance(broker, RabbitServer)
    settings = {
        "broker_connection_max_retries": None,
        "broker_transport_options": {"confirm_publish": True}
        if is_rabbit
        else {"visibility_timeout": VISIBILITY_SECONDS},
        "oracle_beat_interval": 2.0,
        "oracle_worker_timeout": 20.0,
        "task_publish_retry_policy": {"max_retries": None, "interval_start": 0.1, "interval_max": 1.0},
    }
    station = Station(broker.new_url(), private_postgres.dsn(), tmp_path, backend=backend.new_url(), settings=settings)
    try:
        station.start_sidecar()
        for name in ("one", "other"):
            station.start_worker(concurrency=3, name=name)
        _storm(station, private_postgres, broker, backend, seed)
    finally:
        station.stop()
        gc.collect()  # here, rather than in somebody else's test


def _storm(
    station: Station, postgres: PostgresServer, broker: RabbitServer | RedisServer, backend: RedisServer, seed: int
) -> None:
    began = time.monotonic()
    witness = Witness(station.folder / "witness")
    sender = Sender(station, witness, random.Random(seed))
    watcher = Watcher(station, station.folder)
    readers = [kind(station, station.folder, sender.sent, seed) for kind in (Reader.of_api, Reader.of_database)]
    reaper = Reaper(station, postgres, broker, backend, done=witness.read, seed=seed)
    for thread in (watcher, sender, *readers):
        thread.start()
    shares = itertools.count(1)

    def pause() -> None:
        enough = TASKS * next(shares) // 10

        def look() -> object:
            reaper.supervise()
            return witness.read() >= enough or sender.error

        eventually(look, f"{enough} tasks have ended", TENTH_SECONDS)

    if is_full():
        reaper.reap_until(lambda: not sender.is_alive(), DEATH_SECONDS)
    else:
        reaper.reap_each(pause)
    sender.join()
    if sender.error:
        raise sender.error
    killed = time.monotonic()
    station.app.oracle.stop()
    kind = "rabbitmq" if isinstance(broker, RabbitServer) else "redis"
    rows = _settled(station, witness, reaper, len(sender.sent), VANISHED_SECONDS[kind])
    _check_page(station, watcher)
    watcher.close()
    for reader in readers:
        reader.close()
    figures = _check(station, sender.sent, witness, rows, watcher, readers, may_lose=isinstance(broker, RedisServer))
    print(
        f"{len(sender.sent)} tasks in {killed - began:.0f} s, settled {time.monotonic() - killed:.0f} s after; "
        f"killed: {dict(reaper.deaths)}; started again: {reaper.ended} ended, {reaper.stuck} stuck; {figures}"
    )


def _settled(
    station: Station, witness: Witness, reaper: Reaper, tasks: int, vanished: float
) -> dict[str, tuple[str, str | None]]:
    """Every task's (status, reason) once all have completed, or nothing has changed for long."""
    open_tasks = (
        "SELECT count(*) FILTER (WHERE status <> 2 AND reason IS DISTINCT FROM 'internal_error'), count(*)"
        " FROM oracle.task_state_record"
    )
    last, since = None, time.monotonic()
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        with suppress(psycopg.OperationalError), psycopg.connect(station.database) as connection:  # it still recovers
            found = connection.execute(open_tasks).fetchone()
            now = (found, witness.read())
            if now != last:
                last, since = now, time.monotonic()
            is_quiet = time.monotonic() - since > vanished
            if found == (0, tasks) or is_quiet:
                query = "SELECT task_id, oracle.status_word(status), reason FROM oracle.task_state_record"
                return {task_id: (status, reason) for task_id, status, reason in connection.execute(query)}
        assert time.monotonic() < deadline, f"not settled: {last}"
        reaper.supervise()
        time.sleep(0.2)


def _check_page(station: Station, watcher: Watcher) -> None:
    """A page that was open all the time knows, in the end, what the database knows."""
    with psycopg.connect(station.database) as connection:
        rows = connection.execute("SELECT task_id, oracle.status_word(status) FROM oracle.task_state_record")
        statuses = dict(rows.fetchall())
        [(last,)] = connection.execute("SELECT max(history_id) FROM oracle.task_transition").fetchall()
    eventually(lambda: watcher.statuses() == statuses, f"the page knows everything, up to {last}", 120)


def _check(
    station: Station,
    sent: list[str],
    witness: Witness,
    rows: dict[str, tuple[str, str | None]],
    watcher: Watcher,
    readers: list[Reader],
    *,
    may_lose: bool,
) -> str:
    """All promises; the figures in words."""
    assert set(rows) == set(sent)
    never_began = {task_id for task_id in sent if task_id not in witness.began}
    never_ended = {task_id for task_id in sent if task_id not in witness.ended} - never_began
    unreported = {task_id for task_id in witness.ended if rows[task_id][0] != "completed"}
    false = {task_id: rows[task_id] for task_id in never_began | never_ended if rows[task_id][0] == "completed"}
    false |= {task_id: rows[task_id] for task_id in never_began if rows[task_id][0] != "pending"}
    assert false == {}, "told of tasks that did not run"
    # to Celery a task has failed whose result it could not store: it has acknowledged the message
    unstored = {task_id for task_id in unreported if rows[task_id] == ("failed", "internal_error")}
    unreported -= unstored
    lost_reasons = {rows[task_id] for task_id in unreported | never_ended}
    if may_lose:  # what began in a killed process and was never delivered again failed, as far as anybody can know
        assert lost_reasons <= {("failed", "worker_lost"), ("failed", "process_lost")}, lost_reasons
    else:
        assert (never_began, never_ended, unreported) == (set(), set(), set()), lost_reasons
    diaries = [watcher.diary.path, *(reader.diary.path for reader in readers)]
    notes = 0
    for diary in diaries:
        assert backwards(diary) == [], diary.name
        for task_id, _, status, _ in told(diary):
            notes += 1
            assert status != "completed" or task_id in witness.ended, diary.name
    assert all(reader.looks > 0 for reader in readers)
    alarms, transitions = _facts(station)
    assert alarms == []
    again = sum(count > 1 for count in witness.began.values())
    return (
        f"{transitions} transitions, {notes} tellings checked ({watcher.resyncs} resyncs: {watcher.reasons}); "
        f"{again} tasks ran more than once; {len(unstored)} failed because their result could not be stored; "
        f"lost by broker or Celery: {len(never_began)} before they began, {len(never_ended)} that were killed "
        f"and {len(unreported)} that had ended before anybody was told"
    )


def _facts(station: Station) -> tuple[list[Any], int]:
    """Runs that were given up although they told their own end, and the transitions in all."""
    false_alarms = (
        "SELECT task_id, run_id, array_agg(reason) FROM oracle.task_transition WHERE run_id IS NOT NULL"
        " GROUP BY 1, 2 HAVING bool_or(rank = ANY(%s) AND status = 3) AND bool_or(rank = %s AND status = 2)"
    )
    with psycopg.connect(station.database) as connection:
        alarms = connection.execute(false_alarms, ([Rank.LOST, Rank.INFERRED], Rank.REPORTED)).fetchall()
        [(transitions,)] = connection.execute("SELECT count(*) FROM oracle.task_transition").fetchall()
    return alarms, transitions
