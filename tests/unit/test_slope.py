"""The soak's table: what grows is found in noise, and what was not measured is not called good."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.soak.__main__ import MEGABYTE, figures
from tests.soak.slope import slope

MINUTES = 60
LEVEL = 70 * MEGABYTE


def _run(growth: float, run: str = "one") -> list[dict[str, Any]]:
    """An hour of a sidecar that warms up, is noisy, jumps now and then, and grows by so many bytes an hour."""
    dice = random.Random(5)
    lines: list[dict[str, Any]] = [{"what": "run", "run": run, "rate": 10.0}]
    for number in range(MINUTES * 4):
        share = number / (MINUTES * 4)
        memory = LEVEL - 20 * MEGABYTE * max(0.0, 0.2 - share) + growth * share + dice.gauss(0, MEGABYTE)
        memory += 30 * MEGABYTE if dice.random() < 0.02 else 0
        census = {"pss": memory, "rss": memory, "threads": 3, "descriptors": {"file": 4}}
        lines.append({"what": "sample", "run": run, "seconds": number * 15.0, "processes": {"sidecar": census}})
    return lines


@pytest.mark.parametrize(("growth", "is_met"), [(0, True), (3 * MEGABYTE, False)])
def test_growth_is_told_from_noise(growth: float, is_met: bool) -> None:
    """A warm-up, jumps and a megabyte of noise hide no three megabytes an hour, and make none."""
    (figure,) = figures(_run(growth))
    assert figure.median == pytest.approx(growth / MEGABYTE, abs=0.5)
    assert figure.is_met is is_met


def test_the_worst_of_several_runs_counts() -> None:
    """Each by itself: a level that differs from run to run is no growth."""
    (figure,) = figures(_run(0) + _run(3 * MEGABYTE, "two"))
    assert figure.is_met is False


def test_what_is_left_over_or_late_is_not_met() -> None:
    """One line of each kind is enough, and so are streams that were never freed."""
    kinds = {"descriptors": ["sidecar: 9 http, had 1"], "threads": [], "connections": [], "journal files": []}
    end = {"what": "end", "run": "one", "leftovers": kinds, "settled": 1.0, "unfinished": 0, "sent": 9, "restarts": 1}
    end["cut_off"] = 1
    late = {"what": "abandoned", "run": "one", "streams": 10, "half_open": 5, "seconds": None}
    found = {figure.name: figure.is_met for figure in figures([end, late])}
    assert found == {
        "10 abandoned streams freed": False,
        "descriptors left over": False,
        "threads left over": True,
        "connections left over": True,
        "journal files left over": True,
        "tasks without a final status": True,
        "clients of the stream cut off": False,
    }


def test_one_moment_tells_nothing() -> None:
    """And neither does none."""
    assert slope([]) is None
    assert slope([(0.0, 1.0)]) is None
