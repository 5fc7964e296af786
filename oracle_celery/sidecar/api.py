"""The REST endpoints: query string in, one call of `Queries`, JSON out.

Every call passes the viewer on; what a viewer may see is decided in SQL. A query that is not understood is a 400 that
names the parameter and what it may be.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

import msgspec
from aiohttp import web

from oracle_celery.database.control_facts import AuditEntry, TaskControl
from oracle_celery.database.facts import Task
from oracle_celery.database.failure_facts import SimilarFailures
from oracle_celery.database.lineage import Lineage
from oracle_celery.database.queries import SORT_KEYS, TaskDetail, TaskFilter
from oracle_celery.database.query_language import parse_query
from oracle_celery.sidecar.answers import success
from oracle_celery.sidecar.auth import viewer_of
from oracle_celery.sidecar.backend import Backend
from oracle_celery.sidecar.parameters import Parameters, bad, task_id_of
from oracle_celery.states import Status
from oracle_celery.trace_link import Trace, TraceLink
from oracle_celery.waiting import Waiting

__all__ = ["Api", "TaskAnswer"]

FILTERS = ("status", "name", "user", "queue", "worker", "id")
STATUS_WORDS = tuple(status.word for status in Status)
DEFAULT_SORT = "-created_at"
TASKS_LIMIT = 200
TASKS_DEFAULT = 50
#: The newest audit entries of a task.
AUDIT_SHOWN = 50


class TaskAnswer(TaskDetail, frozen=True, kw_only=True):
    """One task: what is known of it, what may be done with it and what has been, and why it waits."""

    control: TaskControl
    audit: list[AuditEntry]  # the newest first
    waiting: Waiting | None  # of a pending task
    similar: SimilarFailures | None  # of a failed one
    lineage: Lineage
    trace_url: str | None = None  # where its trace is shown; null for one that was not sampled


class Api:
    def __init__(self, backend: Backend, trace_link: TraceLink | None = None) -> None:
        self._backend = backend
        self._trace_link = trace_link

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/tasks", self._tasks, name="tasks"),
            web.get("/api/tasks/subscribe", self._subscribe, name="subscribe", allow_head=False),
            # aiohttp's own pattern takes no braces, and an id may hold any character (a slash comes as %2F)
            web.get("/api/tasks/{task_id:[^/]+}", self._task, name="task"),
            web.get("/api/summary", self._summary, name="summary"),
        ]

    async def _tasks(self, request: web.Request) -> web.Response:
        parameters = Parameters(request, (*FILTERS, "q", "sort", "limit", "page"))
        wanted = TaskFilter(
            status=tuple(Status.from_word(word) for word in parameters.words("status", STATUS_WORDS)),
            name=parameters.alternatives("name"),
            user=parameters.alternatives("user"),
            queue=parameters.alternatives("queue"),
            worker=parameters.alternatives("worker"),
            id=parameters.alternatives("id"),
            q=parse_query(parameters.one("q") or ""),
        )
        sort = parameters.one("sort") or DEFAULT_SORT
        if sort.removeprefix("-") not in SORT_KEYS:
            raise bad("sort", sort, [sign + key for key in SORT_KEYS for sign in ("", "-")])
        limit = parameters.number("limit", 1, TASKS_LIMIT, TASKS_DEFAULT)
        page = parameters.one("page")
        return success(await self._backend.parts.queries.list_tasks(viewer_of(request), wanted, sort, limit, page))

    async def _task(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        viewer, task_id, parts = viewer_of(request), task_id_of(request), self._backend.parts
        detail, lineage, control, audit, similar = await asyncio.gather(
            parts.queries.task(viewer, task_id),
            parts.lineage.of(viewer, task_id),
            asyncio.to_thread(parts.control_store.preflight, viewer, task_id),
            asyncio.to_thread(parts.control_store.audit, viewer, task_id=task_id, limit=AUDIT_SHOWN),
            parts.failures.alike(viewer, task_id),
        )
        return success(
            TaskAnswer(
                **msgspec.structs.asdict(detail),
                control=control,
                audit=audit.entries,
                waiting=await parts.fleet.waiting(viewer, detail.task),
                similar=similar,
                lineage=lineage,
                trace_url=self._trace_url(detail.task),
            )
        )

    def _trace_url(self, task: Task) -> str | None:
        if self._trace_link is None or task.trace_id is None or task.trace_sampled is False:
            return None
        end = _moment(task.finished_at) if task.finished_at else time.time()
        return self._trace_link.address(Trace(task.trace_id, task.span_id, _moment(task.created_at), end))

    async def _summary(self, request: web.Request) -> web.Response:
        Parameters(request, ())
        return success(await self._backend.parts.queries.summary(viewer_of(request)))

    async def _subscribe(self, request: web.Request) -> web.StreamResponse:
        return await self._backend.parts.streams.subscribe(request)


def _moment(instant: str) -> float:
    """Seconds since the epoch."""
    return datetime.fromisoformat(instant).timestamp()
