"""The file broker between real processes: nothing lost, nothing doubled, control commands answered."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.exceptions import ChannelError

from oracle_celery import embedded_broker
from tests.local_processes import LocalWorker

MESSAGES_PER_PUBLISHER = 200
PUBLISHERS = 2
CONSUMERS = 2
DRAIN_SECONDS = 60

APP = """
import os, time
from celery import Celery
from oracle_celery import embedded_broker
app = Celery("files", broker=os.environ["BROKER"])
app.conf.update(worker_pool_putlocks=False, broker_connection_retry_on_startup=True)

@app.task(shared=False)
def touch(path):
    open(path, "x").close()

@app.task(shared=False)
def nap(seconds):
    time.sleep(seconds)
"""

_spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The address of an empty broker."""
    return embedded_broker.address(tmp_path / "a broker")


def _publish(url: str, first: int) -> None:
    with Connection(url) as connection:
        queue = connection.SimpleQueue("work")
        for number in range(first, first + MESSAGES_PER_PUBLISHER):
            queue.put(number)


def _consume(url: str, path: Path, total: int) -> None:
    """Appends every number it gets to `path` until all consumers together have `total`."""
    with Connection(url) as connection, path.open("a", buffering=1) as file:
        queue = connection.SimpleQueue("work")
        deadline = time.monotonic() + DRAIN_SECONDS
        while len(_numbers(path.parent)) < total and time.monotonic() < deadline:
            try:
                message = queue.get(timeout=0.1)
            except queue.Empty:
                continue
            file.write(f"{message.payload}\n")
            message.ack()


def _numbers(folder: Path) -> list[int]:
    return [int(line) for path in folder.glob("*.got") for line in path.read_text().split()]


def test_every_message_reaches_one_consumer(url: str, tmp_path: Path) -> None:
    """Publishers and consumers in processes of their own: each message arrives once, whole."""
    total = PUBLISHERS * MESSAGES_PER_PUBLISHER
    processes = [
        _spawn.Process(target=_publish, args=(url, number * MESSAGES_PER_PUBLISHER)) for number in range(PUBLISHERS)
    ]
    processes += [
        _spawn.Process(target=_consume, args=(url, tmp_path / f"{number}.got", total)) for number in range(CONSUMERS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)
    assert Counter(_numbers(tmp_path)) == Counter(range(total))


def test_fanout_copies_to_every_declared_queue(url: str) -> None:
    """A broadcast reaches each queue that is bound, and no queue that was deleted."""
    exchange = Exchange("news", type="fanout")
    with Connection(url) as connection:
        channel = connection.channel()
        queues = [Queue(name, exchange, channel=channel) for name in ("first", "second", "gone")]
        for queue in queues:
            queue.declare()
        queues[2].delete()
        connection.Producer(channel).publish("hello", exchange=exchange.name)
        assert [queue.get(no_ack=True).payload for queue in queues[:2]] == ["hello", "hello"]
        assert queues[2].get(no_ack=True) is None


def test_messages_come_in_order_and_purge_counts_them(url: str) -> None:
    """One publisher's messages keep their order, under queue names that are no file names; purge tells how many."""
    with Connection(url) as connection:
        queue = connection.SimpleQueue("orders/../ü?*")
        for number in range(5):
            queue.put(number)
        assert queue.qsize() == 5
        assert [queue.get().payload for _ in range(3)] == [0, 1, 2]
        assert queue.clear() == 2


def test_unacknowledged_messages_go_back_when_the_channel_closes(url: str) -> None:
    """A consumer that leaves in good order loses nothing that it had taken."""
    with Connection(url) as connection:
        queue = connection.SimpleQueue("work")
        queue.put("once")
        queue.get()
        connection.default_channel.close()
    with Connection(url) as connection:
        assert connection.SimpleQueue("work").get(timeout=30).payload == "once"


def test_address_without_a_folder_is_refused() -> None:
    """The broker's files never land somewhere by accident."""
    with Connection(f"{embedded_broker.SCHEME}://") as connection, pytest.raises(ChannelError, match="needs a folder"):
        connection.SimpleQueue("work").put(1)


def test_worker_runs_tasks_and_answers_control_while_busy(
    url: str, tmp_path: Path, start_worker: Callable[..., LocalWorker]
) -> None:
    """A real prefork worker takes every task once and answers a ping although all of its pool is busy."""
    (tmp_path / "filesapp.py").write_text(APP)
    worker = start_worker("filesapp", cwd=tmp_path, env={"BROKER": url, "PYTHONPATH": _path(tmp_path)})
    app: Any = Celery("files", broker=url, set_as_current=False)
    try:
        done = [tmp_path / f"done{number}" for number in range(100)]
        for path in done:
            app.send_task("filesapp.touch", (str(path),))
        worker.wait_until(lambda: all(path.exists() for path in done), "all tasks ran", DRAIN_SECONDS)
        for _ in range(6):
            app.send_task("filesapp.nap", (DRAIN_SECONDS,))
        worker.wait_for_log("filesapp.nap")
        assert app.control.ping(destination=[worker.node], timeout=DRAIN_SECONDS) == [{worker.node: {"ok": "pong"}}]
        active = app.control.inspect(destination=[worker.node], timeout=DRAIN_SECONDS).active_queues()
        assert [queue["name"] for queue in active[worker.node]] == ["celery"]
        assert "FileExistsError" not in worker.log
        worker.kill()  # its naps are long
    finally:
        app.close()


def _path(folder: Path) -> str:
    return os.pathsep.join([str(folder), str(Path(__file__).resolve().parents[2])])
