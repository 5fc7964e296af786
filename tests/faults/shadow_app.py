"""An app that tells everything about itself that a user could see, with Oracle or, where nothing says so, without.

What it sees goes to one file, a JSON line each: bodies with the request they were given, handlers of the task class,
handlers of Celery's own signals. Values that no run repeats (process ids, times, delivery tags) are left out.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

__all__ = ["app", "make_app"]

QUEUE = "shadow"
#: Of a request: what differs from run to run anyway.
UNREPEATABLE = {"hostname", "reply_to", "correlation_id", "delivery_info", "expires", "eta", "stamps", "origin"}
#: Names that Oracle adds to what a task may look at are its own; everything else must be as without it.
OWN_PREFIX = "oracle"

logger = logging.getLogger("shop")


class OddError(Exception):
    """Takes more than a message, and says something of its own."""

    def __init__(self, code: int, *, hint: str = "none") -> None:
        super().__init__(code, hint)
        self.code = code

    def __reduce__(self) -> Any:
        return (OddError, (self.code,))

    def __str__(self) -> str:
        return f"odd {self.code} «ё»"


def tell(*words: Any) -> None:
    """One line, in one write."""
    line = json.dumps(words, ensure_ascii=True, default=repr, sort_keys=True) + "\n"
    descriptor = os.open(os.environ["SHADOW_WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def request_of(task: Task) -> dict[str, Any]:
    """What a body finds in `self.request`."""
    seen = {
        name: value
        for name, value in vars(task.request).items()
        if name not in UNREPEATABLE and not name.startswith((OWN_PREFIX, "_"))
    }
    sent = dict(task.request.properties)
    seen["headers"] = _others(task.request.headers or {})
    sent["application_headers"] = _others(sent["application_headers"])
    seen["properties"] = {name: value for name, value in sent.items() if name not in UNREPEATABLE}
    seen["called_directly"], seen["is_eager"] = task.request.called_directly, task.request.is_eager
    seen["delivery_info"] = {"routing_key": task.request.delivery_info["routing_key"]}
    return seen


class Telling(Task):
    """Every handler that a task class may have."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        tell(task_id, "before_start", args, kwargs)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        tell(task_id, "on_success", retval, args, kwargs)

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        tell(task_id, "on_failure", repr(exc), type(exc).__name__, args, kwargs, _frames(einfo))

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        tell(task_id, "on_retry", repr(exc), args, kwargs, _frames(einfo))

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        tell(task_id, "after_return", status, repr(retval), args, kwargs)


def make_app() -> Celery:
    """With the tasks, and with Oracle where the environment names its database."""
    app = Celery("shadow", broker=os.environ["SHADOW_BROKER"], backend=os.environ["SHADOW_BACKEND"], task_cls=Telling)
    app.conf.update(
        task_default_queue=QUEUE,
        result_extended=True,
        task_track_started=True,
        task_send_sent_event=True,
        worker_send_task_events=True,
        worker_hijack_root_logger=True,
        broker_connection_retry_on_startup=True,
    )
    if database := os.environ.get("SHADOW_ORACLE"):
        from oracle_celery import Oracle

        app.conf.update(oracle_url=database, oracle_state_dir=os.environ["SHADOW_STATE"])
        Oracle(app)
    for run, options in TASKS:
        app.task(shared=False, name=run.__name__, bind=True, **options)(run)
    return app


def _others(headers: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in headers.items() if not name.startswith(OWN_PREFIX) and name not in UNREPEATABLE
    }


def _frames(einfo: Any) -> list[str]:
    """The functions that a traceback names: their lines are the same where their order is."""
    lines = str(einfo.traceback).splitlines() if einfo is not None else []
    return [line.rpartition(", in ")[2] for line in lines if ", in " in line] + lines[-1:]


# -- tasks -----------------------------------------------------------------------------------------------------------

TASKS: list[tuple[Any, dict[str, Any]]] = []


def task(**options: Any) -> Any:
    def register(run: Any) -> Any:
        TASKS.append((run, options))
        return run

    return register


