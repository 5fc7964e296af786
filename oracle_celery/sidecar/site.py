"""An address that the sidecar listens on, which bears a crowd that comes at once.

The system keeps thousands of new connections for us, so that no client has to try again a second later (and then three,
and seven: what does not fit is dropped without a word). We take them few at a time: asyncio takes as many at once as
may wait, before it has read a byte of any, and beyond a bound those that have sent nothing make room for others.
"""

from __future__ import annotations

from aiohttp import web

__all__ = ["Site"]

#: Connections that the system keeps for us until we take them, as far as its own limit (net.core.somaxconn) allows.
KEPT_CONNECTIONS = 8_192
#: Those that are taken before what they have sent is looked at.
TAKEN_AT_ONCE = 64


class Site(web.TCPSite):
    __slots__ = ()

    def __init__(self, runner: web.BaseRunner, host: str, port: int) -> None:
        super().__init__(runner, host, port, backlog=TAKEN_AT_ONCE)

    async def start(self) -> None:
        await super().start()
        for listening in getattr(self._server, "sockets", ()):
            with listening.dup() as socket:  # the same one for the system; asyncio's own has no such method
                socket.listen(KEPT_CONNECTIONS)
