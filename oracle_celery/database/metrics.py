"""The reader of what metrics tell of everybody's tasks, workers and queues.

Guarantee: no statement reads tasks, and no answer has more labels than `METRIC_LABELS` of a kind and one for all
others, whatever tasks and queues are called. Counters never fall while their label is there: they are kept in the
database, so neither a sidecar's restart nor the choice of sidecar matters.

What bites: counters are written by the sidecar that leads, within seconds; a correction of an outcome may count
beside what it corrects.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from oracle_celery.database.fetching import Fetch
from oracle_celery.database.fleet import GONE_SECONDS, FleetQueries
from oracle_celery.database.fleet_facts import QueueFacts
from oracle_celery.database.sql import statement
from oracle_celery.database.upkeep import LABEL_LENGTH, METRIC_LABELS, OTHERS
from oracle_celery.viewer import ORACLE

__all__ = ["Durations", "Finished", "MetricQueries", "RecorderFigures", "Standing"]


class Standing(NamedTuple):
    """Tasks that wait or run now."""

    kind: str  # "name", "queue", or "all"
    label: str
    status: int
    tasks: int


class Finished(NamedTuple):
    """Tasks that finished since `since`, in seconds since the epoch."""

    kind: str  # "name" or "queue"
    label: str
    status: int
    tasks: int
    since: float


class Durations(NamedTuple):
    """Of one name: how many lasted from 2^octave up to twice that many seconds, and all seconds of all octaves."""

    is_wait: bool
    label: str
    octaves: dict[int, int]
    seconds: float
    since: float


class RecorderFigures(NamedTuple):
    """Workers by state, and what the recorders of the living have told. None: none has told it yet."""

    alive: int
    silent: int
    lost: int
    stopped: int
    slots: int
    dropped: int
    quarantined: int
    torn: int
    unconfirmed: int
    journal_bytes: int | None
    journal_largest: int | None
    lag: float | None  # seconds, of the one that has most
    recent_batches: int | None  # between the last two beats, and what was in them
    recent_bytes: int | None
    recent_records: int | None


class MetricQueries:
    """Reads over whatever fetches rows (see `fetching`): one whose statements end soon."""

    def __init__(self, fetch: Fetch, worker_timeout: float) -> None:
        self._fetch = fetch
        self._worker_timeout = worker_timeout
        self._fleet = FleetQueries(fetch, worker_timeout)

    async def standing(self) -> list[Standing]:
        limits = {"labels": METRIC_LABELS, "others": OTHERS, "length": LABEL_LENGTH}
        rows = await self._fetch(statement("metric_standing"), limits)
        return [Standing(kind, _label(label), status, tasks) for kind, label, status, tasks in rows]

    async def finished(self) -> list[Finished]:
        rows = await self._fetch(statement("metric_finished"), {"labels": METRIC_LABELS})
        return [Finished(kind, _label(label), *rest) for kind, label, *rest in rows]

    async def durations(self) -> list[Durations]:
        rows = await self._fetch(statement("metric_durations"), {"labels": METRIC_LABELS})
        found: dict[tuple[bool, str], Durations] = {}
        for is_wait, label, octave, tasks, seconds, since in rows:
            known = found.get((is_wait, label))
            octaves = known.octaves if known else {}
            octaves[octave] = tasks
            whole = seconds + (known.seconds if known else 0.0)
            found[is_wait, label] = Durations(is_wait, _label(label), octaves, whole, since)
        return list(found.values())

    async def recorders(self) -> RecorderFigures:
        parameters: dict[str, Any] = {"timeout": self._worker_timeout, "gone": GONE_SECONDS}
        rows = await self._fetch(statement("metric_workers").format(state=statement("worker_state")), parameters)
        return RecorderFigures(*rows[0])

    async def queues(self) -> list[QueueFacts]:
        return (await self._fleet.queues(ORACLE.viewer)).queues


def _label(label: str) -> str:
    return label or OTHERS
