"""Asking nodes over the broker, and what is answered where the database goes away in the middle of a command."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from oracle_celery import control, repetition
from oracle_celery.control import REPORTS_UNKNOWN, Control
from oracle_celery.database.control_facts import PauseCommand, RetryClaim, WorkerPauseReport
from oracle_celery.errors import BrokerUnavailable, DatabaseUnavailable
from oracle_celery.settings import Settings
from tests.control_commands import ADMIN
from tests.polling import eventually

PAUSE = PauseCommand(entry_id=1, seq=1, queues=("mail",), is_paused=True)
OBEYED = WorkerPauseReport(node="celery@one", worker_id="1", state="confirmed")


async def test_nobody_to_ask_asks_nobody() -> None:
    """An empty destination would be everybody."""
    assert await control.ping(None, set()) == set()


class BlinkingStore:
    """Promises and pauses hold; then, of each call, the first `away` find no database."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.calls: list[str] = []

    def claim_retry(self, actor: Any, task_id: str, new_id: str, **options: Any) -> RetryClaim:
        return RetryClaim(task_id=task_id, new_id=new_id, entry_id=1, envelope=b"", key_id=None)

    def pause(self, *arguments: Any) -> PauseCommand:
        return PAUSE

    def fail_retry(self, new_id: str, detail: str) -> None:
        self._write("fail")

    def confirm_retry(self, new_ids: list[str], traces: Any) -> None:
        self._write("confirm")

    def pause_reports(self, command: PauseCommand) -> list[WorkerPauseReport]:
        self._write("reports")
        return [OBEYED]

    def record_pause_outcomes(self, command: PauseCommand, reports: Any) -> None:
        self._write("outcomes")

    def _write(self, name: str) -> None:
        self.calls.append(name)
        if self.calls.count(name) <= self.away:
            raise DatabaseUnavailable(detail="for a moment")


class PretendedResender:
    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def __enter__(self) -> PretendedResender:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def resend(self, *arguments: Any) -> dict[str, str]:
        if self._error is not None:
            raise self._error
        return {}


def _control(store: BlinkingStore, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> Control:
    monkeypatch.setattr(repetition, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(Control, "resender", lambda self: PretendedResender(error))
    monkeypatch.setattr(Control, "ring", lambda self: None)
    return Control(Celery("shop", set_as_current=False), Settings.from_mapping({}), store)  # type: ignore[arg-type]


def test_a_retry_that_was_not_sent_is_noted_though_the_database_blinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its task were barred for ever. The answer is the broker's error."""
    store = BlinkingStore(3)
    with pytest.raises(BrokerUnavailable):
        _control(store, monkeypatch, BrokerUnavailable(detail="refused")).retry(ADMIN, "t")
    assert store.calls == ["fail"] * 4


def test_a_retry_that_was_not_sent_is_noted_behind_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database stays away for longer than anybody should wait."""
    monkeypatch.setattr(control, "NOTE_PATIENCE_SECONDS", 0.01)
    store = BlinkingStore(10**9)
    with pytest.raises(BrokerUnavailable):
        _control(store, monkeypatch, BrokerUnavailable(detail="refused")).retry(ADMIN, "t")
    store.away = 0
    noted = len(store.calls)
    eventually(lambda: len(store.calls) > noted, "it is written down")


def test_a_retry_that_was_sent_is_answered_though_the_database_blinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the new task's id: to ask for it once more would be refused."""
    store = BlinkingStore(3)
    assert _control(store, monkeypatch).retry(ADMIN, "t").new_task_id
    assert store.calls == ["confirm"] * 4


def test_a_pause_that_holds_is_answered_though_the_database_blinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the workers said is read a moment later; that it could not be noted is no error, others note it too."""
    store = BlinkingStore(1)
    answer = _control(store, monkeypatch).pause(ADMIN, "mail")
    assert (answer.workers, answer.note) == ([OBEYED], None)
    assert store.calls == ["reports", "reports", "outcomes"]


def test_a_pause_that_holds_is_answered_though_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a note that nobody knows what the workers say."""
    monkeypatch.setattr(control, "REPORT_PATIENCE_SECONDS", 0.1)
    answer = _control(BlinkingStore(10**9), monkeypatch).pause(ADMIN, "mail")
    assert (answer.is_paused, answer.workers, answer.note) == (True, [], REPORTS_UNKNOWN)
