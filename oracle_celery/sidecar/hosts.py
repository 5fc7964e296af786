"""Answers only requests that were addressed to this sidecar by one of its own names.

A page of somebody else may make its own name resolve to 127.0.0.1 and would then read the dashboard as its own
content (DNS rebinding). The browser still sends that page's name in Host, so it is refused before anything else runs.
Ports are not compared: a tunnel may end on any port, and a rebinding page cannot choose the name.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from oracle_celery.errors import ConfigurationError
from oracle_celery.settings import Settings
from oracle_celery.sidecar.answers import failure

__all__ = ["LOOPBACK_NAMES", "names_of", "only_hosts"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


def names_of(host: str, settings: Settings) -> frozenset[str]:
    """What a sidecar that listens on `host` answers to. Raises ConfigurationError where nobody could reach it by it."""
    configured = set(settings.hosts)
    if settings.public_url is not None:
        configured.add(urlsplit(settings.public_url).netloc.rpartition("@")[2])
    names = {match[1] for name in configured if (match := _HOST.fullmatch(name))}
    if not _is_every_address(host):
        names.add(f"[{host}]" if ":" in host else host)
    elif not names:
        raise ConfigurationError(
            setting="--host",
            value=host,
            expected="say by which name browsers reach it, in oracle_public_url or oracle_hosts: it listens on every "
            "address, and answers to names that it knows",
        )
    return LOOPBACK_NAMES | {name.lower() for name in names}


def _is_every_address(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return not host


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
