"""Handlers are guests: whatever a signal brings, they raise nothing and keep quiet after the first mistake."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery

from oracle_celery import Oracle
from oracle_celery.journal import TRANSITIONS, segments
from oracle_celery.recorder import Recorder


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[Oracle]:
    """Of an app that is a worker here: it journals, and no recorder takes anything away."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.oracle_state_dir = str(tmp_path)
    app.task(shared=False, name="pay")(pay)
    oracle = Oracle(app)
    oracle.become_worker("w@h")
    yield oracle
    oracle.stop()


def pay() -> int:
    return 1


HANDLERS = [
    "on_before_publish",
    "on_published",
    "on_received",
    "on_started",
    "on_succeeded",
    "on_failed",
    "on_internal_error",
    "on_retry",
    "on_postrun",
    "on_revoked",
    "on_unknown",
    "on_pool_child_start",
]


class Hostile:
    """Raises at every touch."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("asked for its words")


GARBAGE: list[dict[str, Any]] = [
    {},
    {"request": None, "task_id": None, "headers": None, "body": None},
    {"request": Hostile(), "task_id": Hostile(), "headers": Hostile(), "body": Hostile(), "exception": Hostile()},
    {"request": SimpleNamespace(id=7), "task_id": 7, "headers": {"id": []}, "body": b"\xff", "reason": Hostile()},
    {"task_id": "t", "state": "REJECTED", "retval": Hostile(), "einfo": Hostile(), "id": "t", "message": Hostile()},
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("handler", HANDLERS)
def test_no_handler_raises(oracle: Oracle, handler: str, garbage: dict[str, Any]) -> None:
    """Whoever the sender is, known or not."""
    owner = oracle.signals if hasattr(oracle.signals, handler) else oracle.publishing
    guarded = oracle.guest.guarded(getattr(owner, handler))
    for sender in (None, "pay", oracle.app.tasks["pay"], SimpleNamespace(app=oracle.app), Hostile()):
        assert guarded(sender=sender, signal=None, **garbage) is None  # type: ignore[func-returns-value]


def test_mistakes_are_told_once(oracle: Oracle, caplog: pytest.LogCaptureFixture) -> None:
    """A million tasks must not write a million tracebacks."""
    guarded = oracle.guest.guarded(oracle.signals.on_started)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            guarded(sender=oracle.app.tasks["pay"])
    assert caplog.text.count("could not record something") == 1


def test_only_a_published_message_of_the_app_is_recorded(oracle: Oracle) -> None:
    """Events, another app's messages and Celery's own bookkeeping are not."""
    other = Celery("other", broker="memory://", set_as_current=False)
    other.send_task("pay")
    oracle.app.send_task("celery.chord_unlock")
    assert not segments(oracle.folder, TRANSITIONS)
    oracle.app.send_task("pay")
    assert segments(oracle.folder, TRANSITIONS)


def test_whoever_replaces_publishing_later_is_called(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing tools put their own method into Celery's class, and may come after Oracle."""
    called: list[str] = []
    monkeypatch.setattr(Celery, "send_task", lambda self, name, *args, **options: called.append(name))
    oracle.app.send_task("pay")
    assert called == ["pay"]


def test_switched_off_records_nothing(tmp_path: Path) -> None:
    """Not a file is made."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(oracle_enabled=False, oracle_state_dir=str(tmp_path))
    Oracle(app)
    app.send_task("pay")
    assert not list(tmp_path.iterdir())


def test_a_second_oracle_is_the_first(oracle: Oracle) -> None:
    """Enabled twice, an app records once."""
    assert Oracle(oracle.app) is oracle


def request(task_id: str, *, started: bool, **headers: Any) -> SimpleNamespace:
    """A worker's request, as much of it as the handlers read."""
    fields = {"id": task_id, "task": "pay", "retries": 0, "oracle_sent": True} | headers
    fields["delivery_info"] = {
        "exchange": "",
        "routing_key": "celery",
        "redelivered": headers.get("redelivered", False),
    }
    return Request(id=task_id, name="pay", request_dict=fields, time_start=1.0 if started else None)


class Request(SimpleNamespace):
    """Compared by identity, as Celery's are."""

    __hash__ = object.__hash__


def told(oracle: Oracle) -> list[tuple[str, str | None]]:
    """(task id, reason) of everything in the journal."""
    lines = [
        json.loads(line) for path in segments(oracle.folder, TRANSITIONS) for line in path.read_text().splitlines()[1:]
    ]
    return [(line["i"], line.get("e")) for line in lines]


def receive(oracle: Oracle, received: SimpleNamespace) -> None:
    oracle.signals.on_received(SimpleNamespace(app=oracle.app), request=received)


