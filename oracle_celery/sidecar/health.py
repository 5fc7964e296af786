"""``/healthz``: the process lives. ``/readyz``: it can serve, and if not, what is missing."""

from __future__ import annotations

from typing import Literal

import msgspec
from aiohttp import web

from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.listener import ListenerStatus

__all__ = ["Alive", "Health", "Readiness"]


class Alive(msgspec.Struct, frozen=True):
    status: Literal["ok"] = "ok"


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["ok", "unavailable"]
    database: Literal["ok", "unavailable"]
    listener: ListenerStatus  # a deaf one makes changes late, not wrong: still ready
    schema: Literal["ok", "unknown"]


class Health:
    """Neither endpoint asks the database anything: the broadcaster asks it several times a second already."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self._alive, name="healthz"),
            web.get("/readyz", self._ready, name="readyz"),
        ]

    async def _alive(self, request: web.Request) -> web.Response:  # a handler's shape
        return success(Alive())

    async def _ready(self, request: web.Request) -> web.Response:  # a handler's shape
        is_online = self._backend.is_open and self._backend.parts.broadcaster.is_online
        listener = self._backend.parts.listener.status if self._backend.is_open else ListenerStatus.STARTING
        answer = success(
            Readiness(
                status="ok" if is_online else "unavailable",
                database="ok" if is_online else "unavailable",
                listener=listener,
                schema="ok" if self._backend.is_open else "unknown",
            )
        )
        answer.set_status(200 if is_online else 503)
        return answer
