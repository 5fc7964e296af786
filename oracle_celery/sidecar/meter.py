"""Reads every metric: from this process, from PostgreSQL, and from the broker.

Guarantee: what comes from outside is read at most once in `FRESH_SECONDS`, by one reader whoever asks, part by part,
each within its statement's time and all within `READ_SECONDS`. A part that cannot be read is missing and says so
(`oracle_metrics_part_up`); reading never fails as a whole.

What bites: what is told of tasks, queues and workers is of the whole installation, the same from every sidecar.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from oracle_celery import __version__
from oracle_celery.broker_queues import MISSING
from oracle_celery.database.fleet_facts import QueueFacts
from oracle_celery.database.metrics import Durations, Finished, RecorderFigures, Standing
from oracle_celery.database.standby import StandbyStatus
from oracle_celery.database.upkeep import LABEL_LENGTH, METRIC_LABELS, OTHERS
from oracle_celery.ending import end
from oracle_celery.errors import DatabaseUnavailable, QueryTooBroad
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.connections import Connections
from oracle_celery.sidecar.listener import ListenerStatus
from oracle_celery.sidecar.metric_families import Part, Sample, cumulated
from oracle_celery.states import Status

__all__ = ["Meter", "Readings"]

logger = logging.getLogger(__name__)

#: How long what was read from outside serves everybody.
FRESH_SECONDS = 5.0
#: A database that takes longer is away, as far as metrics are concerned.
READ_SECONDS = 5.0
#: Within which the broker's answer is waited for, after that.
BROKER_SECONDS = 4.0

#: Samples by their family's name. A family without samples is not told.
Readings = Mapping[str, list[Sample]]

_Found = defaultdict[str, list[Sample]]
_Read = Callable[[], Awaitable[Any]]
_Tell = Callable[[Any], Iterator[tuple[str, Sample]]]


class Meter:
    def __init__(self, backend: Backend, connections: Connections) -> None:
        self._backend = backend
        self._connections = connections
        self._started_at = time.time()
        self._outside: Readings = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def read(self) -> Readings:
        """Everything there is to tell now. Never raises."""
        if time.monotonic() - self._read_at > FRESH_SECONDS:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read_outside(), name="oracle-meter")
            await asyncio.shield(self._reading)  # others wait for it too: who goes away does not take it along
        return {**self._of_this_process(), **self._outside}

    async def stop(self) -> None:
        await end(self._reading)

    async def _read_outside(self) -> None:
        started = time.monotonic()
        try:
            found, is_up = await self._outside_of(self._backend)
            found["oracle_database_up"] = [Sample(int(is_up.pop("database")))]
            found["oracle_metrics_part_up"] = [Sample(int(up), (part,)) for part, up in is_up.items()]
            found["oracle_metrics_read_seconds"] = [Sample(time.monotonic() - started)]
            self._outside = found
        except Exception:  # whatever it was: the scrape must come, and tells that
            logger.exception("Metrics could not be read.")
            self._outside = {"oracle_metrics_part_up": [Sample(0, (part,)) for part in Part]}
        finally:
            self._read_at = time.monotonic()
            self._reading = None

    async def _outside_of(self, backend: Backend) -> tuple[_Found, dict[str, bool]]:
        """What was found, and which parts could be read; "database" is one of them here."""
        found: _Found = defaultdict(list)
        is_up: dict[str, bool] = {"database": False}
        if not backend.is_open:
            return found, is_up | dict.fromkeys(set(Part) - {Part.BROKER}, False)
        parts, queues = backend.parts, list[QueueFacts]()
        reads: tuple[tuple[Part, _Read, _Tell], ...] = (
            (Part.STANDING, parts.metrics.standing, _of_standing),
            (Part.FINISHED, parts.metrics.finished, _of_finished),
            (Part.DURATIONS, parts.metrics.durations, _of_durations),
            (Part.WORKERS, parts.metrics.recorders, _of_workers),
            (Part.QUEUES, parts.metrics.queues, _of_queues),
        )
        is_up["database"] = True
        deadline = asyncio.get_running_loop().time() + READ_SECONDS
        for part, read, tell in reads:
            is_up[part] = False
            if not is_up["database"]:
                continue
            try:
                async with asyncio.timeout_at(deadline):
                    facts = await read()
                told = list(tell(facts))
            except QueryTooBroad:  # its statement took too long; the others may not
                logger.debug("Metrics lack %s: PostgreSQL took too long for it.", part)
                continue
            except (DatabaseUnavailable, TimeoutError):
                is_up["database"] = False
                continue
            except Exception:
                logger.exception("Metrics lack %s.", part)
                continue
            for name, sample in told:
                found[name].append(sample)
            is_up[part] = True
            queues = facts if part is Part.QUEUES else queues
        if parts.depths.has_broker and queues:
            own = [queue.name for label, [queue, *_] in _grouped(queues).items() if label == queue.name]
            is_up[Part.BROKER] = False
            with contextlib.suppress(TimeoutError):  # not every transport of kombu's bounds its own waiting
                async with asyncio.timeout(BROKER_SECONDS):
                    depths = await parts.depths.of(own)
                is_up[Part.BROKER] = all(depth.error in (None, MISSING) for depth in depths.values())
                for name, depth in depths.items():
                    if depth.messages is not None:
                        found["oracle_queue_messages"].append(Sample(depth.messages, (name,)))
        return found, is_up

    def _of_this_process(self) -> Readings:
        connections, usage = self._connections, resource.getrusage(resource.RUSAGE_SELF)
        parts = self._backend.parts if self._backend.is_open else None
        status = parts.listener.status if parts else ListenerStatus.STARTING
        since = self._started_at
        values: dict[str, Sample] = {
            "oracle_build_info": Sample(1, (__version__,)),
            "oracle_start_time_seconds": Sample(since),
            "oracle_cpu_seconds_total": Sample(usage.ru_utime + usage.ru_stime, since=since),
            "oracle_streams": Sample(parts.streams.open if parts else 0),
            "oracle_connections": Sample(connections.open),
            "oracle_waiting_connections": Sample(connections.waiting),
            "oracle_overdue_connections_total": Sample(connections.overdue, since=since),
            "oracle_displaced_connections_total": Sample(connections.displaced, since=since),
            "oracle_broadcaster_online": Sample(int(bool(parts and parts.broadcaster.is_online))),
        }
        told = {name: [sample] for name, sample in values.items()}
        if parts and (standby := parts.standby):
            told["oracle_standby_status"] = [
                Sample(int(each is standby.status), (each.value,)) for each in StandbyStatus
            ]
            told["oracle_standby_lag_seconds"] = [Sample(standby.lag)]
            told["oracle_standby_reads_total"] = [Sample(standby.reads, since=since)]
            told["oracle_standby_fallbacks_total"] = [Sample(standby.fallbacks, since=since)]
        told["oracle_listener_status"] = [Sample(int(each is status), (each.value,)) for each in ListenerStatus]
        return told


def _of_standing(standing: list[Standing]) -> Iterator[tuple[str, Sample]]:
    families = {"name": "oracle_named_tasks", "queue": "oracle_queue_tasks"}
    counted = {(each.kind, each.label, each.status): each.tasks for each in standing}
    for status in (Status.PENDING, Status.IN_PROGRESS):
        yield "oracle_tasks", Sample(counted.get(("all", OTHERS, status), 0), (status.word,))
    for kind, label in dict.fromkeys((each.kind, each.label) for each in standing if each.kind != "all"):
        for status in (Status.PENDING, Status.IN_PROGRESS):
            yield families[kind], Sample(counted.get((kind, label, status), 0), (label, status.word))


def _of_finished(finished: list[Finished]) -> Iterator[tuple[str, Sample]]:
    families = {"name": "oracle_finished_tasks_total", "queue": "oracle_queue_finished_tasks_total"}
    for each in finished:
        yield families[each.kind], Sample(each.tasks, (each.label, Status(each.status).word), each.since)


def _of_durations(durations: list[Durations]) -> Iterator[tuple[str, Sample]]:
    for each in durations:
        name = "oracle_task_wait_seconds" if each.is_wait else "oracle_task_runtime_seconds"
        yield name, Sample(cumulated(each.octaves, each.seconds), (each.label,), each.since)


def _of_workers(figures: RecorderFigures) -> Iterator[tuple[str, Sample]]:
    for state in ("alive", "silent", "lost", "stopped"):
        yield "oracle_workers", Sample(getattr(figures, state), (state,))
    batches = figures.recent_batches
    for name, value in {
        "oracle_worker_slots": figures.slots,
        "oracle_journal_bytes": figures.journal_bytes,
        "oracle_largest_journal_bytes": figures.journal_largest,
        "oracle_dropped_records": figures.dropped,
        "oracle_quarantined_records": figures.quarantined,
        "oracle_torn_records": figures.torn,
        "oracle_unconfirmed_statuses": figures.unconfirmed,
        "oracle_recorder_lag_seconds": figures.lag,
        "oracle_recorder_batches": batches,
        "oracle_recorder_batch_records": (figures.recent_records or 0) / batches if batches else None,
        "oracle_recorder_batch_bytes": (figures.recent_bytes or 0) / batches if batches else None,
    }.items():
        if value is not None:
            yield name, Sample(value)


def _of_queues(queues: list[QueueFacts]) -> Iterator[tuple[str, Sample]]:
    for label, group in _grouped(queues).items():
        yield "oracle_queue_consumers", Sample(sum(queue.consumers for queue in group), (label,))
        yield "oracle_queue_paused", Sample(int(any(queue.paused is not None for queue in group)), (label,))
        yield "oracle_queue_stranded", Sample(int(any(queue.is_stranded for queue in group)), (label,))
        oldest = [queue.oldest_waiting_at for queue in group if queue.oldest_waiting_at]
        if oldest:
            at = datetime.fromisoformat(min(oldest)).timestamp()
            yield "oracle_queue_oldest_task_timestamp_seconds", Sample(at, (label,))


def _grouped(queues: list[QueueFacts]) -> Mapping[str, list[QueueFacts]]:
    """By label: those in which most waits have their own."""
    groups: dict[str, list[QueueFacts]] = defaultdict(list)
    for queue in sorted(queues, key=lambda queue: (-queue.waiting, queue.name)):
        has_room = len(groups) - (OTHERS in groups) < METRIC_LABELS
        groups[queue.name if has_room and len(queue.name) <= LABEL_LENGTH else OTHERS].append(queue)
    return groups
