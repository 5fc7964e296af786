"""What stands behind `Console`: the readers, the commands, and their connections to PostgreSQL.

Loaded when somebody asks or commands for the first time, so a worker that nobody does this in never loads it. Threads
share it; a forked child makes its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from oracle_celery.broker_queues import depths, measured
from oracle_celery.control import Control
from oracle_celery.database.control import ControlStore
from oracle_celery.database.cursor import Cursor
from oracle_celery.database.facts import Change
from oracle_celery.database.fetching import Blocking
from oracle_celery.database.fleet import FleetQueries
from oracle_celery.database.fleet_facts import QueueList
from oracle_celery.database.logs import LogQueries
from oracle_celery.database.opening import require_schema
from oracle_celery.database.queries import Queries
from oracle_celery.database.retention import Removed, RetentionQueries, Windows
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.settings import Settings
from oracle_celery.viewer import Viewer

__all__ = ["Desk"]

logger = logging.getLogger(__name__)

#: Between two looks for changes.
WATCH_SECONDS = 0.25
#: Between two tries while the database is away.
PATIENCE_SECONDS = 1.0
#: Between two words about a round of retention.
RETAIN_SECONDS = 0.5
#: Changes read at once: what a resumed watch may repeat.
WATCH_LIMIT = 200


class Desk:
    def __init__(self, app: Any, settings: Settings) -> None:
        """Raises DatabaseUnavailable, SchemaMissing or SchemaOutOfDate."""
        url = settings.url or _embedded_url(settings)
        require_schema(url)
        self._app = app
        self._blocking = Blocking(url)
        self.queries = Queries(self._blocking.fetch)
        self.logs = LogQueries(self._blocking.fetch)
        self.fleet = FleetQueries(self._blocking.fetch, settings.worker_timeout)
        self._windows = Windows.of(settings)
        self._direct_url = settings.listen_url or url
        self.retention = RetentionQueries(self._blocking.fetch, self._windows)
        self.store = ControlStore(url, settings.redaction)
        self.control = Control(app, settings, self.store)
        self.answer = self._blocking.answer

    def close(self) -> None:
        self._blocking.close()
        self.store.close()

    def measured_queues(self, viewer: Viewer) -> QueueList:
        """The queues, with what the broker says of them."""
        listed = self.answer(self.fleet.queues(viewer))
        return measured(listed, depths(self._app, [queue.name for queue in listed.queues]), viewer)

    def retain(self) -> Iterator[Removed]:
        """A round of retention, step by step. Nothing where another one is under way."""
        with asyncio.Runner() as runner:
            upkeep = Upkeep(self._direct_url, self._windows)
            try:
                is_under_way = True
                while is_under_way:
                    removed, is_under_way = runner.run(upkeep.retain(RETAIN_SECONDS))
                    yield from removed
            finally:
                runner.run(upkeep.close())

    def cursor(self, text: str | None) -> Cursor:
        """Raises CursorUnusable."""
        return self.answer(self.queries.start_cursor()) if text is None else Cursor.parse(text)

    def changes(self, viewer: Viewer, cursor: Cursor, timeout: float | None) -> Iterator[Change]:
        """What comes after `cursor`; ends after `timeout` seconds of silence. Raises CursorUnusable."""
        heard_at = time.monotonic()
        is_away = False
        while True:
            try:
                found = self.answer(self.queries.changes(cursor, WATCH_LIMIT, viewer))
            except DatabaseUnavailable as error:
                if not is_away:
                    logger.warning("No changes for now: %s", error)
                is_away = True
                time.sleep(PATIENCE_SECONDS)
            else:
                is_away = False
                for number, transition in enumerate(found.transitions, start=1):
                    after = found.cursor if number == len(found.transitions) else cursor
                    yield Change(cursor=str(after), **msgspec.structs.asdict(transition.public))
                    heard_at = time.monotonic()
                cursor = found.cursor
                if found.more:
                    continue
            if timeout is not None and time.monotonic() - heard_at >= timeout:
                return
            time.sleep(WATCH_SECONDS)


def _embedded_url(settings: Settings) -> str:
    try:
        return settings.embedded_url_path.read_text().strip()
    except OSError as error:
        raise DatabaseUnavailable(
            detail="the embedded one is not running: start celery -A <your app> oracle on this machine"
        ) from error
