"""How many streams are open, of all and of each person, whatever they tell.

Guarantee: every stream holds one seat from before its first byte until it has ended; who finds none free is told to
come back later. `close` asks all who sit to end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from aiohttp import web

from oracle_celery.sidecar.answers import failure
from oracle_celery.viewer import Viewer

__all__ = ["Seats", "Sitter"]

RETRY_AFTER_SECONDS = 10


class Sitter(Protocol):
    """What holds a seat."""

    def close(self) -> None: ...


class Seats:
    """`refusal` and `sit` without an await between them: nobody comes in between."""

    def __init__(self, *, limit: int, per_user: int) -> None:
        self._limit = limit
        self._per_user = per_user
        self._taken: set[Sitter] = set()
        self._of_user: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return len(self._taken)

    def refusal(self, viewer: Viewer) -> web.Response | None:
        """None where there is a seat for this viewer."""
        if len(self._taken) >= self._limit:
            return _refusal(503, f"{self._limit} streams are open here already.")
        if self._of_user[viewer.user_id] >= self._per_user:
            return _refusal(429, f"You have {self._per_user} streams open here already: close one.")
        return None

    def sit(self, viewer: Viewer, sitter: Sitter) -> None:
        self._taken.add(sitter)
        self._of_user[viewer.user_id] += 1

    def leave(self, viewer: Viewer, sitter: Sitter) -> None:
        """Safe twice."""
        if sitter not in self._taken:
            return
        self._taken.remove(sitter)
        self._of_user[viewer.user_id] -= 1
        if not self._of_user[viewer.user_id]:
            del self._of_user[viewer.user_id]

    @contextmanager
    def take(self, viewer: Viewer, sitter: Sitter) -> Iterator[None]:
        """A seat for as long as the block takes."""
        self.sit(viewer, sitter)
        try:
            yield
        finally:
            self.leave(viewer, sitter)

    def close(self) -> None:
        """Ends every stream after what it is writing now."""
        for sitter in list(self._taken):
            sitter.close()


def _refusal(status: int, message: str) -> web.Response:
    refused = failure(status, "too_many_streams", message)
    refused.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return refused
