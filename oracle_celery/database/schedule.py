"""The reader of celery beat's schedule: what comes, what ran, what was missed.

Guarantee: of every entry a bounded number of rows is read. What bites: an entry is the app's and nobody's own, so all
of it is for those who see everything; anybody else is told that there is nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from oracle_celery.database.fetching import Fetch
from oracle_celery.database.schedule_facts import BeatFacts, Schedule, ScheduleEntry
from oracle_celery.database.sql import statement
from oracle_celery.database.store import DUE_TOLERANCE
from oracle_celery.viewer import Viewer

__all__ = ["ScheduleQueries"]

ENTRIES_LIMIT = 500
BEATS_LIMIT = 10
#: Runs, and missed due times, of one entry that are told.
RUNS_LIMIT = 60
#: Seconds before and after now that the page shows, and in which a missed run is worth telling.
WINDOW = 12 * 3600.0
MISSED_WINDOW = 24 * 3600.0

_entry_of = msgspec.json.Decoder(ScheduleEntry).decode


class ScheduleQueries:
    """Reads over whatever fetches rows (see `fetching`). `beat_timeout`: seconds until a beat's reports are late."""

    def __init__(self, fetch: Fetch, beat_timeout: float) -> None:
        self._fetch = fetch
        self._beat_timeout = beat_timeout

    async def read(self, viewer: Viewer) -> Schedule:
        seen = {"everyone": viewer.sees_everything, "timeout": self._beat_timeout}
        wanted: dict[str, Any] = {
            **seen,
            "sees_payloads": viewer.sees_payloads,
            "window": WINDOW,
            "missed_window": MISSED_WINDOW,
            "tolerance": DUE_TOLERANCE,
            "runs": RUNS_LIMIT,
            "limit": ENTRIES_LIMIT,
        }
        entries = await self._fetch(statement("schedule"), wanted)
        beats = await self._fetch(statement("beats"), {**seen, "limit": BEATS_LIMIT})
        [(as_of,)] = await self._fetch(statement("schedule_as_of"), {})
        return Schedule(
            entries=[_entry(text, arguments) for text, arguments in entries],
            beats=[BeatFacts(**dict(zip(BeatFacts.__struct_fields__, row, strict=True))) for row in beats],
            as_of=as_of,
            payloads_withheld=not viewer.sees_payloads,
        )


def _entry(text: str, arguments: str | None) -> ScheduleEntry:
    raw = None if arguments is None else msgspec.Raw(arguments.encode())
    return msgspec.structs.replace(_entry_of(text), arguments=raw)
