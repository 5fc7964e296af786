"""The REST endpoints of what may be looked for: proposals for a field's value, and counts by status within a query."""

from __future__ import annotations

from aiohttp import web

from oracle_celery.database.query_language import parse_query
from oracle_celery.database.values import VALUE_FIELDS
from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.parameters import Parameters, bad

__all__ = ["VALUES_DEFAULT", "VALUES_LIMIT", "Values"]

VALUES_LIMIT = 50
VALUES_DEFAULT = 10


class Values:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/values", self._values, name="values"),
            web.get("/api/counts", self._counts, name="counts"),
        ]

    async def _values(self, request: web.Request) -> web.Response:
        parameters = Parameters(request, ("field", "part", "limit"))
        field = parameters.one("field") or VALUE_FIELDS[0]
        if field not in VALUE_FIELDS:
            raise bad("field", field, list(VALUE_FIELDS))
        part = parameters.one("part") or ""
        limit = parameters.number("limit", 1, VALUES_LIMIT, VALUES_DEFAULT)
        return success(await self._backend.parts.values.values(viewer_of(request), field, part, limit))

    async def _counts(self, request: web.Request) -> web.Response:
        query = parse_query(Parameters(request, ("q",)).one("q") or "")
        return success(await self._backend.parts.values.counts(viewer_of(request), query))
