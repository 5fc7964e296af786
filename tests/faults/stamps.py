"""When each task of ``signals.stamp`` really started and ended, as its own body wrote it down: never Oracle's word."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["Stamp", "Stamps", "whole_lines"]


class Stamp(NamedTuple):
    """One line of the file."""

    task_id: str
    queue: str
    event: str  # started or ended
    at: float  # seconds since the epoch


class Stamps:
    """The file that the tasks write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def read(self) -> list[Stamp]:
        found = []
        for line in whole_lines(self.path):
            task_id, queue, event, at = line.split()
            found.append(Stamp(task_id, queue, event, float(at)))
        return found

    def started(self, queue: str | None = None) -> dict[str, float]:
        """The first start of each task (of that queue)."""
        starts: dict[str, float] = {}
        for stamp in self.read():
            if stamp.event == "started" and queue in (None, stamp.queue):
                starts.setdefault(stamp.task_id, stamp.at)
        return starts

    def ended(self) -> set[str]:
        return {stamp.task_id for stamp in self.read() if stamp.event == "ended"}


def whole_lines(path: Path) -> list[str]:
    """Of a file that others write to: what a reader sees of one write may end where a page of the file does."""
    return path.read_text().rpartition("\n")[0].splitlines()
