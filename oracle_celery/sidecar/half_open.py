"""Clients that are gone without a word: their machine lost its power, their network its way. TCP alone notices after a
quarter of an hour, and a stream would be kept for nobody as long.

Guarantee: where the system can (Linux), a connection whose other end acknowledges nothing is lost within
`VANISHED_SECONDS`, whether something is being said on it or not. What bites: shorter is not better. A client that only
listens does not learn that it has been given up while its network was away, and comes back when it misses a heartbeat.
"""

from __future__ import annotations

import asyncio
import socket

__all__ = ["VANISHED_SECONDS", "notice_vanishing"]

#: Seconds of silence after which the other end's system is asked whether it is there, and between two such questions.
ASK_AFTER_SECONDS = 7
ASK_AGAIN_SECONDS = 3
#: Seconds for which what was said, or asked, may stay unacknowledged.
UNACKNOWLEDGED_SECONDS = 13
#: Seconds from a client's last acknowledgement to the end of its connection, at most: what is said just before the
#: questions would have been given up has its own time, from when it is first repeated.
VANISHED_SECONDS = 2 * UNACKNOWLEDGED_SECONDS + 1


def notice_vanishing(transport: asyncio.BaseTransport) -> None:
    """Of a connection that has just been made. Where the system cannot, its own patience stays."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", ASK_AFTER_SECONDS),
        ("TCP_KEEPINTVL", ASK_AGAIN_SECONDS),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_SECONDS * 1_000),  # milliseconds
    ):
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
