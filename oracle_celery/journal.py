"""The journal: append-only files on the local disk, one writer each, one JSON record a line.

Guarantee: `Journal.append` never raises, never waits for the network, and what it wrote survives ``kill -9`` of any
process and any absence of PostgreSQL, up to a quota. Past the quota whole segments of log lines go first, then those of
kept messages, then only final statuses are written; every drop is counted in a file beside the segment, for a day.

What will bite: a segment belongs to the process that opened it. The writer holds an exclusive ``flock`` on it, which
the kernel drops with the process, so a reader knows that a segment is finished when it can take that lock. A forked
child therefore closes what it inherited and opens a segment of its own. No fork happens while a file is being opened or
closed here: the child would close a number that is another file's by then, such as the pipe that it is told its tasks
through, or keep one that nobody knows of.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import threading
import time
import uuid
import weakref
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

import msgspec

from oracle_celery.errors import OracleError
from oracle_celery.records import SegmentHeader, encode_line

__all__ = [
    "COMMITTED_SUFFIX",
    "DROPS_SUFFIX",
    "KINDS",
    "LOGS",
    "MESSAGES",
    "PRODUCERS",
    "QUARANTINE",
    "SEGMENT_SUFFIX",
    "TRANSITIONS",
    "UNCONFIRMED",
    "FolderLock",
    "Journal",
    "Mark",
    "Segment",
    "UnsafeFolder",
    "boot_id",
    "danger_of",
    "folder_size",
    "open_folder",
    "segments",
]

TRANSITIONS = "transitions"
MESSAGES = "messages"
LOGS = "logs"

#: Every kind, the most urgent first.
KINDS = (TRANSITIONS, MESSAGES, LOGS)
#: What is given up for room, in this order; nobody gives up a transition that is on disk.
GIVEN_UP = (LOGS, MESSAGES)

#: Folder of all processes of this app that are no worker: web servers, scripts, shells.
PRODUCERS = "producers"

SEGMENT_SUFFIX = ".jsonl"
DROPS_SUFFIX = ".drops"
COMMITTED_SUFFIX = ".committed"
#: A file of a folder: as many bytes as final statuses that a task could not wait for (see `confirmation`).
UNCONFIRMED = "unconfirmed"
#: A file of a recorder's own folder: records that PostgreSQL refuses. Nothing shortens it but somebody who has read it,
#: so it has a limit of its own and no part in the quota.
QUARANTINE = "quarantine.jsonl"

#: Bytes after which a writer goes on in a new segment, so that the disk is given back while a process lives on.
SEGMENT_SIZE = 8 * 1024 * 1024
#: Bytes that a writer appends between two looks at the folder's size.
QUOTA_CHECK_SIZE = 512 * 1024
#: Seconds between two such looks once the quota is reached.
QUOTA_RETRY_INTERVAL = 1.0
#: Final statuses may exceed the quota by this factor before they are dropped too.
FINAL_STATUS_QUOTA_FACTOR = 1.25


class UnsafeFolder(OracleError):
    """The folder {path} is not safe for a journal: {detail}. Remove it or set oracle_state_dir to another one."""


class Mark(NamedTuple):
    """A position in a segment, just behind a record."""

    path: Path
    end: int


class Journal:
    """Appends records of one kind for this process; a fork gets a segment of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        kind: str = TRANSITIONS,
        node: str | None = None,
        worker_id: str | None = None,
        quota: int,
    ) -> None:
        self.folder = folder
        self.kind = kind
        self.node = node
        self.worker_id = worker_id
        self.quota = quota
        self.dropped = 0
        self._lock = threading.RLock()
        self._torn = False
        self._reset()
        _open_files.add(self)

    def append(self, line: bytes, *, final: bool = False) -> bool:
        """Writes one encoded record with one ``write(2)``. False where it was dropped, which is counted."""
        with self._lock:
            try:
                if self._room <= 0 and not self._make_room(final):
                    return self._drop()
                written = os.write(self._descriptor, b"\n" + line if self._torn else line)
            except (OSError, OracleError):
                return self._drop()
            self._room -= written
            self._size += written
            self._torn = written < len(line)
            return self._drop() if self._torn else True

    @property
    def mark(self) -> Mark:
        """Just behind the last record."""
        with self._lock:
            return Mark(self._path, self._size)

    def close(self) -> None:
        """Ends the segment; a later append opens a new one."""
        with self._lock:
            self._write_drops()
            with _descriptors:
                if self._descriptor >= 0:
                    os.close(self._descriptor)
                self._reset()

    def _reset(self) -> None:
        self._descriptor = -1
        self._path = Path()
        self._size = 0
        self._room = 0  # bytes until something else than a plain write is due
        self._usage = 0
        self._full = False
        self._torn = False
        self._next_check = 0.0
        self._drops_written = 0
        self._drops_id = uuid.uuid4()
        self.dropped = 0

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()  # another thread may have held it when this process was copied
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)  # the parent's segment and its lock stay the parent's
        self._reset()

    def _make_room(self, final: bool) -> bool:
        """Opens a segment, looks at the quota: whatever is due. False where the record must be dropped."""
        if self._descriptor < 0 or self._size >= SEGMENT_SIZE or self._is_given_up():
            self._open_segment()
        self._check_quota()
        if self._full:
            return final and self._usage < self.quota * FINAL_STATUS_QUOTA_FACTOR
        # a message is rare, and may be as large as what lies between two looks
        self._room = 1 if self.kind == MESSAGES else min(QUOTA_CHECK_SIZE, SEGMENT_SIZE - self._size)
        return True

    def _is_given_up(self) -> bool:
        """Another writer has removed this segment for room: nobody would read what is written to it."""
        return os.fstat(self._descriptor).st_nlink == 0

    def _open_segment(self) -> None:
        with _descriptors:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self._open_new_segment()

    def _open_new_segment(self) -> None:
        """The file gets its name only when it is locked and has its header, so that no reader sees it half made."""
        open_folder(self.folder)
        file_id = str(uuid.uuid4())
        draft = self.folder / f".{file_id}"
        path = self.folder / f"{self.kind}.{file_id}{SEGMENT_SUFFIX}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            header = SegmentHeader(
                file_id=file_id,
                kind=self.kind,
                boot_id=boot_id(),
                monotonic_ns=time.monotonic_ns(),
                wall_ns=time.time_ns(),
                origin=f"{os.getpid()}@{socket.gethostname()}",
                node=self.node,
                worker_id=self.worker_id,
            )
            self._size = _write_whole(descriptor, encode_line(header))
            draft.rename(path)
        except BaseException:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
            raise
        self._descriptor = descriptor
        self._path = path
        self._torn = False

    def _check_quota(self) -> None:
        now = time.monotonic()
        if self._full and now < self._next_check:
            return
        self._next_check = now + QUOTA_RETRY_INTERVAL
        self._usage = folder_size(self.folder)
        if self._usage > self.quota:
            self._usage -= _give_up(self.folder, self._usage - self.quota, keep=self._path)
        self._full = self._usage > self.quota
        self._write_drops()

    def _drop(self) -> bool:
        self.dropped += 1
        self._room = 0  # look again, and write down the count, at the next record
        return False

    def _write_drops(self) -> None:
        if self.dropped > self._drops_written:
            self._drops_written = self.dropped
            with contextlib.suppress(OSError):
                (self.folder / f"{self.kind}.{self._drops_id}{DROPS_SUFFIX}").write_text(str(self.dropped))


