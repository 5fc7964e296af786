"""How fast something grows, whatever single samples say: the median of the slopes between all pairs of samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

__all__ = ["HOUR", "slope"]

HOUR = 3_600.0
#: Pairs closer than this share of the whole time tell more of the noise than of the growth.
CLOSEST_SHARE = 0.2


def slope(samples: Sequence[tuple[float, float]]) -> float | None:
    """Of (seconds, amount), an hour's growth. None where there is nothing to tell from."""
    if len(samples) < 2:
        return None
    closest = (samples[-1][0] - samples[0][0]) * CLOSEST_SHARE
    found = [
        (after - before) / (later - earlier)
        for number, (earlier, before) in enumerate(samples)
        for later, after in samples[number + 1 :]
        if later - earlier > closest
    ]
    return statistics.median(found) * HOUR if found else None
