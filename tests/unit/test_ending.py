"""Tasks end, also those that lose a request to."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from oracle_celery import ending
from oracle_celery.ending import end


async def test_a_task_that_loses_a_request_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as it takes."""
    monkeypatch.setattr(ending, "AGAIN_SECONDS", 0.01)
    lost = []

    async def lose_three() -> None:
        while len(lost) < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.append(None)
        await asyncio.Event().wait()

    losing, ready = asyncio.create_task(lose_three()), asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    await asyncio.wait_for(end(losing, ready), 60)
    assert losing.cancelled()
    assert ready.cancelled()
    assert len(lost) == 3


async def test_a_task_is_given_its_time() -> None:
    """Who ends by itself once asked is asked once; what it ended by stays with it."""
    asked = []

    async def tidy_up() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asked.append(None)
            await asyncio.sleep(0.05)
            raise ValueError("untidy") from None

    task = asyncio.create_task(tidy_up())
    await asyncio.sleep(0)
    await end(task)
    assert len(asked) == 1
    with pytest.raises(ValueError, match="untidy"):
        task.result()


async def test_nothing_to_end() -> None:
    """Neither what was never begun nor what is over already."""
    over = asyncio.create_task(asyncio.sleep(0))
    with contextlib.suppress(asyncio.CancelledError):
        await over
    await end(None, over)
    assert not over.cancelled()
