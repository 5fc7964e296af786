"""One thing that the doctor looked at: what was found, and what to do about it."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Finding", "attention", "fine", "wrong"]

Grade = Literal["fine", "attention", "wrong"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    grade: Grade
    about: str  # broker, database, clock, journal, workers, queues or settings
    found: str
    advice: str | None = None  # what to do; None where all is fine


def fine(about: str, found: str) -> Finding:
    return Finding(grade="fine", about=about, found=found)


def attention(about: str, found: str, advice: str) -> Finding:
    return Finding(grade="attention", about=about, found=found, advice=advice)


def wrong(about: str, found: str, advice: str) -> Finding:
    return Finding(grade="wrong", about=about, found=found, advice=advice)
