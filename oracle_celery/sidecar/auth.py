"""Who is asking: decided here and nowhere else, before any handler runs.

A program sends its token as ``Authorization: Bearer``; a browser has it in a cookie (`session`). A bad token in the
header is not made good by the cookie. What a viewer may do is said in `permissions`.

Whoever brings `oracle_metrics_token` reads metrics: on every other route the same secret is a bad token.
"""

from __future__ import annotations

import hmac
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

#: The route that oracle_metrics_token opens, and who it is that comes with it.
METRICS = "metrics"
SCRAPER = Viewer(user_id="metrics", is_reader=True, sees_payloads=False)


def identify(
    tokens: Tokens, cookie: SessionCookie, is_public: Callable[[web.Request], bool], metrics_token: str | None = None
) -> Middleware:
    """A middleware that knows the viewer, or lets nothing happen. What is public is served whatever a request brings:
    an old cookie must not keep anybody from the login."""

    @web.middleware
    async def find_viewer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_public(request):
            token = _token_of(request, cookie)
            is_scrape = metrics_token is not None and _is_scrape(request, token, metrics_token)
            request[VIEWER] = SCRAPER if is_scrape else await tokens.viewer(token)
        return await handler(request)

    return find_viewer


def viewer_of(request: web.Request) -> Viewer:
    """The viewer that `identify` found."""
    return request[VIEWER]


def actor_of(request: web.Request) -> Actor:
    """The same, as the one who acts."""
    return Actor(viewer=viewer_of(request), via="http", address=request.remote)


def _is_scrape(request: web.Request, token: str, metrics_token: str) -> bool:
    """The comparison takes as long for a good beginning as for a bad one."""
    is_same = hmac.compare_digest(token.encode(errors="replace"), metrics_token.encode())
    return is_same and request.match_info.route.name == METRICS


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
