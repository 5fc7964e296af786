"""``/metrics``, in Prometheus' text format: what an operator wants to be woken for.

It tells of everybody's tasks, so it is for admins and readers, or for whoever is on this machine where
oracle_metrics_port names a port of its own. A database that is away does not fail a scrape: ``oracle_database_up`` is 0
and what the database would tell is missing. A queue is shown with what is recorded of it; the broker is not asked.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator

from aiohttp import web

from oracle_celery.database.facts import Summary
from oracle_celery.database.fleet_facts import QueueFacts
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.connections import Connections
from oracle_celery.sidecar.listener import ListenerStatus
from oracle_celery.viewer import ORACLE

__all__ = ["Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4"
#: A database that takes longer is away, as far as a scrape is concerned.
DATABASE_SECONDS = 5.0
#: Queues by themselves: each one is a series of its own in Prometheus.
QUEUES_LIMIT = 1_000

_EVERYTHING = ORACLE.viewer


class Metrics:
    def __init__(self, backend: Backend, connections: Connections) -> None:
        self._backend = backend
        self._connections = connections
        self._started_at = time.time()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self._metrics, name="metrics")]

    async def _metrics(self, request: web.Request) -> web.Response:  # a handler's shape
        lines = [*self._of_this_process()]
        try:
            async with asyncio.timeout(DATABASE_SECONDS):
                parts = self._backend.parts
                summary = await parts.queries.summary(_EVERYTHING)
                queues = (await parts.fleet.queues(_EVERYTHING)).queues
        except (DatabaseUnavailable, TimeoutError):
            lines += _metric("oracle_database_up", "gauge", "Whether PostgreSQL answered this scrape.", 0)
        else:
            lines += _metric("oracle_database_up", "gauge", "Whether PostgreSQL answered this scrape.", 1)
            lines += [*_of_summary(summary), *_of_queues(queues[:QUEUES_LIMIT])]
        body = "\n".join([*lines, ""]).encode()
        return web.Response(body=body, headers={"Content-Type": f"{CONTENT_TYPE}; charset=utf-8"})

    def _of_this_process(self) -> Iterator[str]:
        connections, usage = self._connections, resource.getrusage(resource.RUSAGE_SELF)
        is_open = self._backend.is_open
        parts = self._backend.parts if is_open else None
        status = parts.listener.status if parts else ListenerStatus.STARTING
        is_online = bool(parts and parts.broadcaster.is_online)
        streams = parts.streams.open if parts else 0
        yield from _metric("oracle_start_time_seconds", "gauge", "When this sidecar started.", self._started_at)
        cpu = usage.ru_utime + usage.ru_stime
        yield from _metric("oracle_cpu_seconds_total", "counter", "Processor time of this sidecar.", cpu)
        yield from _metric("oracle_streams", "gauge", "Clients that are kept up to date.", streams)
        yield from _metric("oracle_connections", "gauge", "Open connections.", connections.open)
        yield from _metric(
            "oracle_waiting_connections", "gauge", "Of them, those without a whole request.", connections.waiting
        )
        yield from _metric(
            "oracle_overdue_connections_total", "counter", "Cut off because they were too slow.", connections.overdue
        )
        yield from _metric(
            "oracle_displaced_connections_total", "counter", "Cut off to make room.", connections.displaced
        )
        yield from _metric("oracle_broadcaster_online", "gauge", "Whether changes are being read.", int(is_online))
        yield from _head("oracle_listener_status", "gauge", "1 for what the listener is; it should be hearing.")
        for each in ListenerStatus:
            yield _sample("oracle_listener_status", int(each is status), status=each.value)


def _of_summary(summary: Summary) -> Iterator[str]:
    yield from _head("oracle_tasks", "gauge", "Tasks that wait and that run.")
    yield _sample("oracle_tasks", summary.queued, status="pending")
    yield _sample("oracle_tasks", summary.active, status="in_progress")
    yield from _head("oracle_tasks_24h", "gauge", "Tasks that ended within 24 hours.")
    yield _sample("oracle_tasks_24h", summary.finished_24h - summary.failed_24h, status="completed")
    yield _sample("oracle_tasks_24h", summary.failed_24h, status="failed")
    if summary.mean_runtime_24h is not None:
        help_text = "Mean run of tasks that ended within 24 hours."
        yield from _metric("oracle_mean_runtime_24h_seconds", "gauge", help_text, summary.mean_runtime_24h)
    yield from _metric("oracle_workers", "gauge", "Workers that are alive or silent.", summary.workers)
    help_text = "Records that living workers had no room for: raise oracle_journal_quota."
    yield from _metric("oracle_dropped_records", "gauge", help_text, summary.dropped)
    help_text = "Records of living workers that PostgreSQL refused."
    yield from _metric("oracle_quarantined_records", "gauge", help_text, summary.quarantined)


def _of_queues(queues: list[QueueFacts]) -> Iterator[str]:
    for name, help_text, value_of in (
        ("oracle_queue_tasks", "Tasks that wait in a queue.", lambda queue: queue.waiting),
        ("oracle_queue_consumers", "Workers that consume a queue.", lambda queue: queue.consumers),
        ("oracle_queue_paused", "Whether a queue is paused.", lambda queue: int(queue.paused is not None)),
        ("oracle_queue_stranded", "Whether tasks wait and nobody consumes.", lambda queue: int(queue.is_stranded)),
    ):
        yield from _head(name, "gauge", help_text)
        for queue in queues:
            yield _sample(name, value_of(queue), queue=queue.name)


def _metric(name: str, kind: str, help_text: str, value: float) -> Iterator[str]:
    yield from _head(name, kind, help_text)
    yield _sample(name, value)


def _head(name: str, kind: str, help_text: str) -> Iterator[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, value: float, **labels: str) -> str:
    told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{told}}} {value}" if told else f"{name} {value}"


def _escaped(text: str) -> str:
    """A queue may have any name, and none may forge a line."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
