"""Who asks too often is told to wait: 429, with the seconds in Retry-After.

A person's commands, whatever their role: a script that has gone wild must not fill the audit and the broker. Their
questions that may read many tasks: a few at a time are answered, some wait, so that one person's slow searches leave
connections to the database for everybody else. And logins
that fail, by address. A token that is good is never refused because of others that were not: behind a proxy everybody
has one address, and nobody must be able to lock the others out. An expired cookie does not count: a page has many
requests on their way when its session ends, and must learn of that.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from oracle_celery.sidecar.answers import failure
from oracle_celery.sidecar.auth import VIEWER
from oracle_celery.sidecar.origins import READING_METHODS
from oracle_celery.sidecar.rate_limit import RateLimit
from oracle_celery.sidecar.turns import LineFull, Turns

__all__ = ["limit_commands", "limit_failed_logins", "limit_reads", "refuse_for_now"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COMMANDS_PER_SECOND = 10.0
COMMANDS_AT_ONCE = 40
#: Questions of one person that are answered at the same time, and that wait for their turn. A page that opens asks ten.
READS_AT_ONCE = 4
READS_WAITING = 60
READS_RETRY_SECONDS = 1.0
#: Names of the routes that may read many tasks to answer. Streams are none: they have seats.
HEAVY_ROUTES = frozenset(
    {
        *("tasks", "task", "logs", "counts", "values", "failures", "failure", "audit", "schedule", "workers", "queues"),
        *("statistics", "task_types", "queue_statistics"),
    }
)
FAILED_LOGINS = 5
FAILED_LOGINS_SECONDS = 60.0
#: The name of the route that trades a token for a cookie.
LOGIN_ROUTE = "begin_session"
#: Of an IPv6 address: whoever has one has all of these.
NETWORK_BITS = 64


def limit_commands(limit: RateLimit | None = None) -> Middleware:
    """A middleware; the innermost one, when the viewer is known and allowed to."""
    commands = limit or RateLimit(COMMANDS_PER_SECOND, COMMANDS_AT_ONCE)

    @web.middleware
    async def count_commands(request: web.Request, handler: Handler) -> web.StreamResponse:
        viewer = request.get(VIEWER)
        if viewer is not None and request.method not in READING_METHODS:
            wait = commands.take(viewer.user_id)
            if wait:
                return refuse_for_now(wait, "too_many_commands", "Too many commands at once; a bulk is one.")
        return await handler(request)

    return count_commands


def limit_reads(turns: Turns | None = None) -> Middleware:
    """A middleware; the innermost one, when the viewer is known and allowed to."""
    reads = turns or Turns(at_once=READS_AT_ONCE, waiting=READS_WAITING)

    @web.middleware
    async def take_turns(request: web.Request, handler: Handler) -> web.StreamResponse:
        viewer = request.get(VIEWER)
        if viewer is None or request.match_info.route.name not in HEAVY_ROUTES:
            return await handler(request)
        try:
            async with reads.take(viewer.user_id):
                return await handler(request)
        except LineFull:
            message = f"{READS_AT_ONCE + READS_WAITING} questions of yours wait for an answer already."
            return refuse_for_now(READS_RETRY_SECONDS, "too_many_questions", message)

    return take_turns


def limit_failed_logins(limit: RateLimit | None = None) -> Middleware:
    """A middleware; outside of whatever answers 401."""
    failed = limit or RateLimit(FAILED_LOGINS / FAILED_LOGINS_SECONDS, FAILED_LOGINS)

    @web.middleware
    async def count_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        if answer.status != web.HTTPUnauthorized.status_code or not _has_tried(request):
            return answer
        wait = failed.take(_network(request.remote or ""))
        if wait:
            return refuse_for_now(wait, "too_many_failures", "Too many tokens from this address were no good.")
        return answer

    return count_failures


def _has_tried(request: web.Request) -> bool:
    return "Authorization" in request.headers or request.match_info.route.name == LOGIN_ROUTE


def _network(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((ip, NETWORK_BITS), strict=False)) if ip.version == 6 else address


def refuse_for_now(wait: float, code: str, message: str) -> web.Response:
    """429; `wait` are the seconds until it is worth asking again."""
    refused = failure(429, code, message)
    refused.headers["Retry-After"] = str(math.ceil(wait))
    return refused
