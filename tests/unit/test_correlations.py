"""What ties tasks to the request that caused them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from celery import Celery, _state

from oracle_celery import correlation, correlation_id, set_correlation_id
from oracle_celery.correlations import CORRELATION_LIMIT, HEADER, Correlations, correlation_of, forget_correlation


class Received:
    """A `celery.worker.request.Request`, as far as it is looked at."""

    id = "parent"
    request_dict: ClassVar = {HEADER: "web-1"}


UUID = uuid.UUID("6d2c7a43-59f5-4ab0-9a47-0f1f6f2a8d11")


def stamped(**headers: Any) -> dict[str, Any]:
    """The headers of a message that is sent now."""
    Correlations().stamp(headers)
    return headers


@contextmanager
def running(**headers: Any) -> Iterator[None]:
    """Inside, the task of a message with these headers runs."""
    task = Celery("shop", set_as_current=False).task(name="shop.pay", shared=False)(correlation_id)
    task.push_request(**headers)
    _state._task_stack.push(task)
    try:
        yield
    finally:
        _state._task_stack.pop()


def test_a_block_says_it() -> None:
    """The inner one counts; one that names nothing changes nothing."""
    with correlation("web-1"):
        with correlation(UUID), correlation(None):
            assert stamped() == {HEADER: str(UUID)}
        assert stamped() == {HEADER: "web-1"}
    assert stamped() == {}


def test_middleware_that_cannot_enclose() -> None:
    """It is said until it is said otherwise, or until a worker's thread begins its next task."""
    assert set_correlation_id("web-1") == correlation_id() == "web-1"
    set_correlation_id(None)
    assert correlation_id() is None
    set_correlation_id("of the task before")
    forget_correlation()
    assert stamped() == {}


def test_children_inherit_it() -> None:
    """From the running task, unless the code names another; a message that names one keeps it."""
    with running(**{HEADER: "web-1"}):
        assert correlation_id() == "web-1"
        assert stamped() == {HEADER: "web-1"}
        assert stamped(**{HEADER: "own"}) == {HEADER: "own"}
        with running(), correlation("web-2"):
            assert stamped() == {HEADER: "web-2"}
        with running():
            assert stamped() == {HEADER: "web-1"}  # an eager one within
    assert stamped() == {}


def test_the_main_process_knows_whose_errbacks_it_sends() -> None:
    """Of a child that was killed, with no task running."""
    correlations = Correlations()
    request = Received()
    correlations.receive(request)
    headers = {"parent_id": "parent"}
    correlations.stamp(headers)
    assert headers[HEADER] == "web-1"


@pytest.mark.parametrize("key", ["correlation_id", "correlation.id"])
def test_baggage(key: str) -> None:
    """Counts where no header of our own does."""
    baggage = f"user=ann;p=1, {key} = web%201%00 ;ttl=3,correlation=no"
    assert correlation_of({"baggage": baggage}) == "web 1"
    assert correlation_of({"baggage": baggage, HEADER: "own"}) == "own"


@pytest.mark.parametrize("baggage", ["", "correlation_id", "correlation_id=", "xcorrelation_id=1", 7, "a,b=,=c"])
def test_baggage_that_says_nothing(baggage: Any) -> None:
    """It is other people's header."""
    assert correlation_of({"baggage": baggage}) is None


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("заказ 1042", "заказ 1042"),
        (" a\x00b\nc\ud800\u202ed ", "abcd"),
        ("x" * 1_000, "x" * CORRELATION_LIMIT),
        (7, "7"),
        *((nothing, None) for nothing in ("", "\n", None, True, 10**1_000, b"x", object())),
    ],
)
def test_it_is_made_fit(given: Any, stored: str | None) -> None:
    """Whatever a request has in its header: printable, short, or nothing."""
    with correlation(given) as told:
        assert told == stored
        assert stamped() == ({} if stored is None else {HEADER: stored})
    assert correlation_of({HEADER: given}) == stored
