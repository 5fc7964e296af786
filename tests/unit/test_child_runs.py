"""A pool child's runs are told once each, from around Celery's tracer where that is enough, else by signals."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task, signals
from celery.app import trace
from celery.exceptions import Ignore, Reject

from oracle_celery import Oracle
from oracle_celery.child_runs import TRACING, ChildRuns
from oracle_celery.journal import LOGS, TRANSITIONS, segments
from oracle_celery.task_logs import TaskLogHandler

RUN_SIGNALS = (signals.task_prerun, signals.task_success, signals.task_postrun)


class Afterwards(Task):
    """Does what a test wants once its success is stored, before and after it is told."""

    def on_success(self, *_: Any, **__: Any) -> None:
        if (action := self.request.__dict__.get("at_success")) is not None:
            action()

    def after_return(self, *_: Any, **__: Any) -> None:
        if (action := self.request.__dict__.get("afterwards")) is not None:
            action()


@pytest.fixture
def oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Oracle]:
    """Of an app whose tasks are run here as in a child of a prefork pool; nobody traces."""
    monkeypatch.delitem(sys.modules, TRACING, raising=False)
    for owner, name in (
        (trace, "build_tracer"),
        (trace, "send_success"),
        (trace.TraceInfo, "handle_ignore"),
        (trace.TraceInfo, "handle_reject"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # taken back afterwards
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(oracle_state_dir=str(tmp_path), oracle_log_lines_per_run=1, task_ignore_result=True)
    oracle = Oracle(app)
    for run in (pay, ignore, reject, fail, pay_eagerly, pay_again, talk):
        app.task(shared=False, name=run.__name__, bind=True, base=Afterwards)(run)
    app.finalize()
    oracle.become_worker("w@h")
    oracle.signals.has_main_process = True
    for name, task in app.tasks.items():
        task.__trace__ = trace.build_tracer(name, task, app.loader, "w@h", app=app)
    app.set_current()
    monkeypatch.setattr("oracle_celery.interruption.Interruption.install", lambda self: None)
    oracle.signals.on_pool_child_start(None)
    yield oracle
    for signal in RUN_SIGNALS:
        oracle.guest.disconnect(signal)
    oracle.stop()


def pay(self: Any) -> int:
    return 1


def ignore(self: Any) -> None:
    raise Ignore


def reject(self: Any) -> None:
    raise Reject("malformed", requeue=False)


def fail(self: Any) -> None:
    raise ValueError("no")


def pay_eagerly(self: Any) -> None:
    self.app.tasks["pay"].apply(task_id="within")


def pay_again(self: Any) -> None:
    self.app.send_task("pay", task_id=self.request.id)  # as Task.replace does
    raise Ignore


def talk(self: Any) -> int:
    self.app.oracle.log_handler.emit(SimpleNamespace())
    return 1


def run(oracle: Oracle, name: str, task_id: str = "t", **marks: Any) -> Any:
    """One task, as a pool's child runs it."""
    request = {"id": task_id, "task": name, "retries": 0, "delivery_info": {"exchange": "", "routing_key": "celery"}}
    request |= {"oracle_run_id": f"r-{task_id}", "oracle_run_at": time.monotonic_ns(), "hostname": "w@h"} | marks
    return oracle.app.tasks[name].__trace__(task_id, [], {}, request)


def told(oracle: Oracle) -> list[tuple[str, int, str | None]]:
    """(task id, status, reason) of everything in the journal, and nothing went wrong."""
    assert oracle.guest.failures == 0
    lines = [
        json.loads(line) for path in segments(oracle.folder, TRANSITIONS) for line in path.read_text().splitlines()[1:]
    ]
    return [(line["i"], line["s"], line.get("e")) for line in lines]


@contextlib.contextmanager
def letting_reject() -> Iterator[None]:
    """Behind a run's end a Reject leaves Celery's tracer; before 5.7 it was a failure of Celery's, with a warning."""
    with contextlib.suppress(Reject), warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        yield


def connected(oracle: Oracle) -> list[str]:
    """The signals of a run that call this Oracle."""
    own = f"oracle-{id(oracle.guest)}-"
    return [signal.name for signal in RUN_SIGNALS if any(key[0] == own + signal.name for key, _ in signal.receivers)]


