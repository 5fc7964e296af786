"""``oracle_durability = "committed"``: a whole node dies, its disk with it, again and again, while tasks run.

What was acknowledged is told by the broker alone: of all that was sent, what it does not hand out any more.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from celery import Celery
from kombu import Connection

from tests.faults.scale import scaled
from tests.local_processes import LocalWorker
from tests.polling import eventually

MODULE = "tests.integration.durability_app"
QUEUE = "celery"
ROUNDS = scaled(3, 150)
#: Tasks that wait at the beginning of a round, and the longest that one takes, in seconds.
TASKS = 150
LONGEST_TASK = 0.02
#: Seconds of work before the node dies, at most.
LONGEST_LIFE = 1.0
SEED = random.randrange(2**32)

pytestmark = pytest.mark.timeout(60 + ROUNDS * 20)


class Broker:
    """Sends, and tells what is not acknowledged."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: set[str] = set()
        self._app = Celery("sender", broker=url, set_as_current=False)

    def send(self, dice: random.Random, count: int, witness: Path) -> None:
        for _ in range(count):
            arguments = [str(witness), dice.uniform(0, LONGEST_TASK), dice.random() < 0.3]
            self.sent.add(self._app.send_task("durable.work", arguments, ignore_result=True).id)

    def waiting(self) -> set[str]:
        """Ids of the messages that it hands out to us; all go back."""
        with Connection(self.url) as connection:
            channel = connection.channel()
            found = set()
            while (message := channel.basic_get(QUEUE)) is not None:
                found.add(message.headers["id"])
        return found

    def close(self) -> None:
        self._app.close()


@pytest.fixture
def broker(rabbitmq_url: str) -> Iterator[Broker]:
    broker = Broker(rabbitmq_url)
    yield broker
    broker.close()


def test_what_was_acknowledged_is_final(broker: Broker, database: str, tmp_path: Path) -> None:
    """Whenever a node dies, each task whose message is gone has its final status, and the true one."""
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    witness, state = tmp_path / "witness", tmp_path / "state"
    witness.touch()
    worker = LocalWorker(
        MODULE,
        tmp_path / "worker.log",
        name="node",
        concurrency=2,
        options=["--prefetch-multiplier", "4"],
        env={
            "C_FORCE_ROOT": "1",
            "XDG_STATE_HOME": str(state),
            "DURABLE_BROKER": broker.url,
            "DURABLE_DATABASE": database,
        },
        warm=True,
    )
    acknowledged = rounds = 0
    try:
        while rounds < ROUNDS or acknowledged <= ROUNDS:  # where all nodes died at once, nothing is proven yet
            rounds += 1
            broker.send(dice, TASKS - len(broker.waiting()) if broker.sent else TASKS, witness)
            begun = _lines(witness)
            worker.start()
            eventually(lambda begun=begun: _lines(witness) > begun, "the node works")
            time.sleep(dice.uniform(0, LONGEST_LIFE))
            worker.kill_whole()
            eventually(lambda: _is_removed(state), "the disk is gone")

            def lost() -> set[str]:
                """Neither with the broker, which may not have noticed yet, nor final."""
                return broker.sent - broker.waiting() - _final(database)

            eventually(lambda: not lost(), f"no acknowledged task lacks its final status (seed {SEED})")
            acknowledged = len(broker.sent) - len(broker.waiting())
    finally:
        worker.stop()
    print(f"{rounds} deaths of a node: {acknowledged} of {len(broker.sent)} acknowledged, all of them final")
    assert _final(database) <= set(witness.read_text().split())
    assert "has not confirmed" not in worker.log_path.read_text()


def _is_removed(folder: Path) -> bool:
    """Its last process may be in the middle of making a file there while it dies."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _lines(path: Path) -> int:
    return path.read_text().count("\n")


def _final(database: str) -> set[str]:
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT task_id FROM oracle.task_state_record WHERE status > 1").fetchall()
    return {task_id for (task_id,) in rows}
