"""The same random tasks with Oracle and without: nothing that a user could observe differs.

Observed are: bodies and the requests they see, handlers of tasks and of Celery's signals with what they are told,
results with everything that a backend keeps of them, Celery's events, what the worker logs of tasks, and what is left
in the queue. With one pool process the order of all that happens in it is compared, too.
"""

from __future__ import annotations

import collections
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.faults.scale import scaled
from tests.local_processes import REPOSITORY, LocalWorker

MODULE = "tests.faults.shadow_app"
TASKS = scaled(50, 5_000)
#: Seconds for all tasks of one run.
RUN_SECONDS = scaled(120, 1_200)
#: Of a worker's log line about tasks: what no run repeats.
VARYING = re.compile(
    r"\d[\d.e-]*s\b|Job: \d+|\[\d{4}-[^\]]*\]|ForkPoolWorker-\d+|pid:?'?:? *\d+|0x[0-9a-f]+"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)
ABOUT_TASKS = re.compile(r"\bTask [a-z_]+\[|shop|printed|raised unexpected")
#: The parent of a chord's body, and what it takes from that one.
PARENT = re.compile(r"""("(?:parent|root)_id": )"'?header-\d'?\"""")
#: Of an event: what no run repeats.
VARYING_FIELDS = {"timestamp", "local_received", "clock", "pid", "hostname", "runtime", "utcoffset", "eta", "expires"}
#: The observer's own.
LAST = "observer-over"
ENDS = {"task-succeeded", "task-failed", "task-rejected", "task-revoked"}

pytestmark = pytest.mark.timeout(2 * RUN_SECONDS + 60)

#: (task, arguments, keyword arguments, options)
Order = tuple[str, list[Any], dict[str, Any], dict[str, Any]]

#: Whose order no run repeats: they end by a time or by a death, and the messages after them overtake.
TIMED: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("overrun", [], {"is_caught": True}),
    ("overrun", [], {"is_caught": False}),
    ("overrun_hard", [], {}),
    ("die_once", [], {}),
    ("die", [], {}),
    ("reject", [], {"requeue": True}),
]
ORDERLY: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("echo", [{"a": [1, 2.5, None, "ё\u2028", {"deep": [[[]]]}]}, "more"], {"named": "x"}),
    ("echo", ["long " * 2_000], {}),
    ("echo", [10**30], {"password": "hunter2"}),
    ("say", ["printed & logged «ё»"], {}),
    ("dice", [7], {}),
    ("fail", ["value"], {}),
    ("fail", ["odd"], {}),
    ("fail", ["key"], {}),
    ("unwritable", [], {}),
    ("again", [1], {}),
    ("again", [5], {}),
    ("autoretry", [], {}),
    ("ignore", [], {}),
    ("reject", [], {"requeue": False}),
    ("progress", [3], {}),
    ("replace", ["other"], {}),
    ("parent", [[1]], {}),
]


@pytest.mark.parametrize(("concurrency", "is_orderly"), [(1, True), (2, False)], ids=["in order", "with deaths"])
def test_nothing_that_a_user_sees_differs(
    rabbitmq_url: str, redis_url: str, database: str, tmp_path: Path, concurrency: int, is_orderly: bool
) -> None:
    """Not a value, not a word, not an order."""
    seed = int(os.environ.get("ORACLE_SEED", time.time()))
    print(f"ORACLE_SEED={seed}")
    orders = _orders(random.Random(seed), is_orderly)
    without, with_oracle = (
        _run(tmp_path / name, rabbitmq_url, redis_url, orders, concurrency, oracle)
        for name, oracle in (("without", None), ("with", database))
    )
    told = _same if is_orderly else _of_any_header
    assert with_oracle.left == without.left == 0
    assert {*with_oracle.sender_said.splitlines()} <= {*without.sender_said.splitlines()}
    for task_id in {*without.results, *with_oracle.results}:
        assert told(with_oracle.results[task_id]) == told(without.results[task_id]), task_id
    for task_id in {*without.seen, *with_oracle.seen}:
        one, other = (_sorted(told(_certain(task_id, run.seen[task_id]))) for run in (with_oracle, without))
        assert one == other, task_id
    for task_id in {*without.events, *with_oracle.events}:
        assert _sorted(told(with_oracle.events[task_id])) == _sorted(told(without.events[task_id])), task_id
    assert collections.Counter(with_oracle.log) == collections.Counter(without.log)
    if is_orderly:
        assert with_oracle.order == without.order
    assert len(without.results) >= TASKS  # and nothing was compared with nothing
    assert sum(map(len, without.seen.values())) > TASKS
    assert sum(map(len, without.events.values())) > TASKS
    assert len(without.log) > TASKS


class Run:
    """What was observed of one run."""

    def __init__(self) -> None:
        self.order: list[tuple[str, str]] = []
        self.seen: dict[str, list[Any]] = collections.defaultdict(list)
        self.events: dict[str, list[Any]] = collections.defaultdict(list)
        #: Tasks whose last event says that they are over. The listener's thread replaces it: others look at any time.
        self.ended: frozenset[str] = frozenset()
        self.results: dict[str, Any] = {}
        self.log: list[str] = []
        self.sender_said = ""
        self.left = -1