class Segment:
    """One journal file as its reader sees it."""

    def __init__(self, path: Path, descriptor: int, header: SegmentHeader, position: int) -> None:
        self.path = path
        self.header = header
        self.position = position  # just behind the last line that was handed out
        self._descriptor = descriptor
        _open_files.add(self)

    @classmethod
    def open(cls, path: Path) -> Segment | None:
        """None where the file is gone or has no readable header: such a file holds no facts."""
        with _descriptors:
            return cls._open(path)

    @classmethod
    def _open(cls, path: Path) -> Segment | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        first = os.pread(descriptor, HEADER_LIMIT, 0)
        end = first.find(b"\n") + 1
        try:
            header = msgspec.json.decode(first[:end], type=SegmentHeader)
        except msgspec.MsgspecError:
            os.close(descriptor)
            return None
        return cls(path, descriptor, header, end)

    def read(self, limit: int) -> bytes:
        """Complete lines from `position` on, at most `limit` bytes, or one longer line; does not advance."""
        block = os.pread(self._descriptor, limit, self.position)
        end = block.rfind(b"\n") + 1
        if end or len(block) < limit:
            return block[:end]
        pieces, position = [block], self.position + len(block)
        while piece := os.pread(self._descriptor, LONG_LINE_STEP, position):
            position += len(piece)
            end = piece.find(b"\n") + 1
            pieces.append(piece[:end] if end else piece)
            if end:
                return b"".join(pieces)
        return b""

    def is_finished(self) -> bool:
        """No writer holds it any more: what is in it now is all there will ever be."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return True

    def remaining(self) -> int:
        """Bytes behind `position`."""
        return os.fstat(self._descriptor).st_size - self.position

    def close(self) -> None:
        with _descriptors:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _after_fork_in_child(self) -> None:
        self.close()

    def discard(self) -> None:
        """Removes the file and closes it."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(COMMITTED_SUFFIX).unlink(missing_ok=True)
        self.close()


