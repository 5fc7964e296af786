"""One measured figure beside its target, and the table that shows them.

What bites: a figure is the median of its samples, one a round, so that one bad moment of the machine decides nothing;
what varies within a round (a percentile of many events) is the part's own business and becomes one sample.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from enum import StrEnum

import msgspec

__all__ = ["Comparison", "Figure", "told"]


class Comparison(StrEnum):
    """Which side of the target is the good one."""

    AT_MOST = "≤"
    AT_LEAST = "≥"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, in `unit`; `target` is None where the figure only explains others."""

    name: str
    unit: str
    samples: tuple[float, ...]
    target: float | None = None
    comparison: Comparison = Comparison.AT_MOST
    #: What a reader must know to compare it, in one line.
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the largest sample."""
        return min(self.samples), max(self.samples)

    @property
    def is_met(self) -> bool | None:
        """None where there is no target."""
        if self.target is None:
            return None
        return self.median <= self.target if self.comparison is Comparison.AT_MOST else self.median >= self.target


def told(title: str, figures: Iterable[Figure]) -> str:
    """A table for a person."""
    head = f"{'':<58}{'median':>12}  {'least … largest':<23}{'target':>11}"
    return "\n".join([f"\n{title}", head, *(_line(figure) for figure in figures)])


def _line(figure: Figure) -> str:
    least, largest = figure.spread
    spread = "" if len(figure.samples) == 1 else f"{_number(least)} … {_number(largest)}"
    target = "" if figure.target is None else f"{figure.comparison} {_number(figure.target)}"
    verdict = {True: "met", False: "NOT MET", None: ""}[figure.is_met]
    line = f"  {figure.name + ', ' + figure.unit:<56}{_number(figure.median):>12}  {spread:<23}{target:>11}  {verdict}"
    return line.rstrip() + (f"\n      {figure.note}" if figure.note else "")


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 100 else f"{value:.3g}"
