"""What is wanted of tasks and queues: the newest word counts, pauses end, and a file remembers it."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Set
from pathlib import Path

import pytest

from oracle_celery.database.store import ControlChanges, PauseWord
from oracle_celery.desired_state import DesiredState
from tests.polling import eventually


def word(queue: str, seq: int, *, is_paused: bool = True, remaining: float | None = None) -> PauseWord:
    return PauseWord(queue=queue, seq=seq, is_paused=is_paused, remaining=remaining)


def changes(seq: int, *words: PauseWord, cancelled: tuple[str, ...] = (), is_whole: bool = False) -> ControlChanges:
    return ControlChanges(seq=seq, is_whole=is_whole, cancelled=cancelled, pauses=words)


def test_quiet_until_somebody_wants_something() -> None:
    """The one question of every message; a resumed queue is quiet again."""
    desired = DesiredState()
    assert desired.is_quiet
    desired.apply(changes(1, word("a", 1)))
    assert not desired.is_quiet
    desired.apply(changes(2, word("a", 2, is_paused=False)))
    assert desired.is_quiet
    desired.apply(changes(3, cancelled=("one",)))
    assert not desired.is_quiet


@pytest.mark.parametrize(
    ("words", "paused"),
    [
        ([word("", 1)], {"a", "b"}),
        ([word("", 1), word("a", 2, is_paused=False)], {"b"}),
        ([word("a", 1), word("", 2, is_paused=False)], set()),
        ([word("a", 2), word("", 1, is_paused=False)], {"a"}),
        ([word("", 3, remaining=-1.0), word("a", 2)], set()),
    ],
)
def test_newest_word(words: list[PauseWord], paused: set[str]) -> None:
    """Of a queue's own word and the one on all queues the newer counts, an ended pause too."""
    desired = DesiredState()
    desired.apply(changes(9, *words))
    assert {queue for queue in ("a", "b") if desired.is_paused(queue)} == paused


def test_pause_ends_by_itself() -> None:
    """Without anybody's word."""
    desired = DesiredState()
    desired.apply(changes(1, word("a", 1, remaining=1.0)))
    assert desired.is_paused("a")
    eventually(lambda: not desired.is_paused("a"), "the pause has ended")
    said = desired.word("a")
    assert said is not None
    assert (said.seq, said.is_paused) == (1, False)


def test_watchers_are_told_what_is_new() -> None:
    """Ids of this change alone; those that were known are no news, also when everything is read again."""
    desired = DesiredState()
    told: list[Set[str]] = []
    desired.watch(told.append)
    desired.apply(changes(1, cancelled=("one",), is_whole=True))
    desired.apply(changes(1))
    desired.apply(changes(2, cancelled=("two",)))
    desired.apply(changes(3, cancelled=("two", "three"), is_whole=True))
    assert told == [{"one"}, {"two"}, {"three"}]
    assert desired.cancelled == {"two", "three"}


def test_asks_for_everything_at_first_and_again_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then for what is new."""
    desired = DesiredState()
    assert desired.known_up_to is None
    desired.apply(changes(7, is_whole=True))
    assert desired.known_up_to == 7
    later = time.monotonic() + 2 * 3600
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert desired.known_up_to is None


def test_file(tmp_path: Path) -> None:
    """Written at each change, for its owner alone; read by a worker that hears nothing from the database."""
    desired = DesiredState()
    desired.path = tmp_path / "desired_state"
    desired.apply(changes(5, word("a", 4), word("b", 5, remaining=60), cancelled=("one", "zwei-\u00fc")))
    assert stat.S_IMODE(desired.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["desired_state"]
    other = DesiredState()
    other.path = desired.path
    assert other.remember()
    assert other.cancelled == {"one", "zwei-\u00fc"}
    assert other.is_paused("a")
    assert other.is_paused("b")
    assert other.known_up_to is None  # the database is asked for everything all the same


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"written_at": 1}'])
def test_no_file_or_a_damaged_one(tmp_path: Path, content: bytes | None) -> None:
    """A worker then begins without; it does not stop."""
    desired = DesiredState()
    assert not desired.remember()
    desired.path = tmp_path / "desired_state"
    if content is not None:
        desired.path.write_bytes(content)
    assert not desired.remember()
    assert desired.is_quiet


def test_disk_full(tmp_path: Path) -> None:
    """That the file cannot be written changes nothing here."""
    desired = DesiredState()
    desired.path = tmp_path / "missing folder" / "desired_state"
    desired.apply(changes(1, cancelled=("one",)))
    assert desired.cancelled == {"one"}


def test_waiting() -> None:
    """For the first answer, no longer than there is hope; and for the next look."""
    desired = DesiredState()
    assert not desired.wait_until_known(0.05)
    started = time.monotonic()
    assert not desired.wait_until_known(30, lambda: True)
    assert time.monotonic() - started < 15
    threading.Timer(0.05, desired.apply, [changes(0, is_whole=True)]).start()
    assert desired.wait_until_known(60)
    has_looked = threading.Event()

    def look() -> None:
        while not has_looked.wait(0.01):  # whoever waits may come later than one look
            desired.apply(changes(0))

    looking = threading.Thread(target=look)
    looking.start()
    assert desired.wait_for_look(60)
    has_looked.set()
    looking.join()
    assert not desired.wait_for_look(0.01)
