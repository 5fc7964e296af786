"""Calls that may never come back: of a broker's or a result backend's client, which nobody can stop from outside.

Guarantee: whoever waits, waits for a bounded time, and no call keeps the process from ending: each has a daemon thread
of its own, never one of asyncio's, whose end the interpreter waits for. What has not come back goes on behind, `limit`
calls at most: more would only wait for the same silence.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent import futures
from functools import partial
from typing import TypeVar

__all__ = ["BoundedCalls"]

Answer = TypeVar("Answer")


class BoundedCalls:
    """Calls of one kind, named as their threads. Thread-safe."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._room = threading.Semaphore(limit)

    def within(self, seconds: float, act: Callable[[], object]) -> BaseException | None:
        """None, or why it is not known to be done."""
        deadline = time.monotonic() + seconds
        if not self._room.acquire(timeout=seconds):
            return self._crowded()
        try:
            call = self._begin(act)
        except Exception as error:  # noqa: BLE001  # no thread can be had: nothing has been done
            return error
        done, _ = futures.wait([call], max(0.0, deadline - time.monotonic()))
        return call.exception() if done else _nothing(seconds)

    async def awaited(self, act: Callable[[], Answer], seconds: float | None = None) -> Answer:
        """What it returns or raises. Raises TimeoutError after `seconds`, and at once where there is no room; whoever
        stops waiting leaves the call alone."""
        if not self._room.acquire(blocking=False):
            raise self._crowded()
        call = self._begin(act)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(call)
        except TimeoutError:
            if call.done() or seconds is None:
                raise
            raise _nothing(seconds) from None

    def _begin(self, act: Callable[[], Answer]) -> futures.Future[Answer]:
        """There must be room, which is given back."""
        call: futures.Future[Answer] = futures.Future()
        call.set_running_or_notify_cancel()  # from here on it cannot be called off

        def run() -> None:
            try:
                tell = partial(call.set_result, act())
            except BaseException as error:  # noqa: BLE001  # whatever a client raises: it is told
                tell = partial(call.set_exception, error)
            self._room.release()  # first: whoever is told may call again at once
            tell()

        try:
            threading.Thread(target=run, name=self._name, daemon=True).start()
        except BaseException:  # the system has no thread left
            self._room.release()
            raise
        return call

    def _crowded(self) -> TimeoutError:
        return TimeoutError(f"{self._limit} calls before it have not come back")


def _nothing(seconds: float) -> TimeoutError:
    return TimeoutError(f"nothing came of it within {seconds:g} s")
