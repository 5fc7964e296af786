"""How many things one person has under way at once: a few at a time, some in line, and no more.

Guarantee: what one person asks for takes no more than their share, however often they ask, and nobody waits in
somebody else's line. Nothing is kept of whoever has nothing under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["LineFull", "Turns"]


class LineFull(Exception):
    """As many wait already as may."""


class Turns:
    """`at_once` of one person go on, `waiting` more wait for them."""

    def __init__(self, *, at_once: int, waiting: int) -> None:
        self._at_once = at_once
        self._waiting = waiting
        self._lines: dict[str, _Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    @asynccontextmanager
    async def take(self, user_id: str) -> AsyncIterator[None]:
        """A turn for as long as the block takes. Raises LineFull at once."""
        line = self._lines.get(user_id) or _Line(self._at_once)
        if line.there >= self._at_once + self._waiting:
            raise LineFull
        self._lines[user_id] = line
        line.there += 1
        try:
            async with line.turns:
                yield
        finally:
            line.there -= 1
            if not line.there:
                del self._lines[user_id]


class _Line:
    def __init__(self, at_once: int) -> None:
        self.turns = asyncio.Semaphore(at_once)
        self.there = 0
