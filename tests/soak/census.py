"""What a process holds, told by the kernel: memory, descriptors by what they lead to, threads; and what lies on disk.

Guarantee: nothing is asked of Oracle. What bites: the kernel shares pages of forked processes among them (PSS), so a
sibling that comes or goes moves a process's share a little.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

__all__ = ["Census", "take"]

KIBIBYTE = 1024
#: Of /proc/net/tcp: columns of the two addresses, and of the socket's inode.
LOCAL, REMOTE, INODE = 1, 2, 9


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """One process at one moment."""

    pss: int  # bytes: its share of what it maps,
    rss: int  # and all of it
    threads: int
    #: Descriptors: "postgresql", "broker", "http", "journal" (one that is still there), "deleted journal", or what the
    #: kernel calls them ("socket", "pipe", "file", …).
    descriptors: dict[str, int]


def take(pid: int, ports: Mapping[int, str]) -> Census | None:
    """None where the process is gone. `ports` names what listens at a port."""
    try:
        memory = _memory(pid)
        descriptors = Counter(_kinds(pid, ports))
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Census(pss=memory["Pss"], rss=memory["Rss"], threads=threads, descriptors=dict(descriptors))


def _memory(pid: int) -> dict[str, int]:
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size = line.split()[:2]
        found[name.rstrip(":")] = int(size) * KIBIBYTE
    if "Pss" not in found:
        raise ProcessLookupError(pid)  # it is ending: it maps nothing any more
    return found


def _kinds(pid: int, ports: Mapping[int, str]) -> list[str]:
    sockets = _sockets(ports)
    kinds = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one by which we look, or one just closed
            target = os.readlink(entry.path)
            kind, _, inode = target.partition(":")
            if kind == "socket":
                kinds.append(sockets.get(inode.strip("[]"), "socket"))
            elif "/journal/" in target:
                kinds.append("deleted journal" if target.endswith(" (deleted)") else "journal")
            else:
                kinds.append("file" if target.startswith("/") else kind)
    return kinds


def _sockets(ports: Mapping[int, str]) -> dict[str, str]:
    """Inodes of those TCP sockets that lead from or to one of the ports."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                for address in (columns[LOCAL], columns[REMOTE]):
                    name = ports.get(int(address.rpartition(":")[2], 16))
                    if name is not None:
                        found[columns[INODE]] = name
    return found
