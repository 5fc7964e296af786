"""Workers, queues and what tasks wait for, with real workers and brokers: what the sidecar says is what is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.desk import Desk
from tests.local_processes import LocalWorker

QUEUE = "signals"
LONG = 60.0  # seconds
#: In which a worker that ends must have said goodbye; the two that are usual are few for a crowded machine.
FLUSH_SECONDS = 50


class Fleet:
    """A desk with a sidecar that is asked."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.station = desk.station
        self.station.start_sidecar()

    def worker(self, **options: Any) -> LocalWorker:
        return self.station.start_worker(**{"concurrency": 1, **options})

    def reasons(self, task_id: str) -> list[dict[str, Any]]:
        waiting = self.station.detail(task_id).get("waiting")
        return waiting["reasons"] if waiting else []

    def wait_for_code(self, task_id: str, code: str, **expected: Any) -> dict[str, Any]:
        """The first reason, once it is this one, and its fields are these."""

        def look() -> Any:
            reasons = self.reasons(task_id)
            return reasons[0] if reasons and {"code": code, **expected}.items() <= reasons[0].items() else None

        found: dict[str, Any] = self.station.poll(look, f"{code} is why", lambda: self.station.detail(task_id))
        return found

    def wait_for_receipt(self, task_id: str) -> None:
        """A worker has told that it holds the task."""

        def look() -> bool:
            return bool(self.station.detail(task_id)["task"]["reason"] == "received")

        self.station.poll(look, "its worker has told that it has it", lambda: self.station.detail(task_id))

    def wait_for_queue(self, **expected: Any) -> None:
        def look() -> bool:
            queues = {queue["name"]: queue for queue in self.station.get("/api/queues")["queues"]}
            return QUEUE in queues and expected.items() <= queues[QUEUE].items()

        self.station.poll(look, f"{QUEUE} is {expected}", lambda: self.station.get("/api/queues"))

    def wait_for_worker(self, **expected: Any) -> None:
        """The only one there is."""

        def look() -> bool:
            return any(expected.items() <= worker.items() for worker in self._workers())

        self.station.poll(look, f"the worker is {expected}", lambda: self.station.get("/api/workers"))

    def wait_for_load(self, *running: str) -> None:
        """The only worker runs these tasks, and has said what it costs."""

        def look() -> bool:
            for worker in self._workers():
                told = tuple(task["task_id"] for task in worker["running"])
                return told == running and worker["cpu"] is not None and worker["memory"] > 1_000_000
            return False

        self.station.poll(look, f"it runs {running}", lambda: self.station.get("/api/workers"))

    def _workers(self) -> list[dict[str, Any]]:
        """The only one, as soon as it is known."""
        workers: list[dict[str, Any]] = self.station.get("/api/workers")["workers"]
        assert len(workers) <= 1, workers
        return workers


@pytest.fixture
def fleet(broker_url: str, database: str, tmp_path: Path) -> Iterator[Fleet]:
    desk = Desk(broker_url, database, tmp_path)
    limits = {"signals.add": {"rate_limit": "1/h"}}
    settings = {"task_annotations": limits, "oracle_flush_timeout": FLUSH_SECONDS}
    desk.station.environment["SIGNALS_SETTINGS"] = json.dumps(settings)
    yield Fleet(desk)
    desk.stop()


def test_no_worker_then_one_then_none(fleet: Fleet) -> None:
    """A backlog that nobody consumes is called out, with the worker that did last."""
    first, second = (fleet.station.send("succeed") for _ in range(2))
    assert fleet.wait_for_code(first, "no_consumer")["last_worker"] is None
    fleet.wait_for_queue(depth=2, consumers=0, waiting=2, oldest_waiting_id=first, is_stranded=True)
    worker = fleet.worker()
    fleet.station.wait_for(second, "completed")
    fleet.wait_for_queue(depth=0, consumers=1, waiting=0, oldest_waiting_id=None, is_stranded=False)
    fleet.wait_for_worker(node=worker.node, state="alive", interruptible=True, concurrency=1)
    fleet.wait_for_worker(queues=[QUEUE], consuming=[QUEUE])
    worker.terminate()
    third = fleet.station.send("succeed")
    assert fleet.wait_for_code(third, "no_consumer")["last_worker"] == worker.node
    fleet.wait_for_queue(depth=1, consumers=0, waiting=1, is_stranded=True)
    fleet.wait_for_worker(node=worker.node, state="stopped")


def test_slots_rate_limit_and_eta(fleet: Fleet) -> None:
    """Why a task waits at a worker that has it."""
    worker = fleet.worker(options=["--prefetch-multiplier", "10"])
    later = fleet.station.send("succeed", countdown=LONG * 60)
    limited = [fleet.station.send("add", [1]) for _ in range(2)]
    running = fleet.station.send("sleep", LONG)
    fleet.station.wait_for(limited[0], "completed")
    fleet.station.wait_for(running, "in_progress")
    fleet.wait_for_load(running)
    behind = [fleet.station.send("succeed") for _ in range(2)]
    # the limited one is still there
    fleet.wait_for_code(behind[1], "slots_busy", workers=[worker.node], slots=1, ahead=2)
    held = fleet.wait_for_code(limited[1], "rate_limited")
    assert (held["worker"], held["rate_limit"]) == (worker.node, "1/h")
    eta = fleet.wait_for_code(later, "eta")
    assert eta["worker"] == worker.node
    assert LONG * 58 < eta["seconds"] <= LONG * 60
    fleet.wait_for_receipt(behind[1])  # what it has not told when it is killed, nobody knows
    worker.kill()
    gone = fleet.wait_for_code(behind[1], "holder_gone")
    assert (gone["worker"], gone["state"]) == (worker.node, "lost")


def test_a_pause(fleet: Fleet) -> None:
    """It is the reason as long as it lasts; the worker is there, and consumes nothing."""
    worker = fleet.worker()
    seq = fleet.desk.pause(QUEUE)
    fleet.desk.wait_for_report(QUEUE, seq, "paused")
    task_id = fleet.station.send("succeed")
    assert fleet.wait_for_code(task_id, "queue_paused")["by"] == "test"
    fleet.wait_for_queue(depth=1, consumers=0, waiting=1, is_stranded=False)
    fleet.wait_for_worker(node=worker.node, queues=[QUEUE], consuming=[])
    fleet.desk.resume(QUEUE)
    fleet.station.wait_for(task_id, "completed")
    assert fleet.reasons(task_id) == []
    fleet.wait_for_queue(depth=0, consumers=1, paused=None)
