"""Writing again while the database is away."""

from __future__ import annotations

import threading

import pytest

from oracle_celery import repetition
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.repetition import repeated

DEADLINE_SECONDS = 60.0


class Register:
    """Cannot be written in for so many times."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.attempts = 0

    def write(self) -> None:
        self.attempts += 1
        if self.attempts <= self.away:
            raise DatabaseUnavailable(detail="for a moment")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repetition, "AGAIN_SECONDS", 0.001)


def test_it_is_written_once_the_database_is_back() -> None:
    """And then no more."""
    register = Register(3)
    repeated(register.write, DEADLINE_SECONDS)
    assert register.attempts == 4


def test_some_time_it_is_enough() -> None:
    """The last error says why."""
    register = Register(10**9)
    with pytest.raises(DatabaseUnavailable):
        repeated(register.write, 0.5)
    assert register.attempts > 1


def test_whoever_stops_does_not_wait() -> None:
    """One attempt is made all the same."""
    register, stopping = Register(10**9), threading.Event()
    stopping.set()
    with pytest.raises(DatabaseUnavailable):
        repeated(register.write, DEADLINE_SECONDS, stopping)
    assert register.attempts == 1


def test_any_other_error_stays_one() -> None:
    """It would be the same the next time."""

    def write() -> None:
        raise ValueError("text")

    with pytest.raises(ValueError, match="text"):
        repeated(write, DEADLINE_SECONDS)
