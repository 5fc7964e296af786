"""An app that waits for its commits, and whose requests witness, at their acknowledgement, what PostgreSQL says."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psycopg
from celery import Celery, Task
from celery.worker.request import Request

from oracle_celery import Oracle

app = Celery("durable", broker=os.environ.get("DURABLE_BROKER", "memory://"))
app.conf.update(
    oracle_url=os.environ.get("DURABLE_DATABASE"),
    oracle_durability="committed",
    oracle_beat_interval=1.0,
    oracle_durability_timeout=float(os.environ.get("DURABLE_TIMEOUT", "30")),
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
)
Oracle(app)


class WitnessingRequest(Request):  # type: ignore[misc]  # Celery ships no types
    """Writes the task's row, as it is when the broker is told that the task is done, to a file."""

    def acknowledge(self) -> Any:
        with (
            psycopg.connect(os.environ["DURABLE_WITNESS_DATABASE"]) as connection,
            open(os.environ["DURABLE_WITNESS"], "a") as file,
        ):
            statuses = connection.execute(
                "SELECT oracle.status_word(status) FROM oracle.task_state_record WHERE task_id = %s", [self.id]
            ).fetchall()
            file.write(f"{self.id} {statuses[0][0] if statuses else 'unknown'}\n")
        return super().acknowledge()


class WitnessingTask(Task):  # type: ignore[misc]
    """A task whose acknowledgement is witnessed."""

    Request = WitnessingRequest


@app.task(shared=False, name="durable.succeed", base=WitnessingTask if os.environ.get("DURABLE_WITNESS") else Task)
def succeed() -> int:
    return 1


@app.task(shared=False, name="durable.fail", base=WitnessingTask if os.environ.get("DURABLE_WITNESS") else Task)
def fail() -> None:
    raise ValueError("broken")


@app.task(shared=False, bind=True, name="durable.work")
def work(self: Task, witness: str, seconds: float, fails: bool) -> None:
    """Writes its id to a file as the last thing it does."""
    time.sleep(seconds)
    with Path(witness).open("a") as file:
        file.write(f"{self.request.id}\n")
    if fails:
        raise ValueError("broken")
