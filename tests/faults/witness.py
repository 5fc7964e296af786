"""What really happened, told by the tasks themselves and kept apart from Oracle: a file of ids, one a line."""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from oracle_celery import owner
from tests.acceptance.station import Station
from tests.faults.stamps import whole_lines

__all__ = ["Crowd"]

#: Seconds without any change after which what still waits has vanished.
VANISHED_SECONDS = 20.0


class Crowd:
    """Many small tasks, sent in the background while something is killed."""

    def __init__(self, station: Station, tasks: int, owners: Sequence[str] = ()) -> None:
        """`owners` take turns; without any the tasks are nobody's."""
        self._owners = itertools.cycle(owners or (None,))
        self.station = station
        self.path = Path(station.folder, "witness")
        self.path.touch()
        self.tasks = tasks
        self.ids: list[str] = []
        self._sender = threading.Thread(target=self._send, name="sender")

    def start(self) -> None:
        self._sender.start()

    def wait_for_done(self, tasks: int, timeout: float = 120) -> None:
        """Until so many tasks have witnessed that they ran to their end."""
        self.station.poll(lambda: len(self.done()) >= tasks, f"{tasks} tasks are done", timeout=timeout)

    def done(self) -> set[str]:
        return set(whole_lines(self.path))

    def settle(self, timeout: float = 120, *, may_vanish: int = 0) -> dict[str, tuple[str, str | None]]:
        """All tasks' (status, reason) in the database, once every one of them is final.

        `may_vanish` of them may stay as they were sent: a worker that acknowledged a message and was killed before its
        child could say that it had begun leaves no trace of it.
        """
        self._sender.join()
        self.station.app.oracle.stop()
        settled: dict[str, tuple[str, str | None]] = {}
        unchanged_since, last = time.monotonic(), -1

        def look() -> bool:
            nonlocal unchanged_since, last
            settled.update(self._rows())
            waiting = [status for status, _ in settled.values() if status in ("pending", "in_progress")]
            if len(waiting) != last:
                unchanged_since, last = time.monotonic(), len(waiting)
            is_quiet = time.monotonic() - unchanged_since > VANISHED_SECONDS
            have_vanished = len(waiting) <= may_vanish and is_quiet and "in_progress" not in waiting
            return len(settled) >= self.tasks and (not waiting or have_vanished)

        self.station.poll(look, "every task is final", lambda: self._summary(settled), timeout)
        return {task_id: settled[task_id] for task_id in self.ids}

    def check(
        self,
        settled: dict[str, tuple[str, str | None]],
        *,
        may_lose: int,
        reasons: set[str],
        may_vanish: int = 0,
    ) -> None:
        """No completed task without its witness; none failed but the few that ran in what was killed."""
        done = self.done()
        unwitnessed = [
            task_id for task_id, (status, _) in settled.items() if status == "completed" and task_id not in done
        ]
        assert unwitnessed == []
        others = collections.Counter(settled.values())
        completed = others.pop(("completed", None), 0)
        assert others.get(("pending", "sent"), 0) <= may_vanish, others
        assert {status for status, _ in others} <= ({"failed", "pending"} if may_vanish else {"failed"}), others
        assert {reason for _, reason in others} <= reasons | ({"sent"} if may_vanish else set()), others
        assert sum(others.values()) <= may_lose, others
        assert completed + sum(others.values()) == self.tasks

    def _send(self) -> None:
        for _ in range(self.tasks):
            user_id = next(self._owners)
            with contextlib.nullcontext() if user_id is None else owner(user_id):
                self.ids.append(self.station.send("witness", str(self.path), ignore_result=True))

    def _rows(self) -> dict[str, tuple[str, str | None]]:
        try:
            with psycopg.connect(self.station.database) as connection:
                rows = connection.execute(
                    "SELECT task_id, oracle.status_word(status), reason FROM oracle.task_state_record"
                ).fetchall()
        except psycopg.OperationalError:
            return {}
        return {task_id: (status, reason) for task_id, status, reason in rows}

    def _summary(self, settled: dict[str, tuple[str, str | None]]) -> Any:
        return [[*outcome, count] for outcome, count in collections.Counter(settled.values()).items()]
