"""What people want of this worker's tasks and queues: the ids that shall not run, the queues that shall wait.

The database says it and the recorder's thread brings it here; the gate asks here at every message. A lookup is atomic
and takes no lock. The last state known is kept in a file too, shared by the workers of this host, app and database: a
worker that starts while PostgreSQL is away remembers a pause and a cancel.

What will bite: numbers (`seq`) are given in the order of commits, so "everything after mine" misses nothing. But a
database may be restored from a backup: whoever finds its own number unknown there reads everything again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import NamedTuple

import msgspec

from oracle_celery.database.store import ControlChanges, PauseWord

__all__ = ["DesiredState", "Word"]

logger = logging.getLogger(__name__)

#: Seconds after which everything is read again: ids that are long done with are forgotten then.
RELOAD_INTERVAL = 3600.0

#: The file is written so seldom that writing takes at most this part of the time: there may be a million ids.
WRITE_SHARE = 20

FILE_NAME = "desired_state"
#: The word on every queue.
ALL_QUEUES = ""


class Word(NamedTuple):
    """The newest word on a queue."""

    seq: int
    is_paused: bool
    until: float | None  # monotonic seconds at which the pause ends by itself


class DesiredState:
    """One a process. Written to by one thread, the recorder's; read by any."""

    def __init__(self) -> None:
        #: Ids of tasks that shall not run (any more).
        self.cancelled: set[str] = set()
        self.seq = 0
        #: Nobody wants anything: the one question asked for each message.
        self.is_quiet = True
        self.path: Path | None = None
        self._words: dict[str, Word] = {}
        self._is_known = threading.Event()
        self._look_ended = threading.Condition()
        self._looks = 0
        self._watchers: list[Callable[[Set[str]], None]] = []
        self._reload_at = 0.0
        self._written = 0
        self._write_at = 0.0

    def is_paused(self, queue: str) -> bool:
        if not self._words:
            return False
        word = self.word(queue)
        return word is not None and word.is_paused

    def word(self, queue: str) -> Word | None:
        """What was said last about the queue, or about all of them; a pause that has ended says so."""
        words = self._words
        own, general = words.get(queue), words.get(ALL_QUEUES)
        word = max((word for word in (own, general) if word is not None), default=None)
        if word is not None and word.until is not None and word.is_paused and time.monotonic() >= word.until:
            return word._replace(is_paused=False)
        return word

    def watch(self, watcher: Callable[[Set[str]], None]) -> None:
        """`watcher` is called after each change, in the thread that brings it, with the ids cancelled by it."""
        self._watchers.append(watcher)

    # -- from the database ---------------------------------------------------------------------------------------

    @property
    def known_up_to(self) -> int | None:
        """After which number to ask; None: for everything."""
        return self.seq if self._is_known.is_set() and time.monotonic() < self._reload_at else None

    def apply(self, changes: ControlChanges) -> None:
        """What the database has answered to the question for `known_up_to`."""
        is_new = changes.is_whole or changes.seq != self.seq
        if is_new:
            self._change(changes)
        if changes.is_whole:
            self._reload_at = time.monotonic() + RELOAD_INTERVAL
        self._is_known.set()
        with self._look_ended:
            self._looks += 1
            self._look_ended.notify_all()
        if self.path is not None and self._written != self.seq and time.monotonic() >= self._write_at:
            started = time.monotonic()
            self._write()
            self._write_at = time.monotonic() + WRITE_SHARE * (time.monotonic() - started)

    def wait_until_known(self, timeout: float, is_hopeless: Callable[[], bool] = lambda: False) -> bool:
        """Whether the database has told by then. `is_hopeless` ends the wait before its time."""
        deadline = time.monotonic() + timeout
        while not self._is_known.wait(POLL_SECONDS):
            if time.monotonic() > deadline or is_hopeless():
                return False
        return True

    def wait_for_look(self, timeout: float) -> bool:
        """Whether the database has been asked, once more, by then."""
        with self._look_ended:
            before = self._looks
            return self._look_ended.wait_for(lambda: self._looks > before, timeout)

    def _change(self, changes: ControlChanges) -> None:
        now = time.monotonic()
        words = {} if changes.is_whole else dict(self._words)
        for word in changes.pauses:
            until = None if word.remaining is None else now + word.remaining
            words[word.queue] = Word(word.seq, word.is_paused, until)
        fresh = set(changes.cancelled)
        if changes.is_whole:
            fresh, self.cancelled = fresh - self.cancelled, fresh
        else:
            self.cancelled.update(fresh)
        self._words = words
        self.seq = changes.seq
        self.is_quiet = not self.cancelled and not any(word.is_paused for word in words.values())
        for watcher in self._watchers:
            try:
                watcher(fresh)
            except Exception:
                logger.exception("Oracle could not act at once on what is wanted; it looks again.")

    # -- from the file -------------------------------------------------------------------------------------------

    def remember(self) -> bool:
        """Takes over what the file says, where there is one. The database's word replaces it as a whole."""
        if self.path is None:
            return False
        try:
            said = _decoder.decode(self.path.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("Oracle cannot read %s, and begins without pauses and cancels: %s", self.path, error)
            return False
        elapsed = max(0.0, time.time() - said.written_at)
        pauses = tuple(
            msgspec.structs.replace(word, remaining=None if word.remaining is None else word.remaining - elapsed)
            for word in said.changes.pauses
        )
        self._change(msgspec.structs.replace(said.changes, pauses=pauses))
        return True

    def _write(self) -> None:
        """Trouble with the disk is said; the database knows everything."""
        assert self.path is not None
        now = time.monotonic()
        pauses = tuple(
            PauseWord(
                queue=queue,
                seq=word.seq,
                is_paused=word.is_paused,
                remaining=None if word.until is None else word.until - now,
            )
            for queue, word in self._words.items()
        )
        changes = ControlChanges(seq=self.seq, is_whole=True, cancelled=tuple(self.cancelled), pauses=pauses)
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.draft")
        self._written = self.seq
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor is no path
                file.write(_encoder.encode(_File(written_at=time.time(), changes=changes)))
            draft.replace(self.path)
        except OSError as error:
            logger.warning("Oracle cannot keep pauses and cancels in %s: %s", self.path, error)
            with contextlib.suppress(OSError):
                draft.unlink()


#: Seconds between two looks whether waiting is still worth it.
POLL_SECONDS = 0.02


class _File(msgspec.Struct, frozen=True):
    written_at: float  # seconds since the epoch
    changes: ControlChanges


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_File)
