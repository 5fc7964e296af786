"""Ports of tests: below those of outgoing connections, each process's own, and free."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys

import pytest

from tests import ports

LAST_THAT_BROWSERS_BLOCK = 10_080


def test_every_process_has_its_own() -> None:
    """No two of a run's processes share a port, and none has one of the kernel's."""
    shares = [ports.share(worker, 32_768) for worker in ("", *(f"gw{number}" for number in range(ports.SHARES - 1)))]
    assert all(not set(one) & set(other) for one, other in itertools.combinations(shares, 2))
    assert {len(share) >= ports.LEAST_EACH for share in shares} == {True}
    assert (min(map(min, shares)), max(map(max, shares)) < 32_768) == (ports.FIRST, True)
    assert ports.FIRST > LAST_THAT_BROWSERS_BLOCK


@pytest.mark.parametrize("address", ["127.0.0.1", ""])
def test_a_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Whether somebody listens there alone or at every address."""
    with socket.socket() as other:
        taken, free = ports.free_port(), ports.free_port()
        other.bind((address, taken))
        other.listen()
        monkeypatch.setattr(ports, "_candidates", itertools.cycle([taken, free]))
        assert ports.free_port() == free


#: Is given a port of two, says which, and runs until it is told to end.
OTHER_RUN = """
import itertools, sys
from tests import ports
ports._candidates = itertools.cycle(map(int, sys.argv[1:]))
print(ports.free_port(), flush=True)
sys.stdin.read()
"""


def test_a_port_that_another_run_was_given_is_passed_over() -> None:
    """Nobody listens there yet, or not at this moment; once that run has ended, it may be had again."""
    # neither a run's nor the kernel's, and other than those of the same test beside this one
    first = LAST_THAT_BROWSERS_BLOCK + 2 * (os.getpid() % 400)
    second = first + 1

    def run() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", OTHER_RUN, str(first), str(second)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(other: subprocess.Popen[str]) -> int:
        assert other.stdout is not None
        return int(other.stdout.readline())

    with run() as early:
        assert told(early) == first
        with run() as late:
            assert told(late) == second
    with run() as later:
        assert told(later) == first
