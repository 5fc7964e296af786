"""What a page would know: a client that reads the stream, reconnects as an EventSource does, and lists when told to."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.parse
from typing import Any

from tests.acceptance.station import Station
from tests.tokens import local_bearer

__all__ = ["Browser"]

PAGE = 200  # tasks
#: Between two tries to connect: who is waited for shares the machine.
RECONNECT_SECONDS = 0.05
#: What comes of asking a sidecar that is away, is killed in the middle of its answer, or is not ready again.
AWAY = (OSError, http.client.HTTPException, AssertionError, KeyError, ValueError)


class Browser:
    """Reads, and connects again with the last id it has seen; after a `resync` it reads the list and goes on there."""

    def __init__(self, station: Station, user_id: str | None = None) -> None:
        """As that owner; None: as this machine's admin."""
        self.station = station
        self.user_id = user_id
        settings = station.app.oracle.settings
        self._authorization = local_bearer(settings, user_id, "owner") if user_id else local_bearer(settings)
        self.cursor: str = self._get("/api/tasks?limit=1")["cursor"]
        self.repeated = 0
        self.resyncs = 0
        self.reasons: set[str] = set()
        #: Each task's newest version, with its status, as lists and events have told it.
        self.tasks: dict[str, tuple[list[int], str]] = {}
        self._seen: set[int] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="browser", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True

    def seen(self) -> set[int]:
        return set(self._seen)

    def statuses(self) -> dict[str, str]:
        return {task_id: status for task_id, (_, status) in self.tasks.copy().items()}

    def _run(self) -> None:
        while not self._stopping:
            try:
                with self.station.stream(after=self.cursor, authorization=self._authorization) as events:
                    self._read(events)
            except AWAY:
                time.sleep(RECONNECT_SECONDS)

    def _read(self, events: Any) -> None:
        since_cursor: set[int] = set()
        for event, data, cursor in events:
            if event == "resync":
                self.resyncs += 1
                self.reasons.add(data["reason"])
                self._list_at_last()
                return
            self._take(event, data, since_cursor)
            if cursor:
                self.cursor = cursor

    def _list_at_last(self) -> None:
        """As a page does, which knows by now that its cursor is of no use: to show it again would be another resync."""
        while not self._stopping:
            try:
                self.cursor = self._list()
            except AWAY:
                time.sleep(RECONNECT_SECONDS)
            else:
                return

    def _list(self) -> str:
        """Everything there is; the cursor of the first page, which has seen least."""
        page = self._get(f"/api/tasks?limit={PAGE}")
        cursor = str(page["cursor"])
        while True:
            for task in page["tasks"]:
                self._know(task)
            if page["next_page"] is None:
                return cursor
            page = self._get(f"/api/tasks?limit={PAGE}&page={urllib.parse.quote(page['next_page'])}")

    def _get(self, path: str) -> Any:
        return self.station.ask("GET", path, authorization=self._authorization)[1]

    def _take(self, event: str, data: Any, connection_seen: set[int]) -> None:
        if event == "task":
            history_id = data["history_id"]
            self.repeated += history_id in connection_seen
            connection_seen.add(history_id)
            self._seen.add(history_id)
            self._know(data["task"])

    def _know(self, task: Any) -> None:
        known = self.tasks.get(task["task_id"])
        if known is None or known[0] <= task["version"]:
            self.tasks[task["task_id"]] = (task["version"], task["status"])
