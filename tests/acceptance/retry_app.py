"""The app whose tasks fail the first time and tell, the second time, exactly what they were given."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task
from kombu import Exchange, Queue

from oracle_celery import Oracle

QUEUES = (
    Queue("work", Exchange("work"), routing_key="work"),
    Queue("urgent", Exchange("urgent"), routing_key="urgent", queue_arguments={"x-max-priority": 10}),
    Queue("reports", Exchange("topics", type="topic"), routing_key="report.#"),
)


def make_app(broker: str, database: str, folder: str) -> Celery:
    """Runs of its tasks are told below `folder`, one file each."""
    app = Celery("retry", broker=broker, backend=f"file://{folder}", set_as_current=False)
    app.conf.update(
        task_queues=QUEUES,
        task_default_queue="work",
        task_default_exchange="work",
        task_default_routing_key="work",
        accept_content=["json", "pickle", "msgpack"],
        broker_connection_retry_on_startup=True,
        oracle_url=database,
        oracle_state_dir=f"{folder}/state",
        oracle_beat_interval=1.0,
    )
    Oracle(app)

    def stumble(self: Task, how: str, *args: Any, **kwargs: Any) -> Any:
        """Fails in a way of Celery's where it is no retry."""
        _tell(Path(folder), self, args, kwargs)
        if self.request.oracle_retry_of is not None:
            return args[0] if args and isinstance(args[0], str) else None  # of what a result backend can hold
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "overrun":
            time.sleep(30)
        raise ValueError(how)

    def follow(self: Task, *args: Any) -> Any:
        _tell(Path(folder), self, args, {})
        return args[0] if args else None

    app.task(shared=False, bind=True, name="retry.stumble")(stumble)
    app.task(shared=False, bind=True, name="retry.follow")(follow)
    app.finalize()
    return app


def _tell(folder: Path, task: Task, args: Any, kwargs: Any) -> None:
    request = task.request
    said = {
        "args": list(args),
        "kwargs": kwargs,
        "timelimit": list(request.timelimit or ()),
        "tenant": (request.headers or {}).get("tenant"),
        "route": [request.delivery_info[name] for name in ("exchange", "routing_key", "priority")],
        "root_id": request.root_id,
        "group": request.group,
        "retries": request.retries,
    }
    draft = folder / f".{request.id}"
    draft.write_bytes(pickle.dumps(said))
    draft.rename(folder / f"{request.id}.run")


def told(folder: Path, task_id: str) -> dict[str, Any] | None:
    """What the run of that task was given; None before it has."""
    path = folder / f"{task_id}.run"
    found: dict[str, Any] | None = pickle.loads(path.read_bytes()) if path.exists() else None
    return found


if os.environ.get("RETRY_BROKER_URL"):
    app = make_app(os.environ["RETRY_BROKER_URL"], os.environ["RETRY_DATABASE_URL"], os.environ["RETRY_FOLDER"])
    app.set_default()
