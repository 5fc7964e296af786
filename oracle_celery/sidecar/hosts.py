"""Answers only requests that were addressed to this sidecar by one of its own names.

A page of somebody else may make its own name resolve to 127.0.0.1 and would then read the dashboard as its own
content (DNS rebinding). The browser still sends that page's name in Host, so it is refused before anything else runs.
Ports are not compared: a tunnel may end on any port, and a rebinding page cannot choose the name.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from aiohttp.typedefs import Middleware

from oracle_celery.sidecar.answers import failure

__all__ = ["LOOPBACK_NAMES", "only_hosts"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


def only_hosts(names: Iterable[str]) -> Middleware:
    """A middleware; the outermost one."""
    allowed = frozenset(name.lower() for name in names)

    @web.middleware
    async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None or match[1].lower() not in allowed:
            return failure(421, "wrong_host", "This server does not answer to that name.")
        return await handler(request)

    return check_host
