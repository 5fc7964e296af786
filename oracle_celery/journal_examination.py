"""What may be wrong with the journals of this machine and OS user, for the doctor. It only looks."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from oracle_celery.finding import Finding, attention, fine, wrong
from oracle_celery.journal import DROPS_SUFFIX, SEGMENT_SUFFIX, Segment, folder_size
from oracle_celery.settings import Settings

__all__ = ["examine_journal"]

#: Share of the quota that a journal fills only while the database is away.
JOURNAL_SHARE = 0.5


def examine_journal(settings: Settings) -> Iterator[Finding]:
    """Of this machine and OS user; a worker elsewhere has its own."""
    folder = settings.state_path
    problem = _unwritable(folder)
    if problem is not None:
        yield wrong(
            "journal",
            f"{folder} cannot be written: {problem}",
            "Give this user the right to write there, or set oracle_state_dir: without a journal, whatever happens "
            "while PostgreSQL is away is forgotten.",
        )
        return
    free = shutil.disk_usage(_existing(folder)).free
    if free < settings.journal_quota:
        yield attention(
            "journal",
            f"Its disk has {_size(free)} left, and oracle_journal_quota allows {_size(settings.journal_quota)}.",
            "Make room, lower the quota, or set oracle_state_dir to another disk.",
        )
    used = sum(folder_size(node) for node in _nodes(settings))
    dropped = sum(_count(path) for node in _nodes(settings) for path in node.glob(f"*{DROPS_SUFFIX}"))
    if dropped:
        yield attention(
            "journal",
            f"{dropped} facts were dropped on this machine, because the quota was reached or the disk was full.",
            "Keep PostgreSQL away for less long, or raise oracle_journal_quota. Final statuses go last.",
        )
    if forgotten := _forgotten(settings):
        yield attention(
            "journal",
            f"{_size(forgotten)} wait on this machine for another oracle_url than this one.",
            "Start a worker with that address once. Where it was this database's, before it moved: stop this machine's "
            f"workers, move the folders {settings.journal_path.parent}/*/* to {settings.journal_path}, and start them.",
        )
    if used > JOURNAL_SHARE * settings.journal_quota:
        yield attention(
            "journal",
            f"{_size(used)} wait on this machine to be recorded.",
            "See whether PostgreSQL answers: a worker that runs sends them as soon as it does.",
        )
    else:
        yield fine("journal", f"{_size(used)} in {settings.journal_path}, {_size(free)} free.")


def _nodes(settings: Settings) -> list[Path]:
    try:
        return [path for path in settings.journal_path.iterdir() if path.is_dir()]
    except OSError:
        return []


def _forgotten(settings: Settings) -> int:
    """Bytes of journals of other addresses that nobody writes any more: who reads them deletes them within seconds."""
    size = 0
    with contextlib.suppress(OSError):
        for path in settings.journal_path.parent.glob(f"*/*/*{SEGMENT_SUFFIX}"):
            segment = None if path.is_relative_to(settings.journal_path) else Segment.open(path)
            if segment is not None:
                size += segment.remaining() if segment.is_finished() else 0
                segment.close()
    return size


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _unwritable(folder: Path) -> str | None:
    """Tried, not asked: rights say little of a read-only disk."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return None
    except OSError as error:
        return error.strerror


def _count(path: Path) -> int:
    try:
        return int(path.read_text() or 0)
    except (OSError, ValueError):
        return 0


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