def _same(told: Any) -> Any:
    return told


def _of_any_header(told: Any) -> Any:
    """A chord's body has for its parent the task of its header that ended last, and that one's root for its own: where
    two run at once, either may be the last."""
    return json.loads(PARENT.sub(r'\1"header-*"', json.dumps(told)))


def _certain(task_id: str, seen: list[Any]) -> list[Any]:
    """Without what depends on whether a process gets a processor in time: one that overruns its hard limit is told to
    end and, a tenth of a second later, killed; in between Celery sends ``task_postrun``, or does not get to it."""
    return [one for one in seen if not (task_id.startswith("overrun_hard-") and one[0] == "task_postrun")]


def _sorted(told: list[Any]) -> list[Any]:
    """Several processes tell of one task, and a retry may run while its first run is being told."""
    return sorted(told, key=repr)


def _orders(dice: random.Random, is_orderly: bool) -> list[Order]:
    """Every kind at least once, then as it comes."""
    kinds = ORDERLY if is_orderly else [*ORDERLY, *TIMED]
    wanted = kinds + dice.choices(ORDERLY, k=TASKS - len(kinds))
    dice.shuffle(wanted)
    options: list[dict[str, Any]] = [{}, {"priority": 2}, {"headers": {"x-a": "1"}}, {"ignore_result": True}, {}, {}]
    return [(name, args, kwargs, dice.choice(options)) for name, args, kwargs in wanted]


def _run(folder: Path, broker: str, backend: str, orders: list[Order], concurrency: int, database: str | None) -> Run:
    folder.mkdir()
    environment = {
        "SHADOW_BROKER": broker,
        "SHADOW_BACKEND": backend,
        "SHADOW_WITNESS": str(folder / "witness"),
        "C_FORCE_ROOT": "1",
    }
    if database is not None:
        environment |= {"SHADOW_ORACLE": database, "SHADOW_STATE": str(folder / "state")}
    app = Celery("observer", broker=broker, backend=backend)
    app.conf.update(result_extended=True, task_default_queue="shadow")
    (folder / "orders").write_text(json.dumps(orders))
    run = Run()
    ids, run.sender_said = _send(folder / "orders", environment)
    worker = LocalWorker(MODULE, folder / "worker.log", concurrency=concurrency, env=environment, name="shadow")
    try:
        with _events(app, run):
            worker.start()
            worker.wait_until(lambda: not _unended(run, ids, folder / "witness"), "every task is over", RUN_SECONDS)
            worker.terminate()
    finally:
        worker.stop()
    for line in (folder / "witness").read_text().splitlines():
        task_id, what, *rest = json.loads(VARYING.sub("*", line))
        run.seen[task_id].append([what, *rest])
        if what != "task_received":  # told by the main process meanwhile
            run.order.append((task_id, what))
    for task_id in ids:
        meta = app.backend.get_task_meta(task_id)
        run.results[task_id] = {
            name: VARYING.sub("*", repr(value)) for name, value in meta.items() if name not in ("date_done", "worker")
        }
        app.backend.forget(task_id)
    run.log = [VARYING.sub("*", line) for line in worker.log.splitlines() if ABOUT_TASKS.search(line)]
    with app.connection_for_read() as connection:
        run.left = connection.default_channel.queue_declare("shadow", passive=True).message_count
    app.close()
    return run


def _send(orders: Path, environment: dict[str, str]) -> tuple[list[str], str]:
    """By a program of its own, as a web application would; the ids of all tasks, of canvases too, and what it said:
    Celery itself complains when results meet the interpreter's end."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.shadow_sender", str(orders)],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), VARYING.sub("*", done.stderr)


@contextmanager
def _events(app: Celery, run: Run) -> Iterator[None]:
    """Celery's own events, as a monitor would hear them."""

    def take(event: dict[str, Any]) -> None:
        if event["type"] == LAST:
            is_over.set()
        elif "uuid" in event and not str(event.get("name", "")).startswith("celery."):
            said = {
                name: VARYING.sub("*", value) if isinstance(value, str) else value
                for name, value in event.items()
                if name not in VARYING_FIELDS
            }
            run.events[event["uuid"]].append(said)
            task_id = {event["uuid"]}
            run.ended = run.ended | task_id if said["type"] in ENDS else run.ended - task_id

    listening, is_over = threading.Event(), threading.Event()

    def listen() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": take})
            with receiver.consumer_context() as (bound, _, _):
                listening.set()
                while not is_over.is_set():
                    try:
                        bound.drain_events(timeout=0.2)
                    except OSError:
                        bound.heartbeat_check()

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(30)
    try:
        yield
    finally:  # behind everything that was said on the way out
        with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
            dispatcher.send(LAST)
        thread.join()


def _unended(run: Run, ids: list[str], witness: Path) -> set[str]:
    """By their events; of an ignored and a replaced one there is none, and its own process says that it is over."""
    silent = {task_id for task_id in ids if task_id.startswith(("ignore-", "replace-"))}
    told = witness.read_text().rpartition("\n")[0].splitlines() if silent and witness.exists() else ()
    over = {said[0] for said in map(json.loads, told) if said[1] == "task_postrun"}
    return set(ids) - run.ended - (silent & over)
