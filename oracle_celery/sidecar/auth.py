"""Who is asking: decided here and nowhere else, before any handler runs.

For now the sidecar listens on loopback only and everybody on this machine is its admin. Authorisation replaces the
inside of `viewer_of_request`; every reader already takes the `Viewer` that it returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from oracle_celery.viewer import LOCAL_ADMIN, Viewer

__all__ = ["identify", "viewer_of"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VIEWER = web.RequestKey("viewer", Viewer)


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[VIEWER] = _viewer_of_request(request)
    return await handler(request)


def viewer_of(request: web.Request) -> Viewer:
    """The viewer that `identify` found."""
    return request[VIEWER]


def _viewer_of_request(request: web.Request) -> Viewer:  # noqa: ARG001  # authorisation reads its headers
    return LOCAL_ADMIN
