"""Calls that never come back: whoever waits for them, and how many there are."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any

import pytest

from oracle_celery.bounded_calls import BoundedCalls

DEADLINE_SECONDS = 60.0


def test_calls_that_never_come_back_are_few() -> None:
    """What hangs is not asked by ever more threads; when it answers, all is as before."""
    answers, calls = threading.Event(), BoundedCalls("some", 3)
    for _ in range(6):
        assert isinstance(calls.within(0.01, answers.wait), TimeoutError)
    assert _threads("some") == 3
    answers.set()
    assert calls.within(DEADLINE_SECONDS, lambda: None) is None


def test_what_went_wrong_is_told() -> None:
    """By its own error."""
    assert isinstance(BoundedCalls("some", 1).within(DEADLINE_SECONDS, _fail), ZeroDivisionError)


async def test_an_answer_is_awaited() -> None:
    """Or what was raised instead, again and again, in a thread of its own."""
    calls = BoundedCalls("some", 1)
    for _ in range(100):
        assert await calls.awaited(lambda: threading.current_thread().name, DEADLINE_SECONDS) == "some"
        with pytest.raises(ZeroDivisionError):
            await calls.awaited(_fail)


async def test_nobody_awaits_for_ever() -> None:
    """What hangs is left alone, and while it does, there is an error at once."""
    answers, calls = threading.Event(), BoundedCalls("some", 1)
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        await calls.awaited(answers.wait, 0.01)
    with pytest.raises(TimeoutError, match="not come back"):
        await calls.awaited(answers.wait, DEADLINE_SECONDS)
    answers.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while _threads("some"):
            await asyncio.sleep(0.01)
    assert await calls.awaited(lambda: 42) == 42


async def test_where_no_thread_can_be_had_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call fails, and its room is there for the next one."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls = BoundedCalls("some", 1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            assert isinstance(calls.within(0.01, lambda: None), RuntimeError)
            with pytest.raises(RuntimeError):
                await calls.awaited(lambda: None)
    assert calls.within(DEADLINE_SECONDS, lambda: None) is None


def test_what_hangs_does_not_keep_the_process() -> None:
    """Neither the event loop's end nor the interpreter's waits for it."""
    program = """
import asyncio, threading
from oracle_celery.bounded_calls import BoundedCalls

async def main():
    calls = BoundedCalls("some", 2)
    left = asyncio.create_task(calls.awaited(threading.Event().wait))
    await asyncio.sleep(0)
    left.cancel()
    assert calls.within(0.01, threading.Event().wait) is not None

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=DEADLINE_SECONDS)


def _fail() -> Any:
    return 1 / 0


def _threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())
