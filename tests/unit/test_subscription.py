"""What waits for one client is bounded, in order, and a loss is told exactly once."""

from __future__ import annotations

import asyncio

from oracle_celery.sidecar.events import resync
from oracle_celery.sidecar.subscription import Subscription
from oracle_celery.viewer import LOCAL_ADMIN

NO_WAIT = 0.01
LONG_WAIT = 30.0


async def test_chunks_come_out_in_the_order_they_went_in() -> None:
    """Several offers between two takes are one piece."""
    subscription = Subscription(LOCAL_ADMIN)
    subscription.offer(b"one ")
    subscription.offer(b"two ")
    subscription.offer_summary(b"sum")
    assert await subscription.take(LONG_WAIT) == b"one two sum"
    assert await subscription.take(NO_WAIT) == b""


async def test_a_waiting_take_is_woken_by_an_offer() -> None:
    """A stream that waits sends what comes, and not only after its heartbeat."""
    subscription = Subscription(LOCAL_ADMIN)
    taking = asyncio.create_task(subscription.take(LONG_WAIT))
    await asyncio.sleep(0)
    subscription.offer(b"now")
    assert await taking == b"now"


async def test_too_much_is_dropped_and_told_once() -> None:
    """After an overflow nothing old and nothing offered before the resync is taken comes through."""
    subscription = Subscription(LOCAL_ADMIN, limit=10)
    subscription.offer(b"12345678")
    subscription.offer(b"12345678")
    subscription.offer(b"9")
    assert await subscription.take(LONG_WAIT) == resync("slow_reader")
    assert await subscription.take(NO_WAIT) == b""


async def test_what_comes_after_the_resync_comes_through() -> None:
    """The client starts over from a list that it fetches after the resync: from there on nothing may be missing."""
    subscription = Subscription(LOCAL_ADMIN, limit=10)
    subscription.offer(b"far too much")
    await subscription.take(LONG_WAIT)
    subscription.offer(b"new")
    assert await subscription.take(LONG_WAIT) == b"new"


async def test_only_the_newest_summary_waits() -> None:
    """A reader that is slow gets one summary, however many were made meanwhile."""
    subscription = Subscription(LOCAL_ADMIN)
    subscription.offer_summary(b"old")
    subscription.offer_summary(b"new")
    assert await subscription.take(LONG_WAIT) == b"new"


async def test_close_ends_a_waiting_take() -> None:
    """A stopping sidecar does not wait for heartbeats."""
    subscription = Subscription(LOCAL_ADMIN)
    taking = asyncio.create_task(subscription.take(LONG_WAIT))
    await asyncio.sleep(0)
    subscription.close()
    assert await asyncio.wait_for(taking, LONG_WAIT / 2) == b""
