"""Whose process is killed, and whose is not: the questions go to this process, whose handler answers like a child."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import celery
import msgspec
import pytest
from celery.concurrency.asynpool import SCHED_STRATEGY_FAIR
from celery.worker import state

from oracle_celery import canceller
from oracle_celery.canceller import Pursuit, forget_answers
from oracle_celery.interruption import (
    FOREIGN,
    INTERRUPT,
    LATER,
    RAISE,
    RAISED,
    Answer,
    InterruptRequest,
    answer_path,
    request_path,
    write_atomically,
)
from oracle_celery.run import RUN_ID
from tests.polling import eventually

SECONDS = 60.0


class PretendedRequest:
    """Celery's, of a run that it believes to be under way."""

    id = "1"
    request_dict = {RUN_ID: "run"}  # noqa: RUF012
    _already_revoked = False
    app = message = None

    def __init__(self) -> None:
        self.worker_pid = os.getpid()
        self.is_killed = False
        state.active_requests.add(self)

    def terminate(self, *_: Any, **__: Any) -> None:
        self.is_killed = True
        state.active_requests.discard(self)


class Child:
    """This process in the place of a pool's child."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: list[str] = []  # to one question after another; then it says nothing any more
        self.asked: list[str] = []

    def on_signal(self, *_: Any) -> None:
        asked = msgspec.json.decode(request_path(self.folder, os.getpid()).read_bytes(), type=InterruptRequest)
        self.asked.append(asked.action)
        if self.answers:
            answer = self.answers.pop(0)
            write_atomically(answer_path(self.folder, os.getpid()), Answer(asked.number, answer))


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """Patience is short here."""
    for name in ("REPEAT_SECONDS", "SILENCE_SECONDS", "ABSENCE_SECONDS"):
        monkeypatch.setattr(canceller, name, 0.1)
    child = Child(tmp_path)
    before = signal.signal(INTERRUPT, child.on_signal)
    yield child
    signal.signal(INTERRUPT, before)
    state.active_requests.clear()


@pytest.fixture
def request_of_a_run() -> PretendedRequest:
    return PretendedRequest()


def pursue(
    child: Child, request: PretendedRequest, *, grace: float = 0.0, restarts: int = 0, strategy: int | None = None
) -> Pursuit:
    oracle = SimpleNamespace(
        folder=child.folder,
        settings=SimpleNamespace(cancel_grace=grace),
        keeper=SimpleNamespace(keep=lambda *_: None),
        guest=SimpleNamespace(count_failure=lambda: pytest.fail("a mistake")),
    )
    pool = SimpleNamespace(_pool=[SimpleNamespace(pid=os.getpid())], sched_strategy=strategy)
    consumer = SimpleNamespace(restart_count=restarts, call_soon=lambda call: call())
    worker = SimpleNamespace(hub=object(), pool=SimpleNamespace(_pool=pool), consumer=consumer)
    return Pursuit(oracle, worker, request)  # type: ignore[arg-type]


def step_until(pursuit: Pursuit, is_so: Callable[[], bool]) -> None:
    def look() -> bool:
        if not pursuit.is_over:
            pursuit.step()
        return is_so()

    eventually(look, "the pursuit is there", SECONDS)


@pytest.fixture(autouse=True)
def _no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canceller, "queue_of", lambda _: None)


def test_a_run_that_has_ended_unheard(child: Child, request_of_a_run: PretendedRequest) -> None:
    """Celery never hears of it: the child runs something else for so long that the run is over, and is left alone."""
    child.answers = [FOREIGN] * 1000
    pursuit = pursue(child, request_of_a_run, strategy=SCHED_STRATEGY_FAIR)
    step_until(pursuit, lambda: pursuit.is_over)
    assert not request_of_a_run.is_killed


def test_silence_behind_a_foreign_answer(child: Child, request_of_a_run: PretendedRequest) -> None:
    """It can hear, and what it does not answer from is another run."""
    child.answers = [LATER, FOREIGN]
    pursuit = pursue(child, request_of_a_run)
    step_until(pursuit, lambda: pursuit.is_over)
    assert not request_of_a_run.is_killed


@pytest.mark.parametrize("answers", [[], [RAISED]])
def test_silence_where_celery_has_lost_sight(
    child: Child, request_of_a_run: PretendedRequest, answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 5.7, once the broker was lost: another run may be silent by now, also behind an answer of the first."""
    monkeypatch.setattr(canceller, "FORGETS_CHILDREN", True)
    child.answers = answers
    pursuit = pursue(child, request_of_a_run, grace=0.1, restarts=1, strategy=SCHED_STRATEGY_FAIR)
    step_until(pursuit, lambda: pursuit.is_over)
    assert not request_of_a_run.is_killed


@pytest.mark.parametrize("answers", [[], [LATER]])
def test_silence_elsewhere(child: Child, request_of_a_run: PretendedRequest, answers: list[str]) -> None:
    """A child that has no other task is stuck, and its end is brought about."""
    child.answers = answers
    step_until(pursue(child, request_of_a_run, strategy=SCHED_STRATEGY_FAIR), lambda: request_of_a_run.is_killed)


def test_which_celery_loses_sight() -> None:
    """Newer ones go on knowing who is busy."""
    assert (celery.VERSION < (5, 7)) == canceller.FORGETS_CHILDREN


def test_a_question_that_cannot_be_written(child: Child, request_of_a_run: PretendedRequest) -> None:
    """It is asked once it can be, softly first."""
    child.folder = child.folder / "gone"
    pursuit = pursue(child, request_of_a_run, grace=60.0)
    with pytest.raises(FileNotFoundError):
        pursuit.step()
    child.folder.mkdir()
    step_until(pursuit, lambda: bool(child.asked))
    assert child.asked == [RAISE]


def test_answers_that_cannot_be_removed(tmp_path: Path) -> None:
    """A worker starts nevertheless, and the others go."""
    (tmp_path / "interrupt.1.answer").mkdir()
    (tmp_path / "interrupt.2.answer").touch()
    forget_answers(SimpleNamespace(folder=tmp_path))  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["interrupt.1.answer"]
