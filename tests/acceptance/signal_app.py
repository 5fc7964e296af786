"""The app whose tasks end in every way that Celery knows; a worker loads it with its addresses in the environment."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore, Reject
from celery.utils.log import get_task_logger

import oracle_celery
import oracle_celery.embedded_broker  # its scheme is known from then on
from oracle_celery import Oracle, TaskCancelled, raise_if_cancelled

logger = get_task_logger(__name__)


def make_app(broker: str, database: str, state_dir: str, backend: str | None = None) -> Celery:
    """An app with Oracle and all tasks of this module."""
    app = Celery("signals", broker=broker, backend=backend, set_as_current=False)
    app.conf.update(
        oracle_url=database,
        oracle_state_dir=state_dir,
        oracle_beat_interval=1.0,
        oracle_worker_timeout=3.0,
        task_default_queue="signals",
        broker_connection_retry_on_startup=True,
        worker_proc_alive_timeout=60.0,  # Celery kills a child that has not begun by then: on a busy machine, 4 are few
        worker_prefetch_multiplier=4,
        task_acks_late=False,
        result_expires=600,
    )
    app.conf.update(json.loads(os.environ.get("SIGNALS_SETTINGS", "{}")))
    Oracle(app)
    for task in TASKS:
        options = dict(task["options"])
        app.task(shared=False, name=f"signals.{task['run'].__name__}", **options)(task["run"])
    app.finalize()
    return app


TASKS: list[dict[str, Any]] = []


def task(**options: Any) -> Any:
    """Registers a function as a task of every app made here."""

    def register(run: Any) -> Any:
        TASKS.append({"run": run, "options": options})
        return run

    return register


def first_time(witness: str) -> bool:
    """True for the first caller with that file, across processes."""
    try:
        Path(witness).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@task()
def succeed(value: Any = None) -> Any:
    logger.info("succeeding with %s", value)
    return value


@task(bind=True)
def talk(self: Task, may_end: str) -> None:
    """Prints, logs, tells its progress in both ways, and ends when there is a file of that name."""
    print("printed to stdout")
    print("printed to stderr", file=sys.stderr)
    logger.warning("logged by the task's logger")
    logging.getLogger("shop.bank").error("logged by a library's logger")
    self.update_state(state="CHARGING", meta={"done": 1, "total": 4})
    oracle_celery.progress(3, 4, "nearly there")
    while not Path(may_end).exists():
        time.sleep(0.05)
    for number in range(20):
        logger.info("line %d", number)


@task()
def fail(message: str = "broken") -> None:
    raise ValueError(message)


@task(ignore_result=True)
def fail_with_digits() -> None:
    """More of them than Python writes out."""
    raise ValueError(10**5000)


@task(bind=True, ignore_result=True)
def fail_and_tell(self: Task, path: str) -> None:
    """Writes its id to a file and fails."""
    with Path(path).open("a") as file:
        file.write(f"{self.request.id}\n")
    raise ValueError("broken")


@task(bind=True, max_retries=1, default_retry_delay=0)
def retry_once(self: Task, witness: str, countdown: float = 0.1) -> str:
    if first_time(witness):
        raise self.retry(exc=ConnectionError("gateway away"), countdown=countdown)
    return "second try"


@task(bind=True, max_retries=1)
def retry_in_vain(self: Task) -> None:
    raise self.retry(exc=ConnectionError("gateway away"), countdown=0)


@task()
def ignore() -> None:
    raise Ignore


@task(acks_late=True)
def reject() -> None:
    raise Reject("malformed order", requeue=False)


@task(acks_late=True)
def reject_and_requeue(witness: str) -> str:
    if first_time(witness):
        raise Reject("not now", requeue=True)
    return "second delivery"


@task(soft_time_limit=1)
def overrun_softly() -> None:
    time.sleep(30)


@task(time_limit=1)
def overrun() -> None:
    time.sleep(30)


@task()
def lose_the_child() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task(acks_late=True, reject_on_worker_lost=True)
def lose_the_child_once(witness: str) -> str:
    if first_time(witness):
        os.kill(os.getpid(), signal.SIGKILL)
    return "second delivery"


class EndsWithItsChild(Task):  # type: ignore[misc]  # Celery ships no types
    """Its process dies behind the stored result and before the signal of success."""

    abstract = True

    def on_success(self, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@task(base=EndsWithItsChild)
def lose_the_child_behind_the_result() -> str:
    return "stored"


@task()
def lose_the_results(folder: str) -> str:
    """Nothing can be stored there any more."""
    Path(folder).rename(f"{folder}-gone")
    return "never stored"


class FailingAfterwards(Task):
    """As people write it: what tidies up behind a task may fail too."""

    def after_return(self, *_: Any) -> None:
        raise KeyError("in after_return")


@task(base=FailingAfterwards)
def stumble_afterwards(is_good: bool) -> str:
    if not is_good:
        raise ValueError("the real one")
    return "good"


@task()
def leave() -> None:
    sys.exit(3)


@task()
def sleep(seconds: float, witness: str | None = None) -> float:
    if witness:
        Path(witness).touch()
    time.sleep(seconds)
    return seconds


@task(acks_late=True)
def sleep_late(seconds: float, witness: str | None = None) -> float:
    if witness:
        Path(witness).touch()
    time.sleep(seconds)
    return seconds


@task()
def wait_for_file(may_end: str) -> None:
    """Ends when there is a file of that name."""
    while not Path(may_end).exists():
        time.sleep(0.05)


@task(acks_late=True)
def wait_late_for_file(may_end: str) -> None:
    """The same; its message is acknowledged at its end."""
    while not Path(may_end).exists():
        time.sleep(0.05)


@task(bind=True)
def spawn(self: Task, value: Any) -> str:
    return str(self.app.signature("signals.succeed", args=(value,)).apply_async())


@task(bind=True)
def replace(self: Task, value: Any) -> None:
    raise self.replace(self.app.signature("signals.succeed", args=(value,)))


@task()
def add(numbers: Any, more: int = 0) -> int:
    return sum(numbers) if isinstance(numbers, list) else numbers + more


@task(bind=True)
def run_eagerly(self: Task, value: Any) -> str:
    return str(self.app.tasks["signals.succeed"].apply(args=(value,)).id)


class Unprintable:
    """A result that must not be asked for its text."""

    def __repr__(self) -> str:
        with Path(os.environ["SIGNALS_WITNESS_DIR"], "repr-was-called").open("a") as file:
            file.write("asked\n")
        return "asked"


@task(ignore_result=True)
def return_unprintable() -> Unprintable:
    return Unprintable()


@task(bind=True)
def witness(self: Task, path: str) -> None:
    """Writes its id to a file as the last thing it does."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"{self.request.id}\n".encode())
    finally:
        os.close(descriptor)