def _is_first(task: Task) -> bool:
    """Of the deliveries and tries of one task, across processes."""
    try:
        Path(os.environ["SHADOW_WITNESS"] + f".{task.request.id}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@task()
def echo(self: Task, value: Any, *more: Any, **named: Any) -> Any:
    tell(self.request.id, "body", request_of(self), value, more, named)
    return value


@task()
def say(self: Task, words: str) -> int:
    print(words)
    print(words, file=sys.stderr)
    logger.warning("%s", words)
    logger.debug("%s", words)
    tell(self.request.id, "said", logger.getEffectiveLevel(), threading.current_thread() is threading.main_thread())
    return len(words)


@task()
def dice(self: Task, seed: int) -> list[float]:
    """The generator that everybody shares is nobody else's."""
    random.seed(seed)
    return [random.random() for _ in range(3)]


@task()
def fail(self: Task, kind: str) -> None:
    tell(self.request.id, "body", request_of(self))
    raise {"value": ValueError("no «such» account"), "odd": OddError(7, hint="x"), "key": KeyError(("a", 1))}[kind]


@task()
def unwritable(self: Task) -> Any:
    return object()


@task(max_retries=2)
def again(self: Task, times: int) -> str:
    tell(self.request.id, "body", request_of(self))
    if self.request.retries < times:
        raise self.retry(exc=ConnectionError("away"), countdown=0)
    return f"after {self.request.retries}"


@task(autoretry_for=(OSError,), max_retries=1, default_retry_delay=0, retry_backoff=False)
def autoretry(self: Task) -> None:
    tell(self.request.id, "body", request_of(self))
    raise OSError(28, "No space left on device")


@task()
def ignore(self: Task) -> None:
    self.update_state(state="SKIPPED", meta={"why": "ignored"})
    raise Ignore


@task(acks_late=True)
def reject(self: Task, *, requeue: bool) -> str:
    if _is_first(self):
        raise Reject("not now", requeue=requeue)
    return "delivered again"


@task()
def progress(self: Task, steps: int) -> int:
    for step in range(steps):
        self.update_state(state="PROGRESS", meta={"step": step})
        tell(self.request.id, "state", self.AsyncResult(self.request.id).state)
    return steps


@task()
def replace(self: Task, value: Any) -> Any:
    tell(self.request.id, "body", request_of(self))
    raise self.replace(self.app.tasks["echo"].s(value).set(task_id=f"{self.request.id}-replaced"))


@task()
def parent(self: Task, value: Any) -> str:
    options = {"task_id": f"{self.request.id}-child", "headers": {"x-shop": "7"}, "priority": 3}
    return str(self.app.tasks["echo"].apply_async((value,), {"named": True}, **options).id)


# The limits are long enough that a process which does not run for a moment has begun by then.
@task(soft_time_limit=2)
def overrun(self: Task, *, is_caught: bool) -> str:
    try:
        time.sleep(20)
    except SoftTimeLimitExceeded:
        if not is_caught:
            raise
    return "caught"


@task(time_limit=3)
def overrun_hard(self: Task) -> None:
    time.sleep(20)


@task(acks_late=True, reject_on_worker_lost=True)
def die_once(self: Task) -> str:
    if _is_first(self):
        os.kill(os.getpid(), 9)
    return "lives"


@task()
def die(self: Task) -> None:
    os.kill(os.getpid(), 9)


# -- what a user's own handlers of Celery's signals are told ---------------------------------------------------------


def _told(name: str) -> Any:
    def handler(sender: Any = None, **given: Any) -> None:
        task_id = given.get("task_id") or getattr(given.get("request"), "id", None)
        if task_id is None or str(getattr(sender, "name", sender)).startswith("celery."):
            return
        plain = {key: given[key] for key in ("args", "kwargs", "state", "terminated", "expired") if key in given}
        values = {key: repr(given[key]) for key in ("retval", "result", "exception", "reason") if key in given}
        if name == "task_revoked":  # its process is gone, or was never there: numbers of signals and the like
            values = {}
        tell(task_id, name, getattr(sender, "name", str(sender)), plain, values, sorted(given))

    return handler


SIGNALS = "prerun", "postrun", "success", "failure", "retry", "revoked", "received", "rejected"
for name in SIGNALS:
    getattr(signals, f"task_{name}").connect(_told(f"task_{name}"), weak=False)

app = make_app() if "SHADOW_BROKER" in os.environ else None
