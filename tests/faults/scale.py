"""How large the storms are: a short form for every run of the tests, the full one with ORACLE_FAULTS=full."""

from __future__ import annotations

import os

__all__ = ["is_full", "scaled"]


def scaled(short: int, full: int) -> int:
    """The number for this run; ``make faults-full`` asks for the full one."""
    return full if is_full() else short


def is_full() -> bool:
    return os.environ.get("ORACLE_FAULTS") == "full"
