"""Cancelled tasks do not run, and running ones end, softly if they can: real workers, real brokers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from oracle_celery import embedded_broker
from tests.acceptance.desk import Desk
from tests.acceptance.station import DEADLINE
from tests.broker_fixtures import RabbitServer
from tests.local_processes import LocalWorker

QUEUE = "signals"
#: Seconds for a task that tidies up at once: on a busy machine its process may not run for long.
AMPLE_GRACE = 30.0
#: The same where the task is killed after it: the test lasts so long.
LEAST_GRACE = 5.0
#: Seconds after which what waits for its time would begin by itself: never while a test looks.
NEVER = 3600.0


@pytest.fixture
def desk(broker_url: str, database: str, tmp_path: Path) -> Iterator[Desk]:
    """On RabbitMQ and on Redis."""
    desk = Desk(broker_url, database, tmp_path)
    yield desk
    desk.stop()


@pytest.fixture
def rabbit_desk(rabbitmq_url: str, database: str, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(rabbitmq_url, database, tmp_path)
    yield desk
    desk.stop()


@pytest.fixture
def file_desk(database: str, tmp_path: Path) -> Iterator[Desk]:
    """On the embedded broker, whose workers have no event loop."""
    desk = Desk(embedded_broker.address(tmp_path / "broker"), database, tmp_path, worker_pool_putlocks=False)
    yield desk
    desk.stop()


def test_cancelled_while_no_worker_runs(desk: Desk) -> None:
    """Their bodies never run, not after a restart either, and whoever waits for a result is told."""
    cancelled = [desk.send("quick") for _ in range(20)]
    later = desk.send("quick", countdown=1)
    desk.cancel(*cancelled, later, ring=False)
    worker = desk.start_worker()
    for task_id in [*cancelled, later]:
        desk.wait_for_row(task_id, "cancelled", "cancelled")
        assert desk.result_state(task_id) == "REVOKED"
        desk.wait(lambda task_id=task_id: desk.is_kept(task_id), desk.said)
    worker.kill()
    worker.start()
    again = desk.send("quick", task_id=cancelled[0])
    other = desk.send("quick")
    desk.wait_for_line(f"ran {other}")
    desk.wait_for_row(again, "cancelled", "cancelled")
    assert desk.said() == [f"ran {other}"]


def test_cancelled_while_held(desk: Desk) -> None:
    """In a worker's hands: waiting for a slot, for its time, and for its rate; all are dropped at once."""
    desk.start_worker(concurrency=1)
    may_end = Path(desk.station.witness("may end"))
    running = desk.station.send("wait_for_file", str(may_end))
    held = [desk.send("quick") for _ in range(3)]
    later = desk.send("quick", countdown=NEVER)
    desk.wait_for_row(later, "pending", "received")
    desk.cancel(*held, later)
    for task_id in [*held, later]:
        desk.wait_for_row(task_id, "cancelled", "cancelled")
    # its process may not have come to say so before
    desk.wait(lambda: desk.row(running)[0] == "in_progress", lambda: desk.row(running))
    may_end.touch()
    desk.wait_for_row(running, "completed")
    assert desk.said() == []


def test_soft(desk: Desk) -> None:
    """The task tidies up; its result backend says REVOKED, its process goes on with the next task."""
    desk.set(oracle_cancel_grace=AMPLE_GRACE)
    worker = desk.start_worker(concurrency=1)
    task_id = desk.send("clean_up")
    desk.wait_for_line(f"began {task_id}")
    children = worker.pool_children()
    desk.cancel(task_id)
    desk.wait_for_row(task_id, "cancelled", "cancelled")
    assert f"cleaned up {task_id}" in desk.said()
    desk.wait(lambda: desk.result_state(task_id) == "REVOKED", lambda: desk.result_state(task_id))
    after = [desk.send("quick") for _ in range(4)]
    for quick in after:
        desk.wait_for_row(quick, "completed")
    assert worker.pool_children() == children
    desk.wait(lambda: desk.is_kept(task_id), lambda: task_id)
    # of what goes on for a second the message is kept meanwhile: on a busy machine one of them may
    assert not all(desk.is_kept(quick) for quick in after)


def test_hard(desk: Desk) -> None:
    """A task that goes on is killed after its grace, and nothing else."""
    desk.set(oracle_cancel_grace=LEAST_GRACE)
    worker = desk.start_worker(concurrency=2)
    other = desk.send("quick", LEAST_GRACE + 1.5)
    task_id = desk.send("refuse_to_end")
    desk.wait_for_line(f"began {task_id}")
    desk.cancel(task_id)
    desk.wait_for_line(f"refused {task_id}")
    desk.wait_for_row(task_id, "cancelled", "cancelled")
    assert desk.result_state(task_id) == "REVOKED"
    desk.wait(lambda: desk.is_kept(task_id), lambda: task_id)
    desk.wait_for_line(f"ran {other}")
    desk.wait(lambda: len(worker.pool_children()) == 2, worker.pool_children)


def test_stuck_in_c(rabbit_desk: Desk) -> None:
    """A task that no signal reaches is killed when it has been silent for long."""
    desk = rabbit_desk
    desk.start_worker(concurrency=1)
    task_id = desk.send("stick_in_c")
    desk.wait_for_line(f"began {task_id}")
    desk.cancel(task_id)
    desk.wait_for_row(task_id, "cancelled", "cancelled")


def test_too_late(rabbit_desk: Desk) -> None:
    """A task that ends by itself after it was told has completed, or failed; it says that the cancel came too late."""
    desk = rabbit_desk
    desk.set(oracle_cancel_grace=60.0)
    desk.start_worker()
    completed = desk.send("refuse_to_end", 0.1)
    failed = desk.send("fail_when_cancelled")
    for task_id in (completed, failed):
        desk.wait_for_line(f"began {task_id}")
    desk.cancel(completed, failed)
    desk.wait_for_row(completed, "completed", "cancel_too_late")
    desk.wait_for_row(failed, "failed", "cancel_too_late")


