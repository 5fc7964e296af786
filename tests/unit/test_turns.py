"""How many things one person has under way at once."""

from __future__ import annotations

import asyncio

import pytest

from oracle_celery.sidecar.turns import LineFull, Turns


async def test_a_few_go_on_some_wait_and_no_more() -> None:
    """Each person in a line of their own, of which nothing is left when they are served."""
    turns, going, ended = Turns(at_once=2, waiting=1), 0, asyncio.Event()

    async def work(user_id: str) -> None:
        nonlocal going
        async with turns.take(user_id):
            going += 1
            await ended.wait()

    anns = [asyncio.create_task(work("ann")) for _ in range(4)]
    bobs = asyncio.create_task(work("bob"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (going, len(turns)) == (3, 2)
    with pytest.raises(LineFull):
        anns[3].result()
    anns[2].cancel()  # it waits, and gives its place up
    await asyncio.wait({anns[2]})
    anns[2] = asyncio.create_task(work("ann"))
    await asyncio.sleep(0)
    ended.set()
    await asyncio.gather(*anns[:3], bobs)
    assert (going, len(turns)) == (4, 0)
