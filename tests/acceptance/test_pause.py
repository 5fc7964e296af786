"""Paused queues rest: nothing of them starts once a worker has confirmed the pause, whatever is restarted meanwhile."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from oracle_celery import embedded_broker
from tests.acceptance.desk import Desk
from tests.broker_fixtures import RabbitServer

QUEUE = "signals"
OTHER = "others"
#: Seconds in which a task that may start would have started.
A_WHILE = 0.7
#: Two readings of the database's clock by those who cannot run at once may differ so much.
CLOCK_ERROR = datetime.timedelta(seconds=0.5)
#: Only a worker that does not answer takes so long.
REPLY_SECONDS = 30.0


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


def lines_of(desk: Desk, task_ids: list[str]) -> list[str]:
    return [line for line in desk.said() if line.removeprefix("ran ") in task_ids]


def started_when_paused(desk: Desk, queue: str, task_ids: list[str]) -> int:
    """Of these, after the newest confirmation."""
    found: Any = desk.connection.execute(
        "SELECT count(*) FROM oracle.task_transition AS t, oracle.pause_report AS r"
        " WHERE r.queue = %s AND t.rank = 20 AND t.task_id = ANY (%s) AND t.at > r.confirmed_at",
        [queue, task_ids],
    ).fetchone()
    return int(found[0])


def test_paused_and_resumed(desk: Desk) -> None:
    """Under load: after the confirmation nothing of the queue starts, another queue goes on, a resume starts it all."""
    desk.start_worker(concurrency=2, queues=[QUEUE, OTHER])
    paused = [desk.send("quick", 0.2) for _ in range(30)]
    may_end = Path(desk.station.witness("may end"))
    for _ in range(2):  # whatever is slow, some tasks still wait when their queue is paused
        desk.station.send("wait_for_file", str(may_end))
    paused += [desk.send("quick", 0.2) for _ in range(20)]
    desk.wait(lambda: len(desk.said()) > 4, desk.said)
    seq = desk.pause(QUEUE)
    desk.wait_for_report(QUEUE, seq, "paused")
    may_end.touch()
    ran = len(lines_of(desk, paused))
    running = set(desk.said())
    other = desk.send("quick", queue=OTHER)
    desk.wait_for_line(f"ran {other}")
    desk.stays(lambda: len(lines_of(desk, paused)) <= ran + 2, A_WHILE)  # what ran at that moment has ended
    assert started_when_paused(desk, QUEUE, paused) == 0
    assert len(running) < len(paused)
    desk.wait(lambda: any("queue_paused" in desk.reasons(task_id) for task_id in paused), desk.said)
    seq = desk.resume(QUEUE)
    desk.wait(lambda: len(lines_of(desk, paused)) == len(paused), lambda: len(desk.said()))
    assert len(set(desk.said())) == len(desk.said())
    desk.wait_for_report(QUEUE, seq, "consuming")


def test_paused_before_the_worker_starts(desk: Desk) -> None:
    """And after it was killed and started again; `add_consumer` does not change it."""
    task_id = desk.send("quick")
    seq = desk.pause(QUEUE)
    worker = desk.start_worker(queues=[QUEUE, OTHER])
    desk.wait_for_report(QUEUE, seq, "paused")
    desk.station.app.control.add_consumer(QUEUE, reply=True, destination=[worker.node], timeout=REPLY_SECONDS)
    desk.station.app.control.add_consumer("more", reply=True, destination=[worker.node], timeout=REPLY_SECONDS)
    other = desk.send("quick", queue="more")
    desk.wait_for_line(f"ran {other}")
    worker.kill()
    worker.start()
    desk.wait_for_report(QUEUE, seq, "paused")
    # what was killed may not have acknowledged that one, which then runs again
    desk.stays(lambda: set(desk.said()) == {f"ran {other}"}, A_WHILE)
    desk.resume(QUEUE)
    desk.wait_for_line(f"ran {task_id}")


def test_all_queues(rabbit_desk: Desk) -> None:
    """One word for all, and a newer one for a single queue."""
    desk = rabbit_desk
    desk.start_worker(queues=[QUEUE, OTHER])
    seq = desk.pause("")
    desk.wait_for_report(QUEUE, seq, "paused")
    desk.wait_for_report(OTHER, seq, "paused")
    held, resumed = desk.send("quick"), desk.send("quick", queue=OTHER)
    desk.wait_for_report(OTHER, desk.resume(OTHER), "consuming")
    desk.wait_for_line(f"ran {resumed}")
    desk.stays(lambda: desk.said() == [f"ran {resumed}"], A_WHILE)
    desk.resume("")
    desk.wait_for_line(f"ran {held}")


def test_connection_lost(rabbit_desk: Desk, rabbitmq_server: RabbitServer) -> None:
    """The pause outlives the connection; a queue that was added to the paused ones meanwhile is consumed on resume."""
    desk = rabbit_desk
    worker = desk.start_worker(queues=[OTHER])
    desk.wait_for_report(OTHER, desk.pause(OTHER), "paused")
    seq = desk.pause(QUEUE)
    desk.wait_for_seq()
    desk.station.app.control.add_consumer(QUEUE, reply=True, destination=[worker.node], timeout=REPLY_SECONDS)
    desk.wait_for_report(QUEUE, seq, "paused")
    rabbitmq_server.close_connections()
    worker.wait_for_log("Connection to broker lost")
    task_ids = [desk.send("quick"), desk.send("quick", queue=OTHER)]
    desk.wait(lambda: worker.log.count("Connected to amqp") > 1, lambda: worker.log)
    desk.stays(lambda: desk.said() == [], A_WHILE)
    desk.resume(QUEUE)
    desk.wait_for_line(f"ran {task_ids[0]}")
    desk.resume(OTHER)
    desk.wait_for_line(f"ran {task_ids[1]}")


def test_until(rabbit_desk: Desk) -> None:
    """The worker ends the pause by itself."""
    desk = rabbit_desk
    desk.start_worker()
    desk.wait_for_report(QUEUE, desk.pause(QUEUE), "paused")
    task_id = desk.send("quick")
    seq = desk.pause(QUEUE, seconds=2.0)  # it ends whenever the worker comes to know of it
    desk.wait_for_line(f"ran {task_id}")
    desk.wait_for_row(task_id, "completed")
    early = desk.connection.execute(
        "SELECT p.until - t.started_at FROM oracle.queue_pause AS p, oracle.task_state_record AS t"
        " WHERE p.queue = %s AND t.task_id = %s",
        [QUEUE, task_id],
    ).fetchone()
    assert early is not None
    assert early[0] < CLOCK_ERROR
    desk.wait_for_report(QUEUE, seq, "consuming")


def test_waiting_for_its_rate(rabbit_desk: Desk) -> None:
    """Limited to one a minute: of those that wait the cancelled one is dropped, the other goes back."""
    desk = rabbit_desk
    worker = desk.start_worker()
    limit = {"reply": True, "destination": [worker.node], "timeout": REPLY_SECONDS}
    desk.station.app.control.rate_limit("signals.quick", "1/m", **limit)
    task_ids = [desk.send("quick") for _ in range(3)]
    desk.wait_for_line(f"ran {task_ids[0]}")
    desk.wait_for_row(task_ids[2], "pending", "received")
    desk.cancel(task_ids[1])
    desk.wait_for_row(task_ids[1], "cancelled", "cancelled")
    desk.wait_for_report(QUEUE, desk.pause(QUEUE), "paused")
    desk.wait_for_row(task_ids[2], "pending", "queue_paused")
    desk.wait(
        lambda: desk.worker_says("rate_limits") == {"signals.quick": "1/m"}, lambda: desk.worker_says("rate_limits")
    )
    assert desk.worker_says("interruptible")
    assert desk.worker_says("consuming") == []
    assert desk.said() == [f"ran {task_ids[0]}"]


def test_waiting_for_its_time(rabbit_desk: Desk) -> None:
    """A task with an ETA goes back when its time has come in a paused queue; it runs after the resume."""
    desk = rabbit_desk
    desk.start_worker()
    task_id = desk.send("quick", countdown=8)
    desk.wait_for_row(task_id, "pending", "received")
    desk.wait_for_report(QUEUE, desk.pause(QUEUE), "paused")
    desk.wait_for_row(task_id, "pending", "queue_paused")
    desk.stays(lambda: desk.said() == [], A_WHILE)
    desk.resume(QUEUE)
    desk.wait_for_line(f"ran {task_id}")


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_other_pools(rabbit_desk: Desk, pool: str) -> None:
    """What is beyond the pool's concurrency is held where it can be given back, and the pool stays busy."""
    desk = rabbit_desk
    desk.start_worker(pool=pool, concurrency=2)
    task_ids = [desk.send("quick", 0.5) for _ in range(24)]
    desk.wait(lambda: len(desk.said()) >= 2, desk.said)
    desk.wait_for_report(QUEUE, desk.pause(QUEUE), "paused")
    ran = len(desk.said())
    desk.stays(lambda: len(desk.said()) <= ran + 2, A_WHILE)
    assert len(desk.said()) < len(task_ids)
    desk.resume(QUEUE)
    desk.wait(lambda: len(desk.said()) == len(task_ids), desk.said)
    assert _most_at_once(desk, task_ids) == 2


