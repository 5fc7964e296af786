"""Slots for pools that take in whatever they are given: never more at once, never a slot lost."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.bootsteps import RUN
from celery.worker import state

from oracle_celery.pool_slots import GEVENT, PoolSlots


class PretendedRequest:
    """Celery's, as far as it is looked at."""


class PretendedWorker:
    """Its pool keeps what it is given; `end` ends the oldest."""

    def __init__(self, module: str, *, size: int = 2, hub: object = None, putlocks: bool = False) -> None:
        self.pool_cls = type("TaskPool", (), {"__module__": module})
        self.pool = self
        self.hub = hub
        self.pool_putlocks = putlocks
        self.putlocks = True
        self.num_processes = 0 if module == GEVENT else size  # of greenlets older versions count those that run
        self._pool = SimpleNamespace(size=size)
        self.blueprint = self
        self.state = RUN
        self.given: list[Any] = []
        self.turned_away: set[Any] = set()
        self.slots = PoolSlots.needed(self, self.turned_away.__contains__, self._take)

    def _take(self, target: Any, args: Any, kwargs: Any, **options: Any) -> None:
        self.given.append((target, options))

    def send(self) -> PretendedRequest:
        assert self.slots is not None
        request = PretendedRequest()
        state.reserved_requests.add(request)
        ends = dict.fromkeys(("callback", "error_callback", "timeout_callback"), lambda *_, **__: None)
        self.slots.apply_async(request, lambda: None, (), {}, ends)
        return request

    def end(self) -> None:
        target, _ = self.given.pop(0)
        target()


@pytest.fixture(autouse=True)
def _tidy_state() -> Iterator[None]:
    yield
    state.reserved_requests.clear()
    state.active_requests.clear()


def threads(size: int = 2) -> PretendedWorker:
    return PretendedWorker("celery.concurrency.thread", size=size)


def test_as_many_as_run_at_once() -> None:
    """The next one is handed over when one ends, in the order in which they came."""
    worker = threads()
    requests = [worker.send() for _ in range(4)]
    assert len(worker.given) == 2
    worker.end()
    assert len(worker.given) == 2
    worker.end()
    worker.end()
    worker.end()
    assert worker.given == []
    assert len(requests) == 4


def test_grown_and_shrunk() -> None:
    """The pool's size is asked for each time."""
    worker = threads(1)
    held = [worker.send() for _ in range(4)]
    worker.num_processes = 3
    worker.end()
    assert len(worker.given) == 3
    worker.num_processes = 1
    worker.end()
    worker.end()
    assert len(worker.given) == 1
    assert held


def test_sweep_keeps_the_order() -> None:
    """What may not run any more leaves; the rest waits on."""
    worker = threads(1)
    requests = [worker.send() for _ in range(4)]
    worker.turned_away.add(requests[2])
    assert worker.slots is not None
    worker.slots.sweep()
    waiting = [job.request for job in worker.slots._waiting]
    assert waiting == [requests[1], requests[3]]


def test_turned_away_when_its_turn_comes() -> None:
    """And the next one takes the slot."""
    worker = threads(1)
    requests = [worker.send() for _ in range(3)]
    worker.turned_away.add(requests[1])
    worker.end()
    assert worker.slots is not None
    assert worker.slots._taken == {requests[2]}


def test_an_end_that_nobody_told_of() -> None:
    """Celery has let the request go: its slot is free at the next look."""
    worker = threads(1)
    lost, waiting = worker.send(), worker.send()
    state.reserved_requests.discard(lost)
    assert worker.slots is not None
    worker.slots.recheck()
    assert worker.slots._taken == {waiting}


def test_what_runs_keeps_its_slot() -> None:
    """With a lost connection older versions let go of all that they hold for reserved, what runs too."""
    worker = threads(1)
    running, waiting = worker.send(), worker.send()
    state.active_requests.add(running)
    state.reserved_requests.discard(running)
    assert worker.slots is not None
    worker.slots.recheck()
    assert worker.slots._taken == {running}
    assert waiting


def test_a_pool_of_greenlets_is_as_large_as_it_was_made() -> None:
    """Not as what it says of itself before it runs anything."""
    worker = PretendedWorker(GEVENT, size=2)
    held = [worker.send() for _ in range(3)]
    assert len(worker.given) == 2
    assert held


def test_connection_lost() -> None:
    """Messages that waited are delivered again: their requests are never handed over."""
    worker = threads(1)
    requests = [worker.send() for _ in range(3)]
    state.reserved_requests.discard(requests[1])
    worker.end()
    assert worker.slots is not None
    assert worker.slots._taken == {requests[2]}
    worker.slots.forget_waiting()
    worker.end()
    assert worker.given == []


def test_stopping_worker() -> None:
    """Hands nothing over any more: what waits goes back to the broker with its connection."""
    worker = threads(1)
    requests = [worker.send() for _ in range(2)]
    worker.state = RUN + 1
    worker.end()
    assert worker.given == []
    assert requests


def test_prefork_tells_by_its_callbacks() -> None:
    """Its target runs in another process. A soft time limit is no end."""
    worker = PretendedWorker("celery.concurrency.prefork", size=1)
    requests = [worker.send() for _ in range(3)]
    _, options = worker.given.pop()
    options["timeout_callback"](soft=True, timeout=1)
    assert worker.given == []
    options["callback"]((0, None, 1.0))
    assert len(worker.given) == 1
    _, options = worker.given.pop()
    options["timeout_callback"](soft=False, timeout=1)
    options["error_callback"](None)
    assert len(worker.given) == 1
    assert requests


def test_prefork_waits_for_no_lock_of_its_own() -> None:
    """It would be for one that another thread frees, and maybe for one that the waiting thread itself is to free."""
    assert PretendedWorker("celery.concurrency.prefork").putlocks is False


@pytest.mark.parametrize(
    ("module", "options", "is_needed"),
    [
        ("celery.concurrency.prefork", {"hub": object(), "putlocks": True}, False),
        ("celery.concurrency.prefork", {"hub": object(), "putlocks": False}, True),
        ("celery.concurrency.prefork", {"hub": None, "putlocks": True}, True),
        ("celery.concurrency.thread", {"hub": object(), "putlocks": True}, True),
        ("celery.concurrency.gevent", {}, True),
        ("celery.concurrency.solo", {}, False),
    ],
)
def test_which_pools(module: str, options: dict[str, Any], is_needed: bool) -> None:
    """Those that have no place of their own where a request could be called back."""
    assert (PretendedWorker(module, **options).slots is not None) is is_needed