def test_a_recorder_that_did_not_start_is_not_kept(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks next gets one that has started, or the reason why there is none."""
    started: list[Recorder] = []

    def start(recorder: Recorder) -> None:
        if not started:
            started.append(recorder)
            raise RuntimeError("can't start new thread")
        started.append(recorder)

    monkeypatch.setattr(Recorder, "start", start)
    with pytest.raises(RuntimeError, match="new thread"):
        oracle.start_recorder()
    assert oracle.start_recorder() is oracle.start_recorder() is started[-1]
    assert len(started) == 2


def test_receipt_is_told_of_what_still_waits(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that has started by then has told of its receipt itself."""
    receive(oracle, request("waiting", started=False))
    receive(oracle, request("running", started=True))
    oracle.signals.tell_waiting()
    assert told(oracle) == []
    now = time.monotonic_ns()
    monkeypatch.setattr(time, "monotonic_ns", lambda: now + 10**9)
    oracle.signals.tell_waiting()
    oracle.signals.tell_waiting()
    assert told(oracle) == [("waiting", "received")]


def test_receipt_is_told_at_once_where_it_says_more(oracle: Oracle) -> None:
    """Of a redelivery, and of a message whose sender knows no Oracle."""
    receive(oracle, request("again", started=False, redelivered=True))
    strange = request("strange", started=False)
    del strange.request_dict["oracle_sent"]
    receive(oracle, strange)
    assert told(oracle) == [("again", "redelivered"), ("strange", "received")]


def pay_task(oracle: Oracle, received: SimpleNamespace | None = None) -> SimpleNamespace:
    """The sender of its signals: with the request that runs, or with none any more."""
    context = SimpleNamespace(id=None) if received is None else SimpleNamespace(**received.request_dict)
    return SimpleNamespace(app=oracle.app, name="pay", request=context)


def fail_outside(oracle: Oracle, received: SimpleNamespace) -> None:
    """Celery fails around its code, as when its result cannot be stored."""
    oracle.signals.on_internal_error(
        pay_task(oracle), task_id=received.id, request=received.request_dict, exception=OSError("full")
    )


def test_a_header_that_fails_around_its_code_fails_the_body(oracle: Oracle) -> None:
    """Once, although the failure's own signal comes after it, or never."""
    header = request("header", started=True, chord={"task": "sum", "options": {"task_id": "body"}})
    receive(oracle, header)
    fail_outside(oracle, header)
    oracle.signals.on_failed(pay_task(oracle), task_id="header", exception=OSError("full"))
    assert told(oracle) == [("header", "internal_error"), ("body", "chord_header_failed")]


def test_a_failure_around_the_code_is_told_once_though_others_start(oracle: Oracle) -> None:
    """Where runs share a process, and the result backend is asked between the two signals."""
    one, other = request("one", started=True), request("other", started=True)
    receive(oracle, one)
    receive(oracle, other)
    fail_outside(oracle, one)
    oracle.signals.on_started(pay_task(oracle, other), task_id="other")
    oracle.signals.on_failed(pay_task(oracle), task_id="one", exception=OSError("full"))
    assert told(oracle) == [("one", "internal_error"), ("other", "started")]


def test_of_which_run_a_lost_child_was_is_known(oracle: Oracle) -> None:
    """The gate says so where Celery does not; without either nothing is told: a hard time limit is told again."""
    oracle.signals.has_main_process = True
    lost = request("lost", started=True)
    receive(oracle, lost)
    oracle.signals.on_failed(pay_task(oracle), task_id="lost", exception=TimeLimitExceeded(1))
    assert told(oracle) == []
    with oracle.signals.speaking_of(lost, None):
        oracle.signals.on_failed(pay_task(oracle), task_id="lost", exception=WorkerLostError("killed"))
    oracle.signals.on_failed(pay_task(oracle), task_id="lost", exception=WorkerLostError("killed"))
    assert told(oracle) == [("lost", "process_lost")]


@pytest.mark.parametrize("error", [WorkerLostError("killed"), SystemExit(3)])
def test_a_lost_child_is_told_though_its_failure_cannot_be_stored(oracle: Oracle, error: BaseException) -> None:
    """The result backend is away, or does not take such an error: Celery raises, and sends no signal."""
    oracle.signals.has_main_process = True
    lost = request("lost", started=True)
    lost.task = pay_task(oracle)
    receive(oracle, lost)
    with pytest.raises(OSError, match="full"), oracle.signals.speaking_of(lost, SimpleNamespace(exception=error)):
        raise OSError("full")
    assert told(oracle) == [("lost", "process_lost")]

    def fail_late() -> None:
        oracle.signals.on_failed(pay_task(oracle), task_id="lost", exception=error)
        raise OSError("late")

    with pytest.raises(OSError, match="late"), oracle.signals.speaking_of(lost, SimpleNamespace(exception=error)):
        fail_late()
    assert told(oracle) == [("lost", "process_lost")] * 2


def test_a_greenlets_hard_time_limit_is_told_once(oracle: Oracle) -> None:
    """By the gate where Celery sends no signal, which it does from 5.7 on."""
    runs = [request("old", started=True), request("new", started=True)]
    for run in runs:
        run.task = pay_task(oracle)
        receive(oracle, run)
    oracle.signals.on_failed(pay_task(oracle), task_id="new", exception=TimeLimitExceeded(1))
    for run in runs:
        oracle.signals.tell_time_limit(run)
    assert told(oracle) == [("new", "time_limit"), ("old", "time_limit")]


def test_a_handler_that_fails_behind_a_failure_is_not_the_error(oracle: Oracle) -> None:
    """Celery before 5.7 fails such a run a second time, with the handler's own error."""
    run = request("one", started=True)
    receive(oracle, run)
    oracle.signals.on_failed(pay_task(oracle, run), task_id="one", exception=ValueError("the real one"))
    fail_outside(oracle, run)
    oracle.signals.on_failed(pay_task(oracle), task_id="one", exception=OSError("full"))
    assert told(oracle) == [("one", None)]


def test_a_handler_that_fails_behind_a_success_does_not_take_it_back(oracle: Oracle) -> None:
    """Also where others have succeeded meanwhile."""
    runs = [request("one", started=True), request("other", started=True)]
    for run in runs:
        receive(oracle, run)
        oracle.signals.on_succeeded(pay_task(oracle, run), result=1, runtime=0.1)
    fail_outside(oracle, runs[0])
    oracle.signals.on_failed(pay_task(oracle), task_id="one", exception=OSError("full"))
    assert [reason for _, reason in told(oracle)] == [None, None]
