"""The REST endpoint of celery beat's schedule."""

from __future__ import annotations

from aiohttp import web

from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.parameters import Parameters

__all__ = ["ScheduleRoutes"]


class ScheduleRoutes:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/schedule", self._schedule, name="schedule")]

    async def _schedule(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        return success(await self._backend.parts.schedule.read(viewer_of(request)))
