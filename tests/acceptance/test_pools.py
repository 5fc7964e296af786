"""Pools other than prefork: everything happens in the worker's one process, and the facts are the same."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oracle_celery import embedded_broker
from tests.acceptance.desk import Desk
from tests.acceptance.station import DEADLINE, Station

POOLS = ["threads", "gevent", "solo"]
#: In which a worker that ends must have told everything; the two that are usual are few for a crowded machine.
FLUSH_SECONDS = 50


@pytest.fixture
def file_desk(database: str, tmp_path: Path) -> Iterator[Desk]:
    """On the embedded broker, whose workers have no event loop, and with Celery's own settings."""
    desk = Desk(embedded_broker.address(tmp_path / "broker"), database, tmp_path)
    yield desk
    desk.stop()


def reasons(detail: Any) -> list[str | None]:
    return [entry["reason"] for entry in detail["history"]]


@pytest.mark.parametrize("pool", POOLS)
def test_life_of_a_task(rabbitmq_station: Station, pool: str) -> None:
    """Success, failure, retry, ignore, reject, and a task sent inside a task."""
    station = rabbitmq_station
    station.start_sidecar()
    station.start_worker(pool=pool)
    succeeded = station.send("succeed", 1)
    failed = station.send("fail")
    retried = station.send("retry_once", station.witness("retry"))
    ignored = station.send("ignore")
    rejected = station.send("reject")
    parent = station.send("spawn", 2)
    detail = station.wait_for(succeeded, "completed")
    # its receipt is told only where it had to wait for its start
    assert [reason for reason in reasons(detail) if reason not in ("sent", "received")] == ["started", None]
    assert detail["task"]["worker"] == station.workers[0].node
    assert station.wait_for(failed, "failed")["task"]["error_type"] == "ValueError"
    assert station.wait_for(retried, "completed")["task"]["retries"] == 1
    assert station.wait_for(ignored, "completed")["task"]["reason"] == "ignored"
    assert station.wait_for(rejected, "failed")["task"]["reason"] == "rejected"
    child = station.wait_for(parent, "completed")["task"]["result_payload"]
    assert station.wait_for(child, "completed")["task"]["parent_id"] == parent


def test_hard_time_limit_on_gevent(rabbitmq_station: Station) -> None:
    """The greenlet is killed: a time limit, not a mere interruption."""
    station = rabbitmq_station
    station.start_sidecar()
    station.start_worker(pool="gevent")
    detail = station.wait_for(station.send("overrun"), "failed", reason="time_limit")
    assert detail["task"]["error_type"].endswith("TimeLimitExceeded")


def test_terminated_on_gevent(rabbitmq_station: Station) -> None:
    """Revoked while it ran: cancelled."""
    station = rabbitmq_station
    station.start_sidecar()
    station.start_worker(pool="gevent")
    task_id = station.send("sleep", 60)
    station.wait_for(task_id, "in_progress")
    station.app.control.revoke(task_id, terminate=True)
    assert station.wait_for(task_id, "cancelled")["task"]["reason"] == "terminated"


def test_exit_on_threads(rabbitmq_station: Station) -> None:
    """No main process tells of a thread that was left: the run's own process does, and the worker's end is right."""
    station = rabbitmq_station
    station.start_sidecar()
    station.start_worker(pool="threads")
    detail = station.wait_for(station.send("leave"), "failed")
    assert detail["task"]["reason"] in ("interrupted", "process_lost")


def test_warm_shutdown_tells_everything(rabbitmq_station: Station) -> None:
    """SIGTERM while a task runs: the worker finishes it, and its last facts are stored before it is gone."""
    station = rabbitmq_station
    station.environment["SIGNALS_SETTINGS"] = json.dumps({"oracle_flush_timeout": FLUSH_SECONDS})
    station.start_sidecar()
    worker = station.start_worker()
    may_end = Path(station.witness("may end"))
    task_id = station.send("wait_for_file", str(may_end))
    station.wait_for(task_id, "in_progress")
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_log("Warm shutdown")
    may_end.touch()
    worker.wait()
    assert station.detail(task_id)["task"]["status"] == "completed"


def test_cold_shutdown_tells_what_becomes_of_each(rabbitmq_station: Station) -> None:
    """SIGQUIT while tasks run: one whose message was acknowledged has failed, nobody runs it again; the other one's
    goes back, and the next worker has it. The worker has said goodbye: nobody waits until it is taken for lost."""
    station = rabbitmq_station
    station.environment["SIGNALS_SETTINGS"] = json.dumps({"oracle_flush_timeout": FLUSH_SECONDS})
    station.start_sidecar()
    worker = station.start_worker(concurrency=2)
    may_end = Path(station.witness("may end"))
    early, late = (station.send(name, str(may_end)) for name in ("wait_for_file", "wait_late_for_file"))
    station.wait_for(early, "in_progress")
    station.wait_for(late, "in_progress")
    worker.send_signal(signal.SIGQUIT)
    worker.wait()
    assert station.wait_for(early, "failed")["task"]["reason"] == "interrupted"
    assert station.wait_for(late, "pending")["task"]["reason"] in ("worker_stopped", "connection_lost")
    station.poll(
        lambda: [one["state"] for one in station.get("/api/workers")["workers"]] == ["stopped"], "it has said goodbye"
    )
    assert "Error on terminating" not in worker.log
    assert "Oracle could not record" not in worker.log
    may_end.touch()
    worker.start()
    assert station.wait_for(late, "completed")["task"]["retries"] == 0
    assert station.detail(early)["task"]["status"] == "failed"


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_success_that_is_delivered_again_stays_one(rabbitmq_station: Station, pool: str) -> None:
    """With ``worker_deduplicate_successful_tasks`` Celery passes its message over, without a signal."""
    station = rabbitmq_station
    station.environment["SIGNALS_SETTINGS"] = json.dumps({"worker_deduplicate_successful_tasks": True})
    station.start_sidecar()
    worker = station.start_worker(pool=pool)
    task_id = station.send("sleep_late", 0)
    station.wait_for(task_id, "completed")
    worker.terminate()
    station.app.tasks["signals.sleep_late"].apply_async((0,), task_id=task_id)
    with station.app.connection_for_read() as connection:
        queue = connection.SimpleQueue(station.app.conf.task_default_queue, no_ack=False)
        queue.get(timeout=DEADLINE).requeue()
        queue.close()
    worker.start()
    station.wait_for_reason(task_id, "redelivered")
    detail = station.wait_for(task_id, "completed")
    assert detail["history"][-1]["status"] == "completed"
    assert len({entry["run_id"] for entry in detail["history"] if entry["status"] == "completed"}) == 2


def test_hard_time_limit_without_an_event_loop(file_desk: Desk) -> None:
    """Prefork: the thread that is to kill the task's process gives the next one its turn, and does not wait for it."""
    desk = file_desk
    desk.start_worker(concurrency=1)
    limited = desk.station.send("overrun")
    held = [desk.send("quick") for _ in range(3)]
    for task_id in held:
        desk.wait_for_line(f"ran {task_id}")
    desk.wait_for_row(limited, "failed", "time_limit")