def test_a_start_needs_no_signal(oracle: Oracle) -> None:
    """Started and completed, with result and runtime; of the signals of a run only that of success is needed."""
    assert run(oracle, "pay").retval == 1
    assert told(oracle) == [("t", 1, "started"), ("t", 2, None)]
    [path] = segments(oracle.folder, TRANSITIONS)
    line = json.loads(path.read_text().splitlines()[-1])
    assert (line["p"], line["v"]) == (1, "r-t")
    assert line["d"] >= 0
    assert connected(oracle) == ["task_success"]


def test_others_hear_of_a_success(oracle: Oracle) -> None:
    """Once, as ever, and Oracle tells it once."""
    heard: list[Any] = []

    def hear(sender: Any, result: Any = None, **_: Any) -> None:
        heard.append((sender.name, result))

    signals.task_success.connect(hear)
    try:
        run(oracle, "pay")
    finally:
        signals.task_success.disconnect(hear)
    assert heard == [("pay", 1)]
    assert told(oracle) == [("t", 1, "started"), ("t", 2, None)]


def test_failure_is_told_once(oracle: Oracle) -> None:
    """By its own signal."""
    run(oracle, "fail")
    assert told(oracle) == [("t", 1, "started"), ("t", 3, None)]


@pytest.mark.parametrize(("name", "status"), [("ignore", 2), ("reject", 3)])
def test_what_only_the_end_tells_is_told(oracle: Oracle, name: str, status: int) -> None:
    """And the next run is told from around its tracer again."""
    run(oracle, name)
    assert told(oracle) == [("t", 1, "started"), ("t", status, f"{name.removesuffix('e')}{'ed'}")]
    assert connected(oracle) == ["task_success"]


def test_a_replaced_task_goes_on(oracle: Oracle) -> None:
    """It is pending again, however it ends here."""
    run(oracle, "pay_again")
    assert told(oracle)[-1] == ("t", 0, "replaced")


def test_a_task_within_a_task_is_told(oracle: Oracle) -> None:
    """One that runs eagerly has no other way than the signals, and the one around it is told once as well."""
    run(oracle, "pay_eagerly")
    assert told(oracle) == [("t", 1, "started"), ("within", 1, "eager"), ("within", 2, None), ("t", 2, None)]
    run(oracle, "pay", "u")
    assert told(oracle)[-2:] == [("u", 1, "started"), ("u", 2, None)]


