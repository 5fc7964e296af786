"""What waits for one client is bounded, in order, and a loss is told exactly once."""

from __future__ import annotations

from oracle_celery.sidecar.events import resync
from oracle_celery.sidecar.subscription import Subscription
from oracle_celery.viewer import LOCAL_ADMIN


def test_chunks_come_out_in_the_order_they_went_in() -> None:
    """Several offers between two takes are one piece."""
    subscription = Subscription(LOCAL_ADMIN)
    subscription.offer(b"one ")
    subscription.offer(b"two ")
    subscription.offer_summary(b"sum")
    assert subscription.take() == b"one two sum"
    assert subscription.take() == b""


def test_who_writes_is_told_of_an_offer() -> None:
    """A stream sends what comes, and not only after its heartbeat."""
    told = []
    subscription = Subscription(LOCAL_ADMIN)
    subscription.changed = lambda: told.append(subscription.take())
    subscription.offer(b"now")
    subscription.offer_summary(b"sum")
    subscription.offer_progress([("t", b"half"), ("t", b"whole")])
    subscription.demand_resync("for_a_reason")
    assert told == [b"now", b"sum", b"whole", resync("for_a_reason")]


def test_what_waits_alone_is_not_copied() -> None:
    """A thousand clients share one piece of memory."""
    piece = b"news of somebody's task"
    subscription = Subscription(LOCAL_ADMIN)
    subscription.offer(piece)
    assert subscription.take() is piece


def test_too_much_is_dropped_and_told_once() -> None:
    """After an overflow nothing old and nothing offered before the resync is taken comes through."""
    subscription = Subscription(LOCAL_ADMIN, limit=10)
    subscription.offer(b"12345678")
    subscription.offer(b"12345678")
    subscription.offer(b"9")
    assert subscription.take() == resync("slow_reader")
    assert subscription.take() == b""


def test_what_comes_after_the_resync_comes_through() -> None:
    """The client starts over from a list that it fetches after the resync: from there on nothing may be missing."""
    subscription = Subscription(LOCAL_ADMIN, limit=10)
    subscription.offer(b"far too much")
    subscription.take()
    subscription.offer(b"new")
    assert subscription.take() == b"new"


def test_only_the_newest_summary_waits() -> None:
    """A reader that is slow gets one summary, however many were made meanwhile."""
    subscription = Subscription(LOCAL_ADMIN)
    subscription.offer_summary(b"old")
    subscription.offer_summary(b"new")
    assert subscription.take() == b"new"


def test_a_close_is_told() -> None:
    """A stopping sidecar does not wait for heartbeats."""
    told = []
    subscription = Subscription(LOCAL_ADMIN)
    subscription.changed = lambda: told.append(subscription.closed)
    subscription.close()
    assert told == [True]
