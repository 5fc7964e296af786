"""The REST endpoints of workers and queues."""

from __future__ import annotations

from aiohttp import web

from oracle_celery.broker_queues import measured
from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.parameters import Parameters

__all__ = ["Fleet"]


class Fleet:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/workers", self._workers, name="workers"),
            web.get("/api/queues", self._queues, name="queues"),
        ]

    async def _workers(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        return success(await self._backend.parts.fleet.workers(viewer_of(request)))

    async def _queues(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        parts, viewer = self._backend.parts, viewer_of(request)
        listed = await parts.fleet.queues(viewer)
        depths = await parts.depths.of([queue.name for queue in listed.queues])
        return success(measured(listed, depths, viewer))