@task(bind=True)
def chatter(self: Task, path: str, lines: int, length: int) -> None:
    """Logs much, and writes its id to a file as the last thing it does."""
    for number in range(lines):
        logger.warning("line %d %s", number, "x" * length)
    note(path, self.request.id)


@task(bind=True, acks_late=True, reject_on_worker_lost=True)
def survive(self: Task, path: str, seconds: float = 0.0) -> str:
    """Comes again until it has come to its end: writes its id when it begins, and as the last thing it does."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"began {self.request.id} {os.getpid()}\n".encode())
        time.sleep(seconds)
        os.write(descriptor, f"ended {self.request.id} {os.getpid()}\n".encode())
    finally:
        os.close(descriptor)
    return "whole"


@task(bind=True)
def stamp(self: Task, path: str, seconds: float = 0.0) -> None:
    """Writes its id, its queue and the time when it starts, and again when it ends."""
    queue = self.request.delivery_info["routing_key"]
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{self.request.id} {queue} started {time.time()}\n".encode())
        time.sleep(seconds)
        os.write(descriptor, f"{self.request.id} {queue} ended {time.time()}\n".encode())
    finally:
        os.close(descriptor)


@task(bind=True, acks_late=True)
def stamp_late(self: Task, path: str, seconds: float = 60.0, may_end: str = "") -> None:
    """As `stamp`; its message is acknowledged at its end, and it asks now and then whether it has been cancelled, or
    whether there is a file `may_end`."""
    note(path, f"{self.request.id} {self.request.delivery_info['routing_key']} started {time.time()}")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not (may_end and Path(may_end).exists()):
        raise_if_cancelled()
        time.sleep(0.02)
    note(path, f"{self.request.id} {self.request.delivery_info['routing_key']} ended {time.time()}")


@task()
def log_lines(count: int) -> None:
    for number in range(count):
        logger.warning("line %d", number)


def note(path: str, line: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{line}\n")


@task(bind=True, autoretry_for=(Exception,), max_retries=3, default_retry_delay=0)
def clean_up(self: Task, path: str, seconds: float = 60) -> str:
    """Waits, and tidies up when it is cancelled."""
    note(path, f"began {self.request.id}")
    try:
        time.sleep(seconds)
    except TaskCancelled:
        note(path, f"cleaned up {self.request.id}")
        raise
    return "slept"


@task(bind=True)
def refuse_to_end(self: Task, path: str, seconds: float = 60) -> str:
    """Is told that it has been cancelled, and goes on for so long."""
    note(path, f"began {self.request.id}")
    ends_at = time.monotonic() + 60
    while (left := ends_at - time.monotonic()) > 0:
        try:
            time.sleep(left)
        except TaskCancelled:
            note(path, f"refused {self.request.id}")
            ends_at = time.monotonic() + seconds
    return "to the end"


@task(bind=True)
def fail_when_cancelled(self: Task, path: str) -> None:
    """Ends with an error of its own."""
    note(path, f"began {self.request.id}")
    try:
        time.sleep(60)
    except TaskCancelled:
        raise ValueError("no more") from None


@task(bind=True)
def stick_in_c(self: Task, path: str) -> None:
    """Never comes back to Python."""
    note(path, f"began {self.request.id}")
    sum(range(10**12))


@task(bind=True)
def ask_now_and_then(self: Task, path: str, seconds: float = 60) -> str:
    """Asks whether it has been cancelled."""
    note(path, f"began {self.request.id}")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        raise_if_cancelled()
        time.sleep(0.02)
    return "never asked to end"


@task(bind=True)
def quick(self: Task, path: str, seconds: float = 0.0) -> None:
    time.sleep(seconds)
    note(path, f"ran {self.request.id}")


if os.environ.get("SIGNALS_BROKER_URL"):
    app = make_app(
        os.environ["SIGNALS_BROKER_URL"],
        os.environ["SIGNALS_DATABASE_URL"],
        os.environ["SIGNALS_STATE_DIR"],
        os.environ.get("SIGNALS_RESULT_BACKEND"),
    )
    app.set_default()