def _most_at_once(desk: Desk, task_ids: list[str]) -> int:
    found: Any = desk.connection.execute(
        "SELECT max(n) FROM (SELECT (SELECT count(*) FROM oracle.task_state_record AS b"
        " WHERE b.task_id = ANY (%(ids)s) AND b.started_at <= a.started_at AND b.finished_at > a.started_at) AS n"
        " FROM oracle.task_state_record AS a WHERE a.task_id = ANY (%(ids)s)) AS x",
        {"ids": task_ids},
    ).fetchone()
    return int(found[0])


def test_without_an_event_loop(file_desk: Desk) -> None:
    """Prefork on the embedded broker: held ones go back, both processes stay busy before and after."""
    desk = file_desk
    desk.start_worker(concurrency=2)
    task_ids = [desk.send("quick", 0.5) for _ in range(24)]
    desk.wait(lambda: len(desk.said()) >= 2, desk.said)
    desk.wait_for_report(QUEUE, desk.pause(QUEUE), "paused")
    ran = len(desk.said())
    desk.stays(lambda: len(desk.said()) <= ran + 2, A_WHILE)
    assert len(desk.said()) < len(task_ids)
    desk.resume(QUEUE)
    desk.wait(lambda: len(desk.said()) == len(task_ids), desk.said)
    assert _most_at_once(desk, task_ids) == 2


