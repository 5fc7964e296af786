"""Handlers are guests: whatever a signal brings, they raise nothing and keep quiet after the first mistake."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.exceptions import Reject, Retry
from celery.worker.request import Request as WorkerRequest

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


def lines(oracle: Oracle) -> list[dict[str, Any]]:
    """Everything in the journal."""
    return [
        json.loads(line) for path in segments(oracle.folder, TRANSITIONS) for line in path.read_text().splitlines()[1:]
    ]


def told(oracle: Oracle) -> list[tuple[str, str | None]]:
    """(task id, reason) of everything in the journal."""
    return [(line["i"], line.get("e")) for line in lines(oracle)]


def receive(oracle: Oracle, received: Any) -> None:
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


def hand_made(oracle: Oracle, **headers: Any) -> WorkerRequest:
    """What Celery makes of a message with as few headers as it takes: as its client for Node.js sends them."""
    message = SimpleNamespace(
        headers={"lang": "js", "id": "foreign", "task": "pay"} | headers,
        body=b"[[], {}, {}]",
        payload=[[], {}, {}],
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info=None,
        properties=None,
    )
    return WorkerRequest(message, app=oracle.app, task=oracle.app.tasks["pay"])


@pytest.mark.parametrize("retries", [None, 7, 10**30, -1, "three", [1], True])
def test_a_message_with_few_or_odd_headers_is_received(oracle: Oracle, retries: Any) -> None:
    """And ends: marks of a run, which only its worker gives, do not come with it."""
    marks = {"oracle_failed_outside": True, "oracle_started_at": "long ago", "oracle_span_told": True}
    received = hand_made(oracle, **marks, **({} if retries is None else {"retries": retries}), eta=None)
    receive(oracle, received)
    sender = pay_task(oracle)
    sender.request = SimpleNamespace(**received.request_dict)
    oracle.signals.on_failed(sender, task_id="foreign", exception=OSError("full"))
    assert told(oracle) == [("foreign", "received"), ("foreign", None)]
    assert [fact.get("r", 0) for fact in lines(oracle)] == [7 if retries == 7 else 0] * 2


class Nowhere(datetime.tzinfo):
    """A user's own, in a pickled message."""

    def utcoffset(self, moment: datetime.datetime | None) -> Any:
        raise LookupError


NOWHEN = datetime.datetime(2026, 1, 1, tzinfo=Nowhere())


def test_a_header_that_cannot_be_read_costs_only_itself(oracle: Oracle) -> None:
    """A moment of a time zone that raises takes neither the receipt nor what else the message says."""
    received = request("t", started=False, eta=NOWHEN, expires=60, root_id="root", group="g")
    del received.request_dict["oracle_sent"]
    receive(oracle, received)
    [fact] = lines(oracle)
    assert (fact["ro"], fact["gr"]) == ("root", "g")
    assert "h" not in fact
    assert fact["x"] > 0


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


@dataclasses.dataclass
class Own(Exception):
    """A field of it has the name of what Python keeps of every exception."""

    args: Any = None


class Guarded(Exception):
    """Whoever reads its arguments, its words or its class ends the process."""

    @property
    def args(self) -> Any:
        raise SystemExit("args")

    @property
    def __class__(self) -> Any:
        raise SystemExit("class")

    def __str__(self) -> str:
        raise SystemExit("words")


class Named(str):
    """Raises where it is put into a text."""

    def __format__(self, spec: str) -> str:
        raise RecursionError


class Shy(type):
    """Of classes that can neither be compared nor asked."""

    __hash__ = None

    def __eq__(cls, other: object) -> Any:
        raise MemoryError

    def __getattribute__(cls, name: str) -> Any:
        raise MemoryError(name)


#: Made where they are needed: pytest asks what it finds in a module.
ODD: dict[str, Callable[[], Exception]] = {
    "digits": lambda: ValueError(10**5000),
    "text": lambda: ValueError("x\x00\ud800", 2**63, -1.5),
    "field": Own,
    "properties": lambda: Guarded("in vain"),
    "names": lambda: Shy("Named", (Exception,), {"__qualname__": Named("Named"), "__module__": Named("m")})(Shy),
    "metaclass": lambda: Shy("Broken", (KeyError,), {"__str__": Shy, "__len__": None})(Shy("Item", (), {})),
}


def again(error: Exception, when: Any) -> Retry:
    """Celery itself would read what the error is."""
    retry = Retry(when=when)
    retry.exc = error
    return retry


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_exception_never_costs_the_end(oracle: Oracle, kind: str) -> None:
    """Whatever it is made of, its task has failed, is tried again or was rejected; it is not under way for ever."""
    error = ODD[kind]()
    for number, (tell, options) in enumerate(
        (
            (oracle.signals.on_failed, {"exception": error}),
            (oracle.signals.on_internal_error, {"exception": error}),
            (oracle.signals.on_retry, {"reason": again(error, 60)}),
            (oracle.signals.on_retry, {"reason": again(error, NOWHEN)}),
            (oracle.signals.on_postrun, {"state": "REJECTED", "retval": Reject(error)}),
            (oracle.signals.on_postrun, {"state": "IGNORED", "retval": error}),
        )
    ):
        run = request(f"t{number}", started=True, oracle_run_id=f"r{number}")
        context = pay_task(oracle, run).request
        options |= {"task_id": run.id, "request": context, "einfo": SimpleNamespace(traceback="Traceback: …")}
        oracle.guest.guarded(tell)(pay_task(oracle, run), **options)
    facts = lines(oracle)
    assert oracle.guest.failures == 0
    assert [fact["s"] for fact in facts] == [3, 3, 0, 0, 3, 2]
    assert len({fact["g"] for fact in facts[:5]}) == 1
    assert facts[0]["g"].rpartition(".")[2] == str.__str__(type.__getattribute__(type(error), "__qualname__"))
    assert facts[0]["b"] == "Traceback: …"


def test_an_odd_result_never_costs_the_end(oracle: Oracle) -> None:
    """Nor does a class that lies, or raises whatever it is asked; and it costs no value beside it."""
    shy = Shy("Item", (), {})
    for number, result in enumerate((Guarded(), shy, [shy(), Hostile(), 1], {Named("k"): 10**5000, "a": 1})):
        run = request(f"t{number}", started=True)
        oracle.guest.guarded(oracle.signals.on_succeeded)(pay_task(oracle, run), result=result, runtime=0.1)
    facts = lines(oracle)
    assert oracle.guest.failures == 0
    assert [fact["s"] for fact in facts] == [2] * 4
    assert facts[2]["p"] == [{"$type": f"{__name__}.Item"}, {"$type": f"{__name__}.Hostile"}, 1]
    assert facts[3]["p"] == {f"$type:{__name__}.Named": {"$type": "int", "bits": 16610}, "a": 1}


def test_an_unknown_task_is_told_whatever_its_name(oracle: Oracle) -> None:
    """Also one that no database and no UTF-8 can hold."""
    name = "x\x00\ud800" + "y" * 1_000_000
    oracle.guest.guarded(oracle.signals.on_unknown)(SimpleNamespace(app=oracle.app), name=name, id="t", message=None)
    [fact] = lines(oracle)
    assert fact["e"] == "unknown_task"
    assert fact["n"] in fact["f"]
    assert "\x00" not in fact["f"]
    assert len(fact["f"]) < 400
