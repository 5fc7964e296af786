"""Who is asking: decided here and nowhere else, before any handler runs.

A program sends its token as ``Authorization: Bearer``; a browser has it in a cookie (`session`). A bad token in the
header is not made good by the cookie. What a viewer may do is said in `permissions`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from oracle_celery.errors import NotAuthenticated
from oracle_celery.sidecar.session_cookie import SessionCookie
from oracle_celery.sidecar.tokens import Tokens
from oracle_celery.viewer import Actor, Viewer

__all__ = ["VIEWER", "actor_of", "identify", "viewer_of"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VIEWER = web.RequestKey("viewer", Viewer)


def identify(tokens: Tokens, cookie: SessionCookie, is_public: Callable[[web.Request], bool]) -> Middleware:
    """A middleware that knows the viewer, or lets nothing happen. What is public is served whatever a request brings:
    an old cookie must not keep anybody from the login."""

    @web.middleware
    async def find_viewer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_public(request):
            request[VIEWER] = await tokens.viewer(_token_of(request, cookie))
        return await handler(request)

    return find_viewer


def viewer_of(request: web.Request) -> Viewer:
    """The viewer that `identify` found."""
    return request[VIEWER]


def actor_of(request: web.Request) -> Actor:
    """The same, as the one who acts."""
    return Actor(viewer=viewer_of(request), via="http", address=request.remote)


def _token_of(request: web.Request, cookie: SessionCookie) -> str:
    """A browser adds Basic by itself where a proxy has asked for a password: that is not meant for us."""
    headers = [value for value in request.headers.getall("Authorization", []) if value[:6].lower() != "basic "]
    if not headers:
        token = cookie.token(request)
        if token is None:
            raise NotAuthenticated(
                detail="open the link that the sidecar printed, or send Authorization: Bearer <token>"
            )
        return token
    scheme, _, token = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() != "bearer":
        raise NotAuthenticated(detail="send one header, Authorization: Bearer <token>")
    return token.strip()
