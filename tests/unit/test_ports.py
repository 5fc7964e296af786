"""Ports of tests: below those of outgoing connections, each process's own, and free."""

from __future__ import annotations

import itertools
import socket

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
