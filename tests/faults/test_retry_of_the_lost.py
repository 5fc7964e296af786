"""A worker is killed as a whole while it runs a task: the task is retried all the same."""

from __future__ import annotations

import http.client
import json
import os
import signal
from typing import Any

import psycopg

from tests.acceptance.station import DEADLINE, Station


def test_a_run_that_died_with_its_worker(station: Station) -> None:
    """Its message was kept while it ran, early acknowledged as it was; of what completed nothing is kept for long."""
    station.start_sidecar()
    worker = station.start_worker()
    witness = station.witness("lost")
    lost = station.send("sleep", 600, witness)
    station.wait_for(lost, "in_progress")
    station.poll(lambda: lost in _kept(station), "its message is kept")
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    station.wait_for(lost, "failed", reason="worker_lost")

    worker.start()
    answer = _retry(station, lost, {"args": [0, witness]})
    station.wait_for(answer["new_task_id"], "completed")
    detail = station.detail(lost)
    assert detail["control"]["retried_as"] == answer["new_task_id"]
    assert [entry["action"] for entry in detail["audit"]] == ["retry"]
    worker.kill()


def _kept(station: Station) -> set[str]:
    with psycopg.connect(station.database) as connection:
        return {task_id for (task_id,) in connection.execute("SELECT task_id FROM oracle.task_message")}


def _retry(station: Station, task_id: str, body: Any) -> Any:
    assert station.sidecar is not None
    connection = http.client.HTTPConnection("127.0.0.1", station.sidecar.port, timeout=DEADLINE)
    try:
        headers = {"Content-Type": "application/json", **station.authorization}
        connection.request("POST", f"/api/tasks/{task_id}/retry", json.dumps(body), headers)
        with connection.getresponse() as answer:
            said = json.loads(answer.read())
            assert answer.status == 201, said
            return said
    finally:
        connection.close()
