"""Many cancels: before any worker runs, and while workers take the very same tasks. What ran is told by the tasks."""

from __future__ import annotations

import concurrent.futures
import http.client
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.station import DEADLINE, Station
from tests.broker_fixtures import RabbitServer, RedisServer
from tests.faults.scale import scaled
from tests.faults.stamps import Stamps
from tests.tokens import local_bearer

CANCELLED = scaled(200, 1_000)
#: Tasks behind the cancelled ones: once they have run, the worker has met every message before them.
BYSTANDERS = 20
RACES = scaled(100, 500)
#: Clients that cancel at the same time.
CLIENTS = 8
#: Of the cancelled tasks, every so many waits for its countdown in the worker's memory.
COUNTDOWN_SHARE = 10
COUNTDOWN_SECONDS = 3
#: Each cancel is another admin's: one person may not send so many at once.
ADMIN = "admin-"

_numbers = itertools.count()

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def station(own_broker: RabbitServer | RedisServer, database: str, tmp_path: Path) -> Iterator[Station]:
    """On a broker of its own; nothing runs yet."""
    station = Station(own_broker.new_url(), database, tmp_path)
    yield station
    station.stop()


def test_cancelled_while_no_worker_runs(station: Station, own_broker: RabbitServer | RedisServer) -> None:
    """Broker, sidecar and worker start again, and not one body runs."""
    stamps = Stamps(station.folder / "stamps")
    station.start_sidecar()
    doomed = [
        station.send("stamp", str(stamps.path), countdown=None if number % COUNTDOWN_SHARE else COUNTDOWN_SECONDS)
        for number in range(CANCELLED)
    ]
    station.poll(lambda: _rows(station) >= CANCELLED, "every task is known")
    assert {status for status, _ in _cancel(station, doomed)} == {200}

    own_broker.restart()
    assert station.sidecar is not None
    station.sidecar.kill()
    station.sidecar.start()
    bystanders = [station.send("stamp", str(stamps.path), countdown=COUNTDOWN_SECONDS) for _ in range(BYSTANDERS)]
    worker = station.start_worker()
    station.poll(lambda: stamps.ended() >= set(bystanders), "the bystanders have run", timeout=60)
    station.poll(lambda: _unsettled(station) == 0, "every message has been dropped", timeout=60)
    worker.terminate()

    assert set(stamps.started()) == set(bystanders)
    assert {_outcome(row) for row in _states(station, doomed)} == {("cancelled", "cancelled")}
    audited = _audited(station)
    assert set(audited) == set(doomed)
    assert {(actor.startswith(ADMIN), outcome) for actor, outcome in audited.values()} == {(True, "cancelled")}


def test_cancels_that_race_the_start(station: Station) -> None:
    """Each ends cancelled and has not run to its end, or completed and has; no other task is touched."""
    stamps = Stamps(station.folder / "stamps")
    station.start_sidecar()
    station.start_worker(concurrency=2)
    targets, others = [], []
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        answers = []
        for _ in range(RACES):
            targets.append(station.send("stamp", str(stamps.path), random.choice([0.0, 0.002, 0.02, 0.2])))
            others.append(station.send("stamp", str(stamps.path)))
            answers.append(clients.submit(_cancel_when_known, station, targets[-1]))
        accepted = {task_id for task_id, answer in zip(targets, answers, strict=True) if answer.result() < 300}
    station.poll(lambda: stamps.ended() >= set(others), "the others have run", timeout=120)
    station.poll(
        lambda: {row[1] for row in _states(station, targets + others)} <= {"completed", "cancelled"},
        "every task is final",
        lambda: [row for row in _states(station, targets + others) if row[1] not in ("completed", "cancelled")],
        timeout=60,
    )
    station.poll(lambda: _unsettled(station) == 0, "every cancel is settled", timeout=60)

    ended, started = stamps.ended(), set(stamps.started())
    statuses = {task_id: status for task_id, status, _, _ in _states(station, targets)}
    cancelled = {task_id for task_id, status in statuses.items() if status == "cancelled"}
    assert cancelled & ended == set(), "cancelled, and yet run to its end"
    assert set(statuses) - cancelled <= ended, "completed, and yet not run"
    # the start of a run is told by its own process, its end perhaps by another, which may be read before
    station.poll(
        lambda: not cancelled & started & {task_id for task_id, _, _, ran in _states(station, targets) if not ran},
        "none is said never to have started that has",
    )
    assert {status for _, status, _, _ in _states(station, others)} == {"completed"}
    assert cancelled, "no cancel came in time: the race was not one"
    audited = _audited(station)
    assert set(audited) == accepted
    for task_id, (actor, outcome) in audited.items():
        assert actor.startswith(ADMIN)
        assert outcome == ("cancelled" if task_id in cancelled else "too_late")


def _cancel(station: Station, task_ids: list[str]) -> list[tuple[int, Any]]:
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(lambda task_id: _delete(station, task_id), task_ids))


def _cancel_when_known(station: Station, task_id: str) -> int:
    """The answer's status; a task is known some milliseconds after it was sent."""
    return station.poll(
        lambda: (status := _delete(station, task_id)[0]) != 404 and status, f"{task_id} is known", timeout=DEADLINE
    )


def _delete(station: Station, task_id: str) -> tuple[int, Any]:
    assert station.sidecar is not None
    somebody = local_bearer(station.app.oracle.settings, f"{ADMIN}{next(_numbers)}")
    connection = http.client.HTTPConnection("127.0.0.1", station.sidecar.port, timeout=DEADLINE)
    try:
        connection.request("DELETE", f"/api/tasks/{task_id}", headers=somebody)
        with connection.getresponse() as answer:
            return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def _rows(station: Station) -> int:
    [(rows,)] = _fetch(station, "SELECT count(*) FROM oracle.task_state_record")
    return int(rows)


def _unsettled(station: Station) -> int:
    [(rows,)] = _fetch(station, "SELECT count(*) FROM oracle.cancellation WHERE settled_at IS NULL")
    return int(rows)


def _states(station: Station, task_ids: list[str]) -> list[Any]:
    """(task_id, status, reason, whether it ever started)."""
    return _fetch(
        station,
        "SELECT task_id, oracle.status_word(status), reason, EXISTS (SELECT FROM oracle.task_transition AS h"
        " WHERE h.task_id = t.task_id AND h.status = 1)"
        " FROM oracle.task_state_record AS t WHERE task_id = ANY (%s)",
        task_ids,
    )


def _outcome(row: Any) -> tuple[str, str]:
    return row[1], row[2]


def _audited(station: Station) -> dict[str, tuple[str, str]]:
    """Who cancelled each task and what came of it at last; more than one entry for a task is an error."""
    rows = _fetch(
        station,
        "SELECT task_id, actor, (SELECT outcome FROM oracle.audit_outcome AS o WHERE o.entry_id = e.entry_id"
        " ORDER BY outcome_id DESC LIMIT 1) FROM oracle.audit_entry AS e WHERE action = 'cancel'",
    )
    assert len(rows) == len({task_id for task_id, _, _ in rows}), "a cancel was audited twice"
    return {task_id: (actor, outcome) for task_id, actor, outcome in rows}


def _fetch(station: Station, query: str, *parameters: Any) -> list[Any]:
    with psycopg.connect(station.database) as connection:
        return connection.execute(query, parameters).fetchall()