def test_queues_of_a_topic_exchange(rabbit_desk: Desk) -> None:
    """What a message's key does not tell: of two queues that get it one is paused, and what the worker holds of that
    one does not start after the confirmation."""
    desk = rabbit_desk
    topic = {"exchange": "shop", "exchange_type": "topic"}
    desk.set(task_queues={"feed": {**topic, "routing_key": "feed.#"}, "audit": {**topic, "routing_key": "#"}})
    desk.start_worker(concurrency=1)
    desk.wait_for_report("feed", desk.pause("feed"), "paused")
    copied = desk.send("quick", exchange="shop", routing_key="feed.import")
    desk.wait_for_line(f"ran {copied}")
    desk.wait_for_report("feed", desk.resume("feed"), "consuming")
    desk.wait(lambda: desk.said() == [f"ran {copied}"] * 2, desk.said)
    desk.wait_for_report("audit", desk.pause("audit"), "paused")
    task_ids = [desk.send("quick", 0.5, exchange="shop", routing_key="feed.import") for _ in range(4)]
    desk.wait(lambda: desk.row(task_ids[0])[0] in ("in_progress", "completed"), lambda: desk.row(task_ids[0]))
    desk.wait_for_report("feed", desk.pause("feed"), "paused")
    ran = len(desk.said())
    desk.stays(lambda: len(desk.said()) <= ran + 1, 2 * A_WHILE)
    assert started_when_paused(desk, "feed", task_ids) == 0
    desk.resume("feed")
    desk.wait(lambda: len(lines_of(desk, task_ids)) == len(task_ids), desk.said)


def test_a_queue_that_is_another_now(rabbit_desk: Desk) -> None:
    """The broker refuses to resume it: the worker says why, consumes its other queues, and resumes it once it can."""
    desk = rabbit_desk
    worker = desk.start_worker(queues=[QUEUE, OTHER])
    desk.wait_for_report(QUEUE, desk.pause(QUEUE), "paused")
    with Connection(desk.station.broker) as connection:
        channel = connection.default_channel
        channel.queue_delete(QUEUE)
        channel.queue_declare(QUEUE, durable=True, auto_delete=False, arguments={"x-max-length": 9})
        desk.resume(QUEUE)
        worker.wait_for_log(f"Oracle cannot resume {QUEUE}")
        task_id = desk.send("quick", queue=OTHER)
        desk.wait_for_line(f"ran {task_id}")
        channel.queue_delete(QUEUE)
    desk.wait_for_report(QUEUE, desk.pause(QUEUE), "paused")  # else it is tried again ten seconds later
    desk.wait_for_report(QUEUE, desk.resume(QUEUE), "consuming")
    task_id = desk.send("quick")
    desk.wait_for_line(f"ran {task_id}")


def test_database_away_at_start(rabbit_desk: Desk) -> None:
    """The file says what was paused and cancelled: a worker that starts while PostgreSQL is away keeps to it."""
    desk = rabbit_desk
    worker = desk.start_worker(queues=[QUEUE, OTHER])
    cancelled = desk.send("quick", queue=OTHER, countdown=60)
    desk.cancel(cancelled)
    desk.wait_for_row(cancelled, "cancelled", "cancelled")
    desk.wait_for_report(QUEUE, desk.pause(QUEUE), "paused")
    worker.terminate()
    with desk.database_away():
        task_id, again = desk.send("quick"), desk.send("quick", queue=OTHER, task_id=cancelled)
        worker.start()
        other = desk.send("quick", queue=OTHER)
        desk.wait_for_line(f"ran {other}")
        desk.wait(lambda: desk.result_state(again) == "REVOKED", lambda: desk.result_state(again))
        desk.stays(lambda: desk.said() == [f"ran {other}"], A_WHILE)
    desk.resume(QUEUE)
    desk.wait_for_line(f"ran {task_id}")