def test_no_other_task_is_hit(desk: Desk) -> None:
    """Short tasks are cancelled about when they end: those that follow in the same process run, whatever came of it."""
    desk.start_worker(concurrency=2)
    hit, spared = [], []
    for number in range(40):
        task_id = desk.send("clean_up", 0.02 * (number % 4))
        spared += [desk.send("quick", 0.01), desk.send("quick")]
        desk.wait_for_line(f"began {task_id}")
        desk.cancel(task_id)
        hit.append(task_id)
    for task_id in spared:
        desk.wait_for_row(task_id, "completed")
    for task_id in hit:
        desk.wait(lambda task_id=task_id: desk.row(task_id)[0] in ("completed", "cancelled"), lambda: None)
    lines = desk.said()
    for task_id in hit:
        assert desk.row(task_id)[0] == "cancelled" or f"cleaned up {task_id}" not in lines


def test_soft_time_limit_is_still_itself(rabbit_desk: Desk) -> None:
    """In a process that has been interrupted before, and with another signal's request lying about."""
    desk = rabbit_desk
    desk.start_worker(concurrency=1)
    task_id = desk.send("clean_up")
    desk.wait_for_line(f"began {task_id}")
    desk.cancel(task_id)
    desk.wait_for_row(task_id, "cancelled", "cancelled")
    limited = desk.station.send("overrun_softly")
    desk.wait_for_row(limited, "failed", "soft_time_limit")


def test_retry_of_a_cancelled_task(rabbit_desk: Desk) -> None:
    """Celery's own retry has the same id: its message is dropped."""
    desk = rabbit_desk
    desk.start_worker()
    task_id = desk.station.send("retry_once", desk.station.witness("once"), NEVER)
    desk.wait(lambda: Path(desk.station.witness("once")).exists(), lambda: None)
    desk.cancel(task_id)
    desk.wait_for_row(task_id, "cancelled", "cancelled")


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_cooperation(rabbit_desk: Desk, pool: str) -> None:
    """Pools that cannot interrupt: the task asks."""
    desk = rabbit_desk
    desk.start_worker(pool=pool)
    task_id = desk.send("ask_now_and_then")
    desk.wait_for_line(f"began {task_id}")
    desk.cancel(task_id)
    desk.wait_for_row(task_id, "cancelled", "cancelled")
    desk.wait(lambda: desk.result_state(task_id) == "REVOKED", lambda: desk.result_state(task_id))


def test_without_an_event_loop(file_desk: Desk) -> None:
    """Prefork on the embedded broker: held ones dropped, a running one interrupted, a stubborn one killed."""
    desk = file_desk
    desk.start_worker(concurrency=2)
    running, stubborn = desk.send("clean_up"), desk.send("refuse_to_end")
    desk.wait_for_line(f"began {running}")
    desk.wait_for_line(f"began {stubborn}")
    held = desk.send("quick")
    desk.cancel(held, running, stubborn)
    desk.wait_for_row(running, "cancelled", "cancelled")
    desk.wait_for_row(stubborn, "cancelled", "cancelled")
    after = desk.send("quick")
    desk.wait_for_line(f"ran {after}")
    desk.wait_for_row(held, "cancelled", "cancelled")
    assert f"ran {held}" not in desk.said()


def test_delivered_again(rabbit_desk: Desk, rabbitmq_server: RabbitServer) -> None:
    """While it runs, because its connection was lost: the run that is under way is ended, and whatever comes again."""
    desk = rabbit_desk
    desk.set(task_acks_late=True, oracle_cancel_grace=AMPLE_GRACE)
    desk.start_worker(concurrency=1)
    task_id = desk.send("clean_up")
    desk.wait_for_line(f"began {task_id}")
    rabbitmq_server.close_connections()
    desk.wait(lambda: "redelivered" in desk.reasons(task_id), lambda: desk.reasons(task_id))
    desk.cancel(task_id)
    desk.wait_for_line(f"cleaned up {task_id}")
    desk.wait_for_row(task_id, "cancelled", "cancelled")
    after = desk.send("quick")
    desk.wait_for_line(f"ran {after}")
    assert desk.said().count(f"began {task_id}") == desk.said().count(f"cleaned up {task_id}")


def test_worker_stopped_meanwhile(rabbit_desk: Desk) -> None:
    """A warm shutdown while a task is being ended: the worker leaves in time."""
    desk = rabbit_desk
    worker = desk.start_worker(concurrency=1)
    task_id = desk.send("clean_up")
    desk.wait_for_line(f"began {task_id}")
    os.kill(worker.pid, signal.SIGTERM)
    desk.cancel(task_id, ring=False)
    desk.wait_for_row(task_id, "cancelled", "cancelled")
    worker.wait()


def test_worker_stopped_before_it_heard(rabbit_desk: Desk) -> None:
    """The same where the worker has not read yet that its child has accepted the task."""
    desk = rabbit_desk
    options = {"env": desk.station.environment, "concurrency": 1}
    worker = LocalWorker("tests.acceptance.deaf_app", desk.station.folder / "deaf.log", **options)
    desk.station.workers.append(worker)
    worker.start()
    task_id = desk.send("clean_up", 10 * DEADLINE)
    desk.wait_for_line(f"began {task_id}")
    os.kill(worker.pid, signal.SIGTERM)
    desk.cancel(task_id, ring=False)
    desk.wait_for_row(task_id, "cancelled", "cancelled")  # it would go on to its end
    worker.wait()
