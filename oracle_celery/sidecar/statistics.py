"""The REST endpoints of numbers over time: the header's charts, task types, how queues filled."""

from __future__ import annotations

from aiohttp import web

from oracle_celery.database.trends import RANGES
from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.parameters import Parameters, bad

__all__ = ["DEFAULT_RANGE", "QUEUE_RANGES", "Statistics"]

DEFAULT_RANGE = "24h"
#: Samples of queues are kept for a day.
QUEUE_RANGES = tuple(word for word, span in RANGES.items() if span.is_of_minutes)


class Statistics:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/statistics", self._statistics, name="statistics"),
            web.get("/api/statistics/queues", self._queues, name="queue_statistics"),
            web.get("/api/task-types", self._task_types, name="task_types"),
        ]

    async def _statistics(self, request: web.Request) -> web.Response:
        wanted = _range(request, tuple(RANGES))
        return success(await self._backend.parts.trends.statistics(viewer_of(request), wanted))

    async def _queues(self, request: web.Request) -> web.Response:
        """The route's rule keeps owners out: samples of queues are of everybody's tasks."""
        return success(await self._backend.parts.trends.queues(_range(request, QUEUE_RANGES)))

    async def _task_types(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        return success(await self._backend.parts.trends.task_types(viewer_of(request)))


def _range(request: web.Request, allowed: tuple[str, ...]) -> str:
    wanted = Parameters(request, ("range",)).one("range") or DEFAULT_RANGE
    if wanted not in allowed:
        raise bad("range", wanted, list(allowed))
    return wanted
