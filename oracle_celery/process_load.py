"""What a worker costs its machine: CPU and memory of its main process and the children that run its tasks.

Guarantee: no dependency, no measuring thread, a few small files of /proc a reading, and never an error: where there is
no /proc (macOS), nothing is known. What bites: resident memory is summed, so pages that the pool's children share with
their parent count once for each of them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

__all__ = ["Load", "ProcessLoad"]

#: Of the fields of /proc/<pid>/stat, counted from the one after the name in brackets: own and reaped children's time.
_TICKS = slice(11, 15)
_RESIDENT_PAGES = 21


class Load(msgspec.Struct, frozen=True):
    #: Cores kept busy since the reading before: 1.5 is one and a half. None: there was none, or it is not known.
    cpu: float | None = None
    memory: int | None = None  # bytes


class ProcessLoad:
    """Of the process that makes it, as long as it lives. Not for several threads at once."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._pid = os.getpid()
        self._before: tuple[float, float] | None = None

    def read(self) -> Load:
        try:
            return self._read()
        except (OSError, ValueError, IndexError):
            self._before = None
            return Load()

    def _read(self) -> Load:
        now = time.monotonic()
        ticks, pages = self._stat(self._pid)
        for child in self._children():
            try:
                child_ticks, child_pages = self._stat(child)
            except OSError:  # it has ended since it was listed
                continue
            ticks += child_ticks
            pages += child_pages
        busy = ticks / os.sysconf("SC_CLK_TCK")
        before, self._before = self._before, (now, busy)
        cpu = None if before is None else max(0.0, busy - before[1]) / max(now - before[0], 1e-3)
        return Load(cpu=cpu, memory=pages * os.sysconf("SC_PAGE_SIZE"))

    def _stat(self, pid: int) -> tuple[int, int]:
        """(clock ticks at work, resident pages)."""
        fields = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[_TICKS])), int(fields[_RESIDENT_PAGES])

    def _children(self) -> list[int]:
        """Of all threads: whichever started it, a pool's child is the process's."""
        listed = (self._proc / str(self._pid) / "task").glob("*/children")
        return [int(pid) for children in listed for pid in children.read_text().split()]
