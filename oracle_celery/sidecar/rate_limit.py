"""How often somebody may do something: counted in memory, bounded in memory.

One number is kept for each key (the moment at which its allowance is whole again), and at most so many keys: beyond
that the one that was heard of longest ago is forgotten. So a flood of new keys costs no memory, and a single one that
is over its rate stays over it, because it keeps being heard of.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["RateLimit"]

KEYS_LIMIT = 10_000


class RateLimit:
    """`burst` times at once, then `rate` times a second."""

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        keys_limit: int = KEYS_LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 1 / rate
        self._allowance = burst * self._interval
        self._keys_limit = keys_limit
        self._clock = clock
        self._whole_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._whole_at)

    def take(self, key: str) -> float:
        """0 where it is allowed, and counted; else the seconds until it will be."""
        now = self._clock()
        whole_at = max(self._whole_at.get(key, now), now) + self._interval
        wait = whole_at - now - self._allowance
        if wait > 1e-9:
            self._whole_at.move_to_end(key)
            return wait
        self._whole_at[key] = whole_at
        self._whole_at.move_to_end(key)
        if len(self._whole_at) > self._keys_limit:
            self._whole_at.popitem(last=False)
        return 0.0
