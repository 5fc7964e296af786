"""The app whose tasks send others in every way there is."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task

from oracle_celery import Oracle

KEY = "a key of thirty-two bytes or more"


def make_app(broker: str, database: str, folder: str, key: str | None = KEY) -> Celery:
    """With a key, as its worker has it, or without, as an attacker."""
    app = Celery("owned", broker=broker, backend=f"file://{folder}", set_as_current=False)
    app.conf.update(
        task_default_queue="owned",
        broker_connection_retry_on_startup=True,
        oracle_url=database,
        oracle_state_dir=f"{folder}/state",
        oracle_beat_interval=1.0,
        oracle_owner_key=key,
        oracle_owner="tests.acceptance.owned_app.decide",
    )
    Oracle(app)
    for run in (succeed, fail, fail_once, spawn, spawn_eagerly, replace, overrun):
        app.task(shared=False, bind=True, name=f"owned.{run.__name__}", max_retries=3)(run)
    app.finalize()
    return app


def decide(task_name: str, headers: Any) -> str | None:
    """Some tasks are the night shift's; about others it is of no help at all."""
    tenant = headers.get("tenant")
    if tenant == "broken":
        raise RuntimeError(task_name)
    return None if tenant is None else f"shift of {tenant}"


def succeed(self: Task, *args: Any) -> int:
    return len(args)


def fail(self: Task, *args: Any) -> None:
    raise ValueError("broken")


def fail_once(self: Task, *args: Any) -> None:
    if self.request.retries == 0:
        raise self.retry(countdown=0)


def spawn(self: Task, *args: Any) -> None:
    self.app.tasks["owned.succeed"].apply_async(args)


def spawn_eagerly(self: Task, *args: Any) -> None:
    self.app.tasks["owned.spawn"].apply()


def replace(self: Task, *args: Any) -> None:
    raise self.replace(self.app.signature("owned.spawn"))


def overrun(self: Task, *args: Any) -> None:
    time.sleep(60)


if os.environ.get("OWNED_BROKER_URL"):
    app = make_app(os.environ["OWNED_BROKER_URL"], os.environ["OWNED_DATABASE_URL"], os.environ["OWNED_FOLDER"])
    app.set_default()
    Path(os.environ["OWNED_FOLDER"]).mkdir(exist_ok=True)