def test_signals_tell_where_tasks_are_traced(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that begin a run's span must have been called before ours."""
    run(oracle, "pay")
    monkeypatch.setitem(sys.modules, TRACING, ModuleType(TRACING))
    run(oracle, "pay", "u")
    assert told(oracle)[-2:] == [("u", 1, "started"), ("u", 2, None)]
    assert len(connected(oracle)) == len(RUN_SIGNALS)


def test_a_cancel_that_came_too_late_is_said(oracle: Oracle) -> None:
    """The task was told, and ended well all the same."""
    run(oracle, "pay", oracle_cancel_raised=True)
    assert told(oracle)[-1] == ("t", 2, "cancel_too_late")


def test_a_log_that_was_cut_off_says_so(oracle: Oracle) -> None:
    """The end of the run tells how many lines are missing."""
    handler = TaskLogHandler(oracle)
    oracle.log_handler = SimpleNamespace(  # type: ignore[attr-defined]
        emit=lambda _: [handler.emit(logging.makeLogRecord({"name": "pay", "msg": str(number)})) for number in range(8)]
    )
    run(oracle, "talk")
    assert told(oracle) == [("t", 1, "started"), ("t", 2, None)]
    [path] = segments(oracle.folder, LOGS)
    assert [json.loads(line).get("z") for line in path.read_text().splitlines()[1:]] == [None, 1, 2, 4, 7]


def test_what_happens_after_success_does_not_take_it_back(oracle: Oracle) -> None:
    """An eager task, lines that are left out, an escaped Reject: Celery has called the run a success by then."""
    handler = TaskLogHandler(oracle)

    def log() -> None:
        for number in range(3):
            handler.handle(logging.makeLogRecord({"name": "pay", "msg": str(number)}))

    def reject() -> None:
        raise Reject("no", requeue=False)

    def run_eagerly() -> None:
        oracle.app.tasks["pay"].apply(task_id="within")

    for number, action in enumerate((log, reject, run_eagerly)):
        with letting_reject():
            run(oracle, "pay", f"t{number}", afterwards=action)
        assert (f"t{number}", 2, None) in told(oracle)


@pytest.mark.parametrize("is_traced", [False, True])
@pytest.mark.parametrize(("name", "status", "error"), [("pay", 2, None), ("fail", 3, "ValueError")])
def test_a_handler_that_fails_behind_an_end_changes_nothing(
    oracle: Oracle, monkeypatch: pytest.MonkeyPatch, name: str, status: int, error: str | None, *, is_traced: bool
) -> None:
    """A success stays one, and a failure keeps its own error: Celery before 5.7 calls each of them a new failure."""
    if is_traced:
        monkeypatch.setitem(sys.modules, TRACING, ModuleType(TRACING))

    def fail_again() -> None:
        raise KeyError("in after_return")

    with letting_reject():
        run(oracle, name, afterwards=fail_again)
    assert told(oracle) == [("t", 1, "started"), ("t", status, None)]
    [path] = segments(oracle.folder, TRANSITIONS)
    assert json.loads(path.read_text().splitlines()[-1]).get("g") == error


@pytest.mark.parametrize("is_traced", [False, True])
def test_a_reject_that_leaves_the_tracer_ends_the_run(
    oracle: Oracle, monkeypatch: pytest.MonkeyPatch, *, is_traced: bool
) -> None:
    """One from ``on_success``: Celery has not called the run a success, and only its main process says more."""
    if is_traced:
        monkeypatch.setitem(sys.modules, TRACING, ModuleType(TRACING))

    def reject(*, requeue: bool) -> None:
        raise Reject("no", requeue=requeue)

    for task_id, requeue in (("gone", False), ("back", True)):
        with letting_reject():
            run(oracle, "pay", task_id, at_success=partial(reject, requeue=requeue))
    assert told(oracle) == [
        ("gone", 1, "started"),
        ("gone", 3, "rejected"),
        ("back", 1, "started"),
        ("back", 0, "requeued"),
    ]


def test_a_run_that_celery_does_not_run_is_no_success(oracle: Oracle) -> None:
    """Arguments that are none: Celery answers as if all were well, with what is wrong as the result."""
    request = {"id": "t", "task": "pay", "retries": 0, "delivery_info": {"exchange": "", "routing_key": "celery"}}
    request |= {"oracle_run_id": "r-t", "oracle_run_at": time.monotonic_ns(), "hostname": "w@h"}
    with pytest.warns(RuntimeWarning):
        oracle.app.tasks["pay"].__trace__("t", [], [], request)
    assert told(oracle) == [("t", 1, "started"), ("t", 3, "internal_error")]


@pytest.mark.parametrize("is_traced", [False, True])
def test_a_message_whose_task_had_succeeded_before_is_told(
    oracle: Oracle, monkeypatch: pytest.MonkeyPatch, is_traced: bool
) -> None:
    """No signal tells that Celery passes it over (``worker_deduplicate_successful_tasks``), traced or not."""
    monkeypatch.setattr(oracle.app.tasks["pay"], "__trace__", lambda *_: trace.trace_ok_t(None, None, None, None))
    oracle.child_runs = ChildRuns(oracle)
    oracle.child_runs.watch()
    if is_traced:
        monkeypatch.setitem(sys.modules, TRACING, ModuleType(TRACING))
    run(oracle, "pay")
    assert told(oracle)[-1] == ("t", 2, None)


def test_a_tracer_of_somebody_else_stays(oracle: Oracle) -> None:
    """One that was put around ours, also when signals tell from then on."""
    task, calls = oracle.app.tasks["pay"], []
    inner = task.__trace__

    def trace_theirs(*args: Any, **options: Any) -> Any:
        calls.append(args[0])
        return inner(*args, **options)

    task.__trace__ = trace_theirs
    oracle.app.tasks["fail"].apply(task_id="within")
    run(oracle, "pay")
    assert calls == ["t"]


def test_a_mistake_of_ours_changes_no_result(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither before nor after the task."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(oracle.signals, "tell_started", fail)
    monkeypatch.setattr(oracle.signals, "tell_success", fail)
    assert run(oracle, "pay").retval == 1
    assert oracle.guest.failures == 2
