"""What may be wrong with the journals of this machine and OS user, for the doctor. It only looks."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from oracle_celery.finding import Finding, attention, fine, size, wrong
from oracle_celery.journal import DROPS_SUFFIX, SEGMENT_SUFFIX, Segment, danger_of, folder_size
from oracle_celery.settings import Settings

__all__ = ["examine_journal"]

#: Share of the quota that a journal fills only while the database is away.
JOURNAL_SHARE = 0.5
#: Bytes below which a disk counts as full: a journal's writer needs a little at a time.
DISK_LEAST = 16 * 2**20


def examine_journal(settings: Settings) -> Iterator[Finding]:
    """Of this machine and OS user; a worker elsewhere has its own."""
    nodes = _nodes(settings)
    for folder in (settings.state_path, settings.journal_path, *nodes):
        problem = (danger_of(folder) if folder in nodes else None) or _unusable(folder)
        if problem is not None:
            yield wrong(
                "journal/unwritable",
                f"{folder} cannot be used: {problem}",
                "Let this user alone write there, or set oracle_state_dir: without a journal, what happens on this "
                "machine is forgotten. What runs here goes on with the folder as soon as it can be used.",
            )
            return
    free = shutil.disk_usage(_existing(settings.state_path)).free
    if free < DISK_LEAST:
        yield wrong(
            "journal/disk-full",
            f"Its disk is full, {size(free)} left: what happens on this machine is dropped.",
            "Make room, or set oracle_state_dir to another disk and restart what runs here.",
        )
    elif free < settings.journal_quota:
        yield attention(
            "journal/disk-short",
            f"Its disk has {size(free)} left, and oracle_journal_quota allows {size(settings.journal_quota)}.",
            "Make room, lower the quota, or set oracle_state_dir to another disk.",
        )
    sizes = {node: folder_size(node) for node in nodes}
    full = [node.name for node, used in sizes.items() if used >= settings.journal_quota]
    if full:
        yield wrong(
            "journal/quota",
            f"{', '.join(full)}: oracle_journal_quota is reached, log lines and kept messages are dropped, other facts "
            "next.",
            "Bring PostgreSQL back; what is there is sent as soon as it answers. Or raise the quota.",
        )
    dropped = sum(_count(path) for node in nodes for path in node.glob(f"*{DROPS_SUFFIX}"))
    if dropped:
        yield attention(
            "journal/dropped",
            f"{dropped} facts were dropped on this machine, because the quota was reached or the disk was full.",
            "Keep PostgreSQL away for less long, or raise oracle_journal_quota. Final statuses go last.",
        )
    if orphaned := sum(_unsent(node) for node in nodes if not _is_read(node)):
        yield attention(
            "journal/orphaned",
            f"{size(orphaned)} of processes that are gone wait on this machine, and nobody reads them.",
            "Start a worker here, or anything that sends tasks, as this user: whoever runs adopts them.",
        )
    if forgotten := _forgotten(settings):
        yield attention(
            "journal/other-address",
            f"{size(forgotten)} wait on this machine for another oracle_url than this one.",
            "Start a worker with that address once. Where it was this database's, before it moved: stop this machine's "
            f"workers, move the folders {settings.journal_path.parent}/*/* to {settings.journal_path}, and start them.",
        )
    used = sum(sizes.values())
    if used > JOURNAL_SHARE * settings.journal_quota:
        yield attention(
            "journal/backlog",
            f"{size(used)} wait on this machine to be recorded.",
            "See whether PostgreSQL answers: a worker that runs sends them as soon as it does.",
        )
    else:
        yield fine("journal/fine", f"{size(used)} in {settings.journal_path}, {size(free)} free.")


def _nodes(settings: Settings) -> list[Path]:
    try:
        return [path for path in settings.journal_path.iterdir() if path.is_dir()]
    except OSError:
        return []


def _forgotten(settings: Settings) -> int:
    """Bytes of journals of other addresses that nobody writes any more: who reads them deletes them within seconds."""
    found = 0
    with contextlib.suppress(OSError):
        for node in settings.journal_path.parent.glob("*/*"):
            found += 0 if node.is_relative_to(settings.journal_path) else _unsent(node)
    return found


def _unsent(node: Path) -> int:
    """Bytes of segments that nobody writes any more."""
    found = 0
    for path in node.glob(f"*{SEGMENT_SUFFIX}"):
        segment = Segment.open(path)
        if segment is not None:
            found += segment.remaining() if segment.is_finished() else 0
            segment.close()
    return found


def _is_read(node: Path) -> bool:
    """Whether a living process reads the folder. Looks at its lock without taking it from anybody."""
    try:
        with (node / ".lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _unusable(folder: Path) -> str | None:
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
