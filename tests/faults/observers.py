"""Who watches Oracle while things die, and writes down all that they are told: a client of the stream, and readers.

Each has one file: a line for each time it was told of a task. `backwards` reads such a file afterwards and finds what
an observer may never see: a version that falls, or a final status that changes although the run is the same and nobody
knew it better.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from oracle_celery.states import Rank
from tests.acceptance.station import Station
from tests.faults.browser import Browser

__all__ = ["Reader", "Watcher", "backwards", "told"]

#: Tasks that a reader asks for at once, and seconds between two looks.
LOOKED_AT = 50
LOOK_SECONDS = 0.05
FINAL = {"completed", "failed", "cancelled"}

#: (task id, version, status, reason)
Told = tuple[str, list[int], str, str | None]


class _Diary:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", buffering=1 << 16)
        self._lock = threading.Lock()

    def note(self, task_id: str, version: list[int], status: str, reason: str | None) -> None:
        with self._lock:
            if not self._file.closed:
                self._file.write(json.dumps([task_id, version, status, reason]) + "\n")

    def close(self) -> None:
        with self._lock:
            self._file.close()


class Watcher(Browser):
    """A page that stays open. What it is told again after a reconnect it drops, as a page does."""

    def __init__(self, station: Station, folder: Path) -> None:
        self.diary = _Diary(folder / "told-by-the-stream")
        super().__init__(station)

    def close(self) -> None:
        self.stop()
        self.diary.close()

    def _take(self, event: str, data: Any, connection_seen: set[int]) -> None:
        if event == "task" and data["history_id"] not in self._seen:
            task = data["task"]
            self.diary.note(task["task_id"], task["version"], task["status"], task["reason"])
        super()._take(event, data, connection_seen)


class Reader(threading.Thread):
    """Asks again and again: one for the API, one for the database itself."""

    def __init__(self, name: str, folder: Path, look: Callable[[], Iterator[Told]]) -> None:
        super().__init__(name=name, daemon=True)
        self.diary = _Diary(folder / f"told-by-the-{name}")
        self.looks = 0
        self._look = look
        self._stopping = threading.Event()

    @classmethod
    def of_api(cls, station: Station, folder: Path, sent: list[str], seed: int) -> Reader:
        """The first page of the list, then a task of those sent lately."""
        dice = random.Random(seed)

        def look() -> Iterator[Told]:
            page = station.get(f"/api/tasks?limit={LOOKED_AT}")
            yield from map(_told, page.get("tasks", ()))
            if sent:
                task_id = dice.choice(sent[-4 * LOOKED_AT :])
                answer = station.get(f"/api/tasks/{urllib.parse.quote(task_id)}")
                if "task" in answer:
                    yield _told(answer["task"])

        return cls("api", folder, look)

    @classmethod
    def of_database(cls, station: Station, folder: Path, sent: list[str], seed: int) -> Reader:
        """Rows of some of all that were sent."""
        dice = random.Random(seed)
        query = (
            "SELECT task_id, ARRAY[retries, extract(epoch FROM run_at) * 1000000, rank]::bigint[],"
            " oracle.status_word(status), reason FROM oracle.task_state_record WHERE task_id = ANY(%s)"
        )

        def look() -> Iterator[Told]:
            known = len(sent)
            ids = [sent[dice.randrange(known)] for _ in range(LOOKED_AT)] + sent[-LOOKED_AT:] if known else []
            with psycopg.connect(station.database, connect_timeout=5) as connection:
                yield from connection.execute(query, (ids,))

        return cls("database", folder, look)

    def run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError, psycopg.Error):  # it is away
                for told in self._look():
                    self.diary.note(*told)
                self.looks += 1

    def close(self) -> None:
        self._stopping.set()
        self.join()
        self.diary.close()


def told(path: Path) -> Iterator[Told]:
    """What an observer was told, in that order."""
    with path.open() as lines:
        for line in lines:
            yield tuple(json.loads(line))


def backwards(path: Path) -> list[tuple[Told, Told]]:
    """What was told, and what was told before that forbids it."""
    last: dict[str, Told] = {}
    wrong: list[tuple[Told, Told]] = []
    for one in told(path):
        task_id, version, status, _ = one
        before = last.get(task_id)
        last[task_id] = one
        if before is None:
            continue
        is_same_run = version[:2] == before[1][:2]
        was_known = before[2] in FINAL and before[1][2] > Rank.INFERRED
        if version < before[1] or (is_same_run and was_known and status != before[2]):
            wrong.append((before, one))
    return wrong


def _told(task: Any) -> Told:
    return task["task_id"], task["version"], task["status"], task["reason"]
