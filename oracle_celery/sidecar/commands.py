"""The REST endpoints that change something, and what came of it: body in, one call of `Control`, JSON out.

Every command passes the actor on: what they may see and do is decided in SQL, and written into the audit with the
command itself. A body is read strictly: a field that is not understood is a 400 that names it, because an option with a
typing error must not silently be another command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from oracle_celery.control import Control
from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import Bulk, BulkOptions, BulkPreview, RetryChanges
from oracle_celery.errors import BadBody
from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.auth import actor_of, viewer_of
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.bodies import (
    BulkBody,
    CancelBody,
    PauseBody,
    ResumeBody,
    RetryBody,
    body_of,
)
from oracle_celery.sidecar.limits import refuse_for_now
from oracle_celery.sidecar.parameters import LAST_BIGINT, Parameters, task_id_of
from oracle_celery.sidecar.turns import LineFull, Turns

__all__ = ["BulkList", "Commands"]

AUDIT_LIMIT = 200
AUDIT_DEFAULT = 50
ITEMS_LIMIT = 1_000
ITEMS_DEFAULT = 100
BULKS_LIMIT = 100
BULKS_DEFAULT = 20
#: Bulk commands that choose their tasks at the same time, of all people.
BULKS_AT_ONCE = 2
BULK_RETRY_SECONDS = 5.0
#: Milliseconds that a preview may take: some millions of tasks are looked through in that time.
PREVIEW_TIMEOUT = 15_000

Answer = TypeVar("Answer")


class BulkList(msgspec.Struct, frozen=True):
    bulks: list[Bulk]  # the newest first


class Commands:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._turns = Turns(at_once=1, waiting=1)
        self._threads = asyncio.Semaphore(BULKS_AT_ONCE)

    def routes(self) -> list[web.RouteDef]:
        return [
            # before the routes of one task: "bulk" is no task's id here
            web.post("/api/tasks/bulk", self._bulk, name="bulk"),
            web.delete("/api/tasks/{task_id:[^/]+}", self._cancel, name="cancel"),
            web.post("/api/tasks/{task_id:[^/]+}/retry", self._retry, name="retry"),
            web.get("/api/bulk", self._bulks, name="bulks"),
            web.get("/api/bulk/{bulk_id:[^/]+}", self._one_bulk, name="one_bulk"),
            web.get("/api/bulk/{bulk_id:[^/]+}/items", self._bulk_items, name="bulk_items"),
            web.post("/api/admin/queue/pause", self._pause, name="pause"),
            web.post("/api/admin/queue/resume", self._resume, name="resume"),
            web.get("/api/admin/audit", self._audit, name="audit"),
        ]

    async def _cancel(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        body = await body_of(request, CancelBody)
        answer = await asyncio.to_thread(self._control.cancel, actor_of(request), task_id_of(request), body.reason)
        return success(answer, status=200 if answer.outcome == "cancelled" else 202)

    async def _retry(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        body = await body_of(request, RetryBody)
        is_changed = not (body.args is None and body.kwargs is None and body.queue is None)
        answer = await asyncio.to_thread(
            self._control.retry,
            actor_of(request),
            task_id_of(request),
            include_cancelled=body.include_cancelled,
            force=body.force,
            changes=RetryChanges(args=body.args, kwargs=body.kwargs, queue=body.queue) if is_changed else None,
            reason=body.reason,
        )
        return success(answer, status=201)

    async def _bulk(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        body = await body_of(request, BulkBody)
        if (body.ids is None) == (body.filter is None):
            raise BadBody(detail="name the tasks either by `ids` or by a `filter`; the filter {} is all tasks")
        wanted = None if body.filter is None else body.filter.as_task_filter()
        options = BulkOptions(reason=body.reason, include_cancelled=body.include_cancelled, force=body.force)
        wish = (actor_of(request), body.action, body.ids, wanted, options, body.created_until)
        if body.dry_run:
            command: Callable[[], Bulk | BulkPreview] = partial(
                self._control.preview_bulk, *wish, patience=PREVIEW_TIMEOUT
            )
        else:
            command = partial(self._control.create_bulk, *wish)
        # Whoever asked may leave: what they asked for goes on, and so does their turn.
        working = asyncio.ensure_future(self._in_turn(viewer_of(request).user_id, command))
        working.add_done_callback(_heed)
        try:
            answer = await asyncio.shield(working)
        except LineFull:
            return refuse_for_now(
                BULK_RETRY_SECONDS, "too_many_commands", "Others of your bulk commands are under way."
            )
        return success(answer, status=200 if body.dry_run else 202)

    async def _in_turn(self, user_id: str, command: Callable[[], Answer]) -> Answer:
        """Choosing many tasks may take long: it leaves threads and connections for everything else."""
        async with self._turns.take(user_id), self._threads:
            return await asyncio.to_thread(command)

    async def _bulks(self, request: web.Request) -> web.Response:
        limit = Parameters(request, ("limit",)).number("limit", 1, BULKS_LIMIT, BULKS_DEFAULT)
        return success(BulkList(await asyncio.to_thread(self._store.bulks, viewer_of(request), limit)))

    async def _one_bulk(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        return success(await asyncio.to_thread(self._store.bulk, viewer_of(request), request.match_info["bulk_id"]))

    async def _bulk_items(self, request: web.Request) -> web.Response:
        parameters = Parameters(request, ("after", "limit", "outcome"))
        page = await asyncio.to_thread(
            self._store.bulk_items,
            *(viewer_of(request), request.match_info["bulk_id"]),
            after=parameters.number("after", 0, LAST_BIGINT, 0),
            limit=parameters.number("limit", 1, ITEMS_LIMIT, ITEMS_DEFAULT),
            outcome=parameters.one("outcome"),
        )
        return success(page)

    async def _pause(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        body = await body_of(request, PauseBody)
        answer = await asyncio.to_thread(self._control.pause, actor_of(request), body.queue, body.reason, body.until)
        return success(answer)

    async def _resume(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        body = await body_of(request, ResumeBody)
        return success(await asyncio.to_thread(self._control.resume, actor_of(request), body.queue, body.reason))

    async def _audit(self, request: web.Request) -> web.Response:
        parameters = Parameters(request, ("limit", "before", "actor", "action", "task_id"))
        page = await asyncio.to_thread(
            self._store.audit,
            viewer_of(request),
            actor=parameters.one("actor"),
            action=parameters.one("action"),
            task_id=parameters.one("task_id"),
            before=parameters.number("before", 1, LAST_BIGINT, LAST_BIGINT),
            limit=parameters.number("limit", 1, AUDIT_LIMIT, AUDIT_DEFAULT),
        )
        return success(page)

    @property
    def _control(self) -> Control:
        return self._backend.parts.control

    @property
    def _store(self) -> ControlStore:
        return self._backend.parts.control_store


def _heed(working: asyncio.Future[Any]) -> None:
    """What it raised is told to whoever asked, where they still are; asyncio need not complain that nobody was."""
    if not working.cancelled():
        working.exception()
