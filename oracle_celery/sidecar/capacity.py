"""How many connections this process can hold, and for what.

Guarantee: streams leave room for everything else, and everything else for streams. A connection is an open file, and a
process that has none left cannot even accept the connection that it wants to refuse, so the bound is below the limit
of the operating system, which is raised first as far as it allows.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

__all__ = ["Capacity", "capacity_for"]

#: For the database, the broker, our own files.
RESERVED_FILES = 256
#: Connections that are no streams.
OTHERS_LIMIT = 2_048


class Capacity(NamedTuple):
    connections: int
    streams: int
    #: Connections without a whole request.
    waiting: int


def capacity_for(streams: int) -> Capacity:
    """What there is for so many streams; fewer where the operating system allows fewer files."""
    wanted = streams + OTHERS_LIMIT
    connections = max(8, min(wanted, _files(wanted + RESERVED_FILES) - RESERVED_FILES))
    others = min(OTHERS_LIMIT, connections // 4)
    return Capacity(connections, min(streams, connections - others), others // 2)


def _files(wanted: int) -> int:
    """The limit of open files after it was raised to `wanted`, if it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
