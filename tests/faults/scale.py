"""How large the storms are: a short form for every run of the tests, the full one with ORACLE_FAULTS=full."""

from __future__ import annotations

import os

__all__ = ["scaled"]


def scaled(short: int, full: int) -> int:
    """The number for this run; ``make faults-full`` asks for the full one."""
    return full if os.environ.get("ORACLE_FAULTS") == "full" else short
