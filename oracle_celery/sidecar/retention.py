"""The REST endpoint of what is kept and what goes: read only, deleting is the leader's."""

from __future__ import annotations

from aiohttp import web

from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.parameters import Parameters

__all__ = ["RetentionApi"]


class RetentionApi:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/admin/retention", self._preview, name="retention")]

    async def _preview(self, request: web.Request) -> web.Response:
        """The route's rule keeps all but admins out: the figures are of everybody's tasks."""
        Parameters(request, ())
        return success(await self._backend.parts.retention.preview())
