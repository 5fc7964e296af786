"""Who is asking: decided here and nowhere else, before any handler runs.

For now the sidecar listens on loopback only and everybody on this machine is its admin. Authorisation replaces the
inside of `viewer_of_request`; every reader already takes the `Viewer` that it returns.

What changes something is refused where a browser says that a page of somebody else asks for it, and a body must be
JSON: no form of another page can send that without our consent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from oracle_celery.sidecar.answers import failure
from oracle_celery.viewer import LOCAL_ADMIN, Actor, Viewer

__all__ = ["VIEWER", "actor_of", "identify", "refuse_other_sites", "viewer_of"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VIEWER = web.RequestKey("viewer", Viewer)

READING_METHODS = frozenset({"GET", "HEAD"})
#: What a browser says of a request that our own page, or a person at the address bar, makes.
OWN_SITES = frozenset({"same-origin", "none"})


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[VIEWER] = _viewer_of_request(request)
    return await handler(request)


@web.middleware
async def refuse_other_sites(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.method not in READING_METHODS and request.match_info.http_exception is None:
        if request.headers.get("Sec-Fetch-Site", "none") not in OWN_SITES:
            return failure(403, "cross_site", "A page of another site asked for this. Only Oracle's own page may.")
        has_body = request.body_exists or request.method == "POST"  # a form may be sent empty
        if has_body and request.content_type != "application/json":
            return failure(415, "not_json", "Send JSON, with the header Content-Type: application/json.")
    return await handler(request)


def viewer_of(request: web.Request) -> Viewer:
    """The viewer that `identify` found."""
    return request[VIEWER]


def actor_of(request: web.Request) -> Actor:
    """The same, as the one who acts."""
    return Actor(viewer=viewer_of(request), via="http", address=request.remote)


def _viewer_of_request(request: web.Request) -> Viewer:  # noqa: ARG001  # authorisation reads its headers
    return LOCAL_ADMIN
