"""The REST endpoints of failures in groups."""

from __future__ import annotations

import re
from typing import TypeVar

from aiohttp import web

from oracle_celery.database.failure_facts import FailureRange
from oracle_celery.database.failures import FAILURE_ORDERS, FAILURE_RANGES
from oracle_celery.errors import GroupNotFound
from oracle_celery.fingerprint import FINGERPRINT_PATTERN
from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.parameters import ECHO_LIMIT, Parameters, bad

__all__ = ["DEFAULT_ORDER", "DEFAULT_RANGE", "GROUPS_DEFAULT", "GROUPS_LIMIT", "Failures"]

DEFAULT_RANGE: FailureRange = "24h"
DEFAULT_ORDER = "count"
GROUPS_LIMIT = 200
GROUPS_DEFAULT = 100

Word = TypeVar("Word", bound=str)


class Failures:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/failures", self._groups, name="failures"),
            web.get("/api/failures/{fingerprint:[^/]+}", self._group, name="failure"),
        ]

    async def _groups(self, request: web.Request) -> web.Response:
        parameters = Parameters(request, ("range", "sort", "limit"))
        wanted = _one_of(parameters, "range", FAILURE_RANGES, DEFAULT_RANGE)
        order = _one_of(parameters, "sort", tuple(FAILURE_ORDERS), DEFAULT_ORDER)
        limit = parameters.number("limit", 1, GROUPS_LIMIT, GROUPS_DEFAULT)
        failures = self._backend.parts.failures
        return success(await failures.groups(viewer_of(request), wanted, order, limit))

    async def _group(self, request: web.Request) -> web.Response:
        wanted = _one_of(Parameters(request, ("range",)), "range", FAILURE_RANGES, DEFAULT_RANGE)
        fingerprint = request.match_info["fingerprint"]
        if re.fullmatch(FINGERPRINT_PATTERN, fingerprint) is None:
            raise GroupNotFound(fingerprint=fingerprint[:ECHO_LIMIT])
        return success(await self._backend.parts.failures.group(viewer_of(request), fingerprint, wanted))


def _one_of(parameters: Parameters, name: str, allowed: tuple[Word, ...], default: Word) -> Word:
    text = parameters.one(name)
    if text is None:
        return default
    for word in allowed:
        if word == text:
            return word
    raise bad(name, text, list(allowed))
