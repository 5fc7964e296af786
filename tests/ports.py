"""Ports for servers that a test starts, and starts again: nobody else is given one of them meanwhile.

Asking the kernel for any port gives one of those that it also gives to outgoing connections, and to whatever the other
processes of a run ask for: it may be taken before the server listens, or while it is being restarted. These lie below
that range, each process of a run has its own, and none comes twice before all have been had. A port that was given out
is locked for everybody else until this process ends: runs side by side on a machine would begin with the same ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import random
import re
import socket
import tempfile
import threading
from pathlib import Path

__all__ = ["free_port"]

HOST = "127.0.0.1"
#: Most services of a machine lie below, and the last port that browsers refuse to speak to: 10080.
FIRST = 11_000
#: Where Linux's ports for outgoing connections begin, unless it is told otherwise.
USUAL_END = 32_768
#: Processes of a run that have ports of their own; the first is for one that does not share its work.
SHARES = 16
#: Fewer ports than this for a process would soon come again.
LEAST_EACH = 200
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")

_lock = threading.Lock()


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with _lock:
        for port in itertools.islice(_candidates, len(_OWN)):
            if _is_free(port) and _is_ours(port):
                return port
    raise AssertionError(f"not one of the ports {_OWN.start} to {_OWN.stop - 1} is free: end what listens there")


def share(worker: str, end: int) -> range:
    """The ports of xdist's process `worker` ('' for the only one), below `end`."""
    number = re.fullmatch(r"gw(\d+)", worker)
    place = 0 if number is None else 1 + int(number[1]) % (SHARES - 1)
    each = (end - FIRST) // SHARES
    return range(FIRST + place * each, FIRST + (place + 1) * each)


def ephemeral_begin() -> int:
    """The first port that outgoing connections are given; the usual one where too few would be left below it."""
    try:
        begin = int(EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return USUAL_END
    return begin if begin >= FIRST + SHARES * LEAST_EACH else USUAL_END


def _is_free(port: int) -> bool:
    with socket.socket() as probe:  # without SO_REUSEADDR: one whose connections have not died away is not free either
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _is_ours(port: int) -> bool:
    locks = _locks()
    if locks is None:
        return True
    try:
        fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def _locks() -> int | None:
    """A file of which each byte stands for a port; open until the process ends, which lets go of its locks."""
    path = Path(tempfile.gettempdir(), "oracle-tests-ports")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:  # somebody else's, who does not share it
        return None
    with contextlib.suppress(OSError):
        path.chmod(0o666)
    return descriptor


_OWN = share(os.environ.get("PYTEST_XDIST_WORKER", ""), ephemeral_begin())
#: Another run on this machine begins somewhere else.
_first = random.SystemRandom().randrange(len(_OWN))
_candidates = itertools.cycle([*_OWN[_first:], *_OWN[:_first]])
