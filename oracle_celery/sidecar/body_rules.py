"""Which bodies are let in at all, decided by the head of a request, before a byte of its body is read.

JSON only: no form of another site's page can send that without our consent, and no parser of multipart is ever
reached. Nothing compressed: a few bytes must not become gigabytes. With a length, because only that can be refused
before it has come; and no longer than the route needs, because everybody may send to some of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from oracle_celery.sidecar.answers import failure
from oracle_celery.sidecar.bodies import BODY_LIMIT_BYTES

__all__ = ["SMALL_BODY_LIMIT_BYTES", "check_body"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SMALL_BODY_LIMIT_BYTES = 64 * 1024
#: Names of the routes that take many ids, or a task's arguments.
LARGE_BODY_ROUTES = frozenset({"bulk", "retry"})


@web.middleware
async def check_body(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.match_info.http_exception is None:  # else nothing reads it
        refused = _refusal(request)
        if refused is not None:
            return refused
    return await handler(request)


def _refusal(request: web.Request) -> web.Response | None:
    if "Content-Encoding" in request.headers:
        return failure(415, "compressed", "Send the body as it is, without Content-Encoding.")
    if "Transfer-Encoding" in request.headers:
        return failure(411, "length_required", "Send the body in one piece, with its Content-Length.")
    if not request.body_exists and request.method != "POST":  # a form may be sent empty
        return None
    if request.content_type != "application/json":
        return failure(415, "not_json", "Send JSON, with the header Content-Type: application/json.")
    limit = BODY_LIMIT_BYTES if request.match_info.route.name in LARGE_BODY_ROUTES else SMALL_BODY_LIMIT_BYTES
    if (request.content_length or 0) > limit:
        return failure(413, "too_large", f"The body may have {limit} bytes at most.")
    return None
