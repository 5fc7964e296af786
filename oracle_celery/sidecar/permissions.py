"""Who may call which route: one table for all of them, and the gate that applies it after `identify`.

Guarantee: a handler runs only where the rule of its route allows the viewer, and the sidecar does not start with a
route that has no rule. What bites: a rule says what somebody may do at all. Which tasks, and whether with their
arguments and results, is decided in SQL: a foreign task is answered as one that does not exist, never with a refusal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum

from aiohttp import web

from oracle_celery.errors import AdminsOnly, NotAuthenticated, ReadOnly
from oracle_celery.sidecar.auth import VIEWER
from oracle_celery.viewer import Viewer

__all__ = ["RULES", "Rule", "is_public", "permit", "require_rules"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rule(Enum):
    """Whom a route serves."""

    PUBLIC = "whoever reaches the sidecar"
    ANYBODY = "whoever has said who they are"
    CONTROL = "who may change something: anybody but readers"
    OVERSIGHT = "who sees everything: admins and readers"
    ADMIN = "admins"


#: By the route's name.
RULES: Mapping[str, Rule] = {
    "page": Rule.PUBLIC,
    "asset": Rule.PUBLIC,
    "healthz": Rule.PUBLIC,
    "readyz": Rule.PUBLIC,
    "begin_session": Rule.PUBLIC,
    "end_session": Rule.PUBLIC,
    "session": Rule.ANYBODY,
    "tasks": Rule.ANYBODY,
    "subscribe": Rule.ANYBODY,
    "task": Rule.ANYBODY,
    "logs": Rule.ANYBODY,
    "follow_logs": Rule.ANYBODY,
    "download_logs": Rule.ANYBODY,
    "progress": Rule.ANYBODY,
    "summary": Rule.ANYBODY,
    "statistics": Rule.ANYBODY,
    "task_types": Rule.ANYBODY,
    "queue_statistics": Rule.OVERSIGHT,
    "workers": Rule.ANYBODY,
    "queues": Rule.ANYBODY,
    "failures": Rule.ANYBODY,
    "failure": Rule.ANYBODY,
    "values": Rule.ANYBODY,
    "counts": Rule.ANYBODY,
    "openapi": Rule.ANYBODY,
    "bulks": Rule.ANYBODY,
    "one_bulk": Rule.ANYBODY,
    "bulk_items": Rule.ANYBODY,
    "cancel": Rule.CONTROL,
    "retry": Rule.CONTROL,
    "bulk": Rule.CONTROL,
    "audit": Rule.OVERSIGHT,
    "schedule": Rule.OVERSIGHT,
    "metrics": Rule.OVERSIGHT,
    "retention": Rule.ADMIN,
    "pause": Rule.ADMIN,
    "resume": Rule.ADMIN,
}


def is_public(request: web.Request) -> bool:
    """Whether it does not matter who asks. That an address does not exist is nobody's secret."""
    return request.match_info.http_exception is not None or RULES[_name(request.match_info.route)] is Rule.PUBLIC


@web.middleware
async def permit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raises NotAuthenticated, ReadOnly or AdminsOnly before the handler has seen anything of the request."""
    if request.match_info.http_exception is None:  # else there is no such route, for nobody
        _check(RULES[_name(request.match_info.route)], request.get(VIEWER))
    return await handler(request)


def require_rules(application: web.Application) -> None:
    """To be called when all routes are there. Raises RuntimeError: one without a rule must not be served."""
    lacking = sorted({str(route) for route in application.router.routes() if _name(route) not in RULES})
    if lacking:
        raise RuntimeError(f"Say in sidecar/permissions.py who may call: {', '.join(lacking)}")


def _check(rule: Rule, viewer: Viewer | None) -> None:
    if rule is Rule.PUBLIC:
        return
    if viewer is None:
        raise NotAuthenticated(detail="send a token, or open a session")
    if rule in (Rule.CONTROL, Rule.ADMIN) and not viewer.may_control:
        raise ReadOnly
    if rule is Rule.ADMIN and not viewer.is_admin:
        raise AdminsOnly
    if rule is Rule.OVERSIGHT and not viewer.sees_everything:
        raise AdminsOnly


def _name(route: web.AbstractRoute) -> str:
    return route.name or ""
