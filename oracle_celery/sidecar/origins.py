"""Refuses what a page of somebody else makes a browser ask for.

A browser adds the cookie of a session to whatever it sends, so a request that changes something must come from our own
page. A browser says so in Sec-Fetch-Site, which no page can forge; where that header is missing, as it is without
https, Origin must be an address of ours. A program sends neither, and has no cookie that somebody could misuse.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from oracle_celery.sidecar.answers import failure

__all__ = ["READING_METHODS", "refuse_other_sites"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

READING_METHODS = frozenset({"GET", "HEAD"})
#: What a browser says of a request that our own page, or a person at the address bar, makes.
OWN_SITES = frozenset({"same-origin", "none"})

_DEFAULT_PORT = re.compile(r"^(http://.*):80$|^(https://.*):443$")


def refuse_other_sites(public_url: str | None) -> Middleware:
    """A middleware. `public_url`: where browsers find us through a proxy that writes a Host of its own."""

    @web.middleware
    async def check_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in READING_METHODS and not _is_own(request, public_url):
            return failure(403, "cross_site", "A page of another site asked for this. Only Oracle's own page may.")
        return await handler(request)

    return check_origin


def _is_own(request: web.Request, public_url: str | None) -> bool:
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if sites:
        return len(sites) == 1 and sites[0] in OWN_SITES
    origins = request.headers.getall("Origin", [])
    if not origins:
        return True
    host = request.headers.get("Host", "")
    ours = {_normal(f"{scheme}://{host}") for scheme in ("http", "https")}
    if public_url is not None:
        ours.add(_normal(public_url))
    return len(origins) == 1 and _normal(origins[0]) in ours


def _normal(origin: str) -> str:
    """As browsers write it: small letters, no port where it is the scheme's."""
    match = _DEFAULT_PORT.match(origin.lower())
    return (match[1] or match[2]) if match else origin.lower()
