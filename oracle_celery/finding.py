"""One thing that the doctor looked at: what was found, and what to do about it. `docs/doctor.md` explains each code."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Finding", "attention", "fine", "size", "wrong"]

Grade = Literal["fine", "attention", "wrong"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    grade: Grade
    code: str  # "<about>/<what>", the same in every version
    about: str  # broker, database, clock, journal, workers, queues or settings
    found: str
    advice: str | None = None  # what to do; None where all is fine


def fine(code: str, found: str) -> Finding:
    return Finding(grade="fine", code=code, about=_about(code), found=found)


def attention(code: str, found: str, advice: str) -> Finding:
    return Finding(grade="attention", code=code, about=_about(code), found=found, advice=advice)


def wrong(code: str, found: str, advice: str) -> Finding:
    return Finding(grade="wrong", code=code, about=_about(code), found=found, advice=advice)


def _about(code: str) -> str:
    return code.partition("/")[0]


def size(count: float) -> str:
    """Bytes, in words."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
