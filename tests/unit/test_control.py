"""Asking nodes over the broker, with an app that only pretends to have one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from oracle_celery import control
from oracle_celery.settings import Settings

DEADLINE_SECONDS = 60.0


class PretendedApp:
    """Answers for some nodes; remembers how it was asked."""

    def __init__(self, replies: Any) -> None:
        self.control = self
        self.asked: list[Any] = []
        self.thread = threading.current_thread()
        self._replies = replies

    def ping(self, **options: Any) -> Any:
        self.asked.append(options)
        self.thread = threading.current_thread()
        if isinstance(self._replies, Exception):
            raise self._replies
        return self._replies


async def test_only_those_who_answer_are_told() -> None:
    """Asked by name, because a call to everybody takes the whole timeout; off the loop, because it blocks."""
    app = PretendedApp([{"a@x": {"ok": "pong"}}, {"b@x": {"error": "busy"}}])
    assert await control.ping(app, {"b@x", "a@x", "c@x"}, timeout=2.0) == {"a@x"}
    assert app.asked == [{"destination": ["a@x", "b@x", "c@x"], "timeout": 2.0}]
    assert app.thread is not threading.current_thread()


async def test_no_replies_at_all() -> None:
    """Celery gives None where nobody answered."""
    assert await control.ping(PretendedApp(None), {"a@x"}) == set()


async def test_nobody_to_ask_asks_nobody() -> None:
    """An empty destination would be everybody."""
    app = PretendedApp([{"a@x": {"ok": "pong"}}])
    assert await control.ping(app, set()) == set()
    assert not app.asked


async def test_a_broker_that_is_away_is_an_error() -> None:
    """Silence because nobody could be asked is not silence."""
    with pytest.raises(ConnectionRefusedError):
        await control.ping(PretendedApp(ConnectionRefusedError()), {"a@x"})


def test_calls_that_never_come_back_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result backend that hangs is not asked by ever more threads; when it answers, all is as before."""
    monkeypatch.setattr(control, "CALLS_BEHIND", 3)
    app, answers = PretendedApp(None), threading.Event()
    commander = control.Control(app, Settings.from_mapping({}), None)  # type: ignore[arg-type]  # nothing is stored
    name = control._RESULT_CALL
    others = _threads(name)
    for _ in range(6):
        assert isinstance(commander._within(0.01, answers.wait, name), TimeoutError)  # type: ignore[arg-type]
    assert _threads(name) - others == 3
    assert commander._within(DEADLINE_SECONDS, lambda: None, control._BELL_CALL) is None
    answers.set()
    assert commander._within(DEADLINE_SECONDS, lambda: None, name) is None


def _threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())
