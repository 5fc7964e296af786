"""How often somebody may do something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle_celery.sidecar.rate_limit import RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_the_rate() -> None:
    """Who waits as long as they were told is allowed again, once."""
    clock = Clock()
    limit = RateLimit(10, 40, clock=clock)
    assert [limit.take("u") for _ in range(40)] == [0.0] * 40
    wait = limit.take("u")
    assert wait == pytest.approx(0.1)
    assert limit.take("u") == pytest.approx(wait)
    clock.now += wait
    assert limit.take("u") == 0
    assert limit.take("u") > 0
    assert limit.take("somebody else") == 0
    clock.now += 4
    assert [limit.take("u") for _ in range(40)] == [0.0] * 40


@given(st.lists(st.floats(0, 3), max_size=200))
def test_never_more_than_burst_and_rate(pauses: list[float]) -> None:
    """In any stretch of time that begins with the first one."""
    clock = Clock()
    limit = RateLimit(2, 5, clock=clock)
    began, taken = clock.now, 0
    for pause in pauses:
        clock.now += pause
        taken += limit.take("u") == 0
        assert taken <= 5 + 2 * (clock.now - began) + 1e-6


def test_its_memory_is_bounded() -> None:
    """And whoever is over the rate, and goes on, is not forgotten for those who come once."""
    clock = Clock()
    limit = RateLimit(0.1, 1, keys_limit=100, clock=clock)
    assert limit.take("loud") == 0
    for number in range(10_000):
        assert limit.take(f"key {number}") == 0
        if number % 50 == 0:
            assert limit.take("loud") > 0
    assert len(limit) == 100
