"""A bulk retry whose sidecar is killed half-way goes on in the next one, and sends nothing twice."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.station import DEADLINE, Station
from tests.faults.scale import scaled
from tests.faults.stamps import whole_lines

#: Failed tasks.
TASKS = scaled(1_000, 20_000)

pytestmark = pytest.mark.timeout(600)


def test_a_bulk_retry_survives_a_kill(station: Station) -> None:
    """Every failed task has one new task, or is said to be unknown; the workers have met each new id at most once."""
    witness = Path(station.folder, "runs")
    witness.touch()
    station.start_sidecar()
    worker = station.start_worker(concurrency=2, options=("--prefetch-multiplier", "32"))
    for _ in range(TASKS):
        station.send("fail_and_tell", str(witness))
    station.poll(lambda: _failed_and_kept(station) >= TASKS, "every task has failed", timeout=240)
    old_ids = set(whole_lines(witness))
    worker.terminate()

    sidecar = station.sidecar
    assert sidecar is not None
    with _no_further_than_the_middle(station):
        order = {"action": "retry", "filter": {"status": ["failed"]}, "reason": "storm"}
        bulk = _post(station, "/api/tasks/bulk", order)
        assert bulk["total"] == TASKS
        path = f"/api/bulk/{bulk['bulk_id']}"
        half = station.poll(
            lambda: (now := station.get(path))["done"] > 0 and now, "the first batch is done", timeout=120
        )
        assert half["state"] == "running"
        sidecar.kill()
    sidecar.start()
    finished = station.poll(
        lambda: (now := station.get(path))["state"] == "finished" and now, "it is finished", timeout=240
    )
    assert finished["done"] == TASKS

    worker.start()
    new_ids = _new_ids(station)
    station.poll(
        lambda: len(set(whole_lines(witness)) - old_ids) >= finished["outcomes"]["sent"],
        "the new tasks have run",
        timeout=240,
    )
    runs = Counter(whole_lines(witness))
    assert {count for task_id, count in runs.items() if task_id not in old_ids} == {1}
    assert set(runs) - old_ids <= new_ids
    assert len(new_ids) == TASKS, "one new id for each"
    known = finished["outcomes"]
    assert known["sent"] + known.get("unknown", 0) == TASKS, known
    with psycopg.connect(station.database) as connection:
        [(entries,)] = connection.execute("SELECT count(*) FROM oracle.audit_entry").fetchall()
    assert entries == 1


@contextmanager
def _no_further_than_the_middle(station: Station) -> Iterator[None]:
    """The bulk does not come to its end meanwhile, however late somebody looks: a task of its middle is held."""
    with psycopg.connect(station.database) as connection:
        connection.execute(
            "SELECT FROM oracle.task_state_record WHERE task_id ="
            " (SELECT task_id FROM oracle.task_state_record ORDER BY created_at, task_id OFFSET %s LIMIT 1) FOR UPDATE",
            (TASKS // 2,),
        )
        yield
        connection.rollback()


def _failed_and_kept(station: Station) -> int:
    with psycopg.connect(station.database) as connection:
        [(rows,)] = connection.execute(
            "SELECT count(*) FROM oracle.task_state_record JOIN oracle.task_message USING (task_id) WHERE status = 3"
        ).fetchall()
    return int(rows)


def _new_ids(station: Station) -> set[str]:
    with psycopg.connect(station.database) as connection:
        return {new_id for (new_id,) in connection.execute("SELECT new_id FROM oracle.retry")}


def _post(station: Station, path: str, body: Any) -> Any:
    assert station.sidecar is not None
    connection = http.client.HTTPConnection("127.0.0.1", station.sidecar.port, timeout=DEADLINE)
    try:
        headers = {"Content-Type": "application/json", **station.authorization}
        connection.request("POST", path, json.dumps(body), headers)
        with connection.getresponse() as answer:
            assert answer.status < 300, answer.read()
            return json.loads(answer.read())
    finally:
        connection.close()