#: Bytes in which a segment's header line must fit.
HEADER_LIMIT = 4096
#: Bytes read at a time of a line that is longer than what was asked for.
LONG_LINE_STEP = 1024 * 1024


class FolderLock:
    """Who reads a folder: at most one recorder on the host, elected by ``flock``, replaced when its process dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor = -1
        _open_files.add(self)

    @property
    def is_held(self) -> bool:
        return self._descriptor >= 0

    def acquire(self) -> bool:
        """True when this process may read the folder; does not wait."""
        with _descriptors:
            return self.is_held or self._acquire()

    def _acquire(self) -> bool:
        try:
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        with _descriptors:
            if self.is_held:
                os.close(self._descriptor)
                self._descriptor = -1

    def _after_fork_in_child(self) -> None:
        self.release()  # closes the child's copy; the lock itself stays the parent's


def open_folder(folder: Path) -> None:
    """Makes the folder if need be, for its owner only. Raises `UnsafeFolder` where others could write into it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    danger = danger_of(folder)
    if danger is not None:
        raise UnsafeFolder(path=folder, detail=danger)


def danger_of(folder: Path) -> str | None:
    """Why a folder that is there is not safe for a journal."""
    status = folder.stat()
    if status.st_uid != os.geteuid():
        return f"it belongs to the user with id {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others may write into it"
    return None


def segments(folder: Path, *kinds: str, besides: Container[str] = ()) -> list[Path]:
    """The folder's segments of these kinds, or of all, oldest first. `besides`: names of those to leave out; nothing of
    them is looked at."""
    prefixes = tuple(f"{kind}." for kind in kinds or KINDS)
    found: list[tuple[int, str]] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SEGMENT_SUFFIX) and entry.name not in besides and entry.name.startswith(prefixes):
                with contextlib.suppress(FileNotFoundError):  # given up by its writer, or sent, meanwhile
                    found.append((entry.stat().st_mtime_ns, entry.name))
    return [folder / name for _, name in sorted(found)]


def _write_whole(descriptor: int, line: bytes) -> int:
    written = os.write(descriptor, line)
    if written != len(line):
        raise OSError(errno.ENOSPC, "the disk took a part of it only")
    return written


def folder_size(folder: Path) -> int:
    """Bytes of all files directly in the folder, but for what PostgreSQL refuses: that waits for nothing."""
    size = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name != QUARANTINE:
                with contextlib.suppress(FileNotFoundError):
                    size += entry.stat(follow_symlinks=False).st_size
    return size


def _give_up(folder: Path, excess: int, *, keep: Path) -> int:
    """Removes whole segments, oldest first, until `excess` bytes are freed; returns the bytes freed."""
    freed = 0
    for kind in GIVEN_UP:
        for path in segments(folder, kind):
            if freed >= excess:
                return freed
            if path != keep:
                with contextlib.suppress(OSError):
                    freed += path.stat().st_size
                    records = _records(path)
                    path.unlink()
                    (folder / f"{kind}.{time.monotonic_ns()}{DROPS_SUFFIX}").write_text(str(records))
    return freed


def _records(path: Path) -> int:
    """Lines of a segment but its header; some of them may have been sent."""
    with path.open("rb") as segment:
        return max(0, sum(block.count(b"\n") for block in iter(lambda: segment.read(LONG_LINE_STEP), b"")) - 1)


def boot_id() -> str:
    """Names this boot of this host; two readings of the monotonic clock compare only within one."""
    global _boot_id
    if _boot_id is None:
        try:
            _boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:  # not Linux: the moment of the boot, to the minute, says the same
            _boot_id = f"{socket.gethostname()}-{round((time.time() - time.monotonic()) / 60)}"
    return _boot_id


_boot_id: str | None = None
_open_files: weakref.WeakSet[Journal | Segment | FolderLock] = weakref.WeakSet()


#: Held while a file is opened or closed and its number noted, and while this process forks.
_descriptors = threading.RLock()


def _before_fork() -> None:
    _descriptors.acquire()


def _after_fork_in_parent() -> None:
    _descriptors.release()


def _after_fork_in_child() -> None:
    global _descriptors
    _descriptors = threading.RLock()
    for opened in list(_open_files):
        with contextlib.suppress(OSError):  # the others must be closed all the same
            opened._after_fork_in_child()  # noqa: SLF001


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
