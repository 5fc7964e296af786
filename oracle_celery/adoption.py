"""Which folders a recorder reads: its own, and a few of those beside it whose reader is gone.

Guarantee: what a process that is gone has left is found, however many folders lie there, and looking for it costs the
same however many do: so many folders a round are tried, so many are held. One in which nothing is left is let go.

What will bite: nobody removes the folder of a node that never comes back, and where names of nodes change there are
hundreds of them. Each that is held costs a descriptor of a process that Celery forks and connects with. A folder is let
go only where none of its segments is being read and its listing, made under its lock, has nothing to send: what
somebody writes there afterwards is found in a later round.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

from oracle_celery.journal import (
    DROPS_SUFFIX,
    KINDS,
    SEGMENT_SUFFIX,
    UNCONFIRMED,
    FolderLock,
    UnsafeFolder,
    open_folder,
)

__all__ = ["Folders"]

logger = logging.getLogger("oracle_celery.recorder")

#: Seconds between two rounds.
ROUND_INTERVAL = 1.0
#: Folders that are tried in one round; the others have their turn in the next ones.
TRIED_A_ROUND = 32
#: Folders of others that are held at a time: those with facts to send, and those that have only counts to be told.
SENDING_MOST = 32
COUNTED_MOST = 32


class Folders:
    """Those of one recorder. Not for two threads at a time."""

    def __init__(self, own: Path) -> None:
        self.own = own
        self._lock = FolderLock(own)
        self._sending: dict[Path, FolderLock] = {}
        self._counted: dict[Path, FolderLock] = {}
        self._turn: list[Path] = []
        self._next_round = 0.0
        self._is_homeless = False

    @property
    def to_send(self) -> list[Path]:
        """Those whose segments are to be sent."""
        return [self.own, *self._sending] if self._lock.is_held else list(self._sending)

    @property
    def held(self) -> list[Path]:
        """Those of which this process alone tells what lies there and what was dropped."""
        return [*self.to_send, *self._counted]

    def take_own(self) -> None:
        """Makes it, if need be; where it cannot be used, or somebody else reads it, it is tried again next time."""
        if self._lock.is_held:
            return
        try:
            open_folder(self.own)
        except (OSError, UnsafeFolder) as error:
            if not self._is_homeless:
                self._is_homeless = True
                logger.warning(
                    "Oracle cannot keep what happens here, tasks go on: its journal %s cannot be used (%s). Let this "
                    "user alone write there, or set oracle_state_dir to another folder and restart.",
                    *(self.own, error),
                )
            return
        if self._is_homeless:
            self._is_homeless = False
            logger.info("Oracle is well again: its journal %s can be used.", self.own)
        self._lock.acquire()

    def look_around(self, opened: Iterable[Path], *, at_once: bool = False) -> None:
        """A round, when one is due or `at_once`. `opened`: the segments that are open here."""
        now = time.monotonic()
        if now < self._next_round and not at_once:
            return
        self._next_round = now + ROUND_INTERVAL
        self.take_own()
        being_read = {path.parent for path in opened}
        for folder, lock in (self._sending | self._counted).items():
            self._settle(folder, lock, is_read=folder in being_read)
        for folder in self._next_turn():
            lock = FolderLock(folder)
            if lock.acquire():
                self._settle(folder, lock, is_read=False)

    def release(self) -> None:
        """All of them."""
        for lock in (self._lock, *self._sending.values(), *self._counted.values()):
            lock.release()
        self._sending.clear()
        self._counted.clear()

    def _settle(self, folder: Path, lock: FolderLock, *, is_read: bool) -> None:
        """Puts a folder whose lock is held where it belongs by now, or lets it go."""
        self._sending.pop(folder, None)
        self._counted.pop(folder, None)
        names = _names(folder)
        if is_read or (len(self._sending) < SENDING_MOST and any(map(_is_segment, names))):
            self._sending[folder] = lock
        elif len(self._counted) < COUNTED_MOST and any(map(_is_count, names)):
            self._counted[folder] = lock
        else:
            lock.release()

    def _next_turn(self) -> list[Path]:
        if not self._turn:
            with contextlib.suppress(OSError), os.scandir(self.own.parent) as entries:
                self._turn = [self.own.parent / entry.name for entry in entries if entry.is_dir()]
        turn, self._turn = self._turn[:TRIED_A_ROUND], self._turn[TRIED_A_ROUND:]
        return [folder for folder in turn if folder not in {*self._sending, *self._counted, self.own}]


def _names(folder: Path) -> list[str]:
    """None of a folder that is gone or cannot be read: nothing of it can be sent."""
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _is_segment(name: str) -> bool:
    return name.startswith(SEGMENT_PREFIXES) and name.endswith(SEGMENT_SUFFIX)


def _is_count(name: str) -> bool:
    """Of what was dropped or not waited for, and is still to be told."""
    return name == UNCONFIRMED or name.endswith(DROPS_SUFFIX)


SEGMENT_PREFIXES = tuple(f"{kind}." for kind in KINDS)
