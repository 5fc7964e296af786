"""What a task message says."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue, binding

from oracle_celery import message


def test_both_protocols() -> None:
    """The newer one has the task in the headers, the older one in the body."""
    new = message.sent({"task": "pay", "id": "1"}, ([7], {"x": 1}, {}))
    old = message.sent({}, {"task": "pay", "id": "1", "args": [7], "kwargs": {"x": 1}})
    assert new is not None
    assert old is not None
    assert (
        (new.args, new.kwargs, new.headers["id"]) == (old.args, old.kwargs, old.headers["id"]) == ([7], {"x": 1}, "1")
    )


@pytest.mark.parametrize("body", [None, b"raw", [], {}, "text"])
def test_what_is_no_tasks_message_is_none(body: Any) -> None:
    """Events and remote control are published, too."""
    assert message.sent({}, body) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-01T00:00:00+00:00", 1_767_225_600.0),
        ("2026-01-01T00:00:00", 1_767_225_600.0),
        (datetime.datetime(2026, 1, 1, 3, tzinfo=datetime.timezone(datetime.timedelta(hours=3))), 1_767_225_600.0),
        ("tomorrow", None),
        (None, None),
        (object(), None),
    ],
)
def test_points_in_time(value: Any, expected: float | None) -> None:
    """Naive means UTC; what cannot be read is unknown."""
    assert message.seconds_since_epoch(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime.datetime.max, message.LAST_MOMENT),  # noqa: DTZ901  # naive means UTC
        ("9999-12-31T23:59:59.999999-05:00", message.LAST_MOMENT),
        (float("inf"), message.LAST_MOMENT),
        (10**400, message.LAST_MOMENT),
        (datetime.datetime.min, message.FIRST_MOMENT),  # noqa: DTZ901
        ("0001-01-01T00:00:00+05:00", message.FIRST_MOMENT),
        (-(10**400), message.FIRST_MOMENT),
    ],
)
def test_never_is_the_last_moment_of_the_calendar(value: Any, expected: float) -> None:
    """`datetime.max` has no place in a float, and a year 10000 none in Python: in every time zone it can be told."""
    assert message.seconds_since_epoch(value) == expected
    for hours in (-14, 14):
        zone = datetime.timezone(datetime.timedelta(hours=hours))
        assert datetime.datetime.fromtimestamp(0, zone) + datetime.timedelta(seconds=expected)


def test_a_countdown_counts_from_now() -> None:
    """Celery gives `task_retry` seconds."""
    before = time.time()
    assert before + 10 <= (message.seconds_since_epoch(10) or 0) <= time.time() + 10


def test_queue_names() -> None:
    """By exchange and key; what no queue of the app takes is called by its key."""
    app = Celery("shop", set_as_current=False)
    app.conf.task_queues = [Queue("tills", Exchange("shop"), routing_key="pay.#"), Queue("post", Exchange("post"), "p")]
    assert message.queue_name(app, "shop", "pay.#") == "tills"
    assert message.queue_name(app, "", "direct") == "direct"
    assert message.queue_name(app, "elsewhere", "pay.#") == "pay.#"
    delayed = ".".join("0" * 28) + ".tills"
    assert message.queue_name(app, message.DELAYED_EXCHANGE, delayed) == "tills"


@pytest.mark.parametrize(
    ("routing_key", "expected"),
    [
        ("orders", "orders"),
        ("feed.import", "feed"),
        ("feed", "feed"),
        ("news", "feed"),
        ("eu.till.7", "tills"),
        ("eu.till", "eu.till"),
        ("eu.x.till.7", "eu.x.till.7"),
        ("", ""),
    ],
)
def test_queue_names_by_patterns(routing_key: str, expected: str) -> None:
    """The one whose key it is, else the first whose pattern or second binding lets it in."""
    app = Celery("shop", set_as_current=False)
    shop = Exchange("shop", type="topic")
    feed = Queue("feed", bindings=[binding(shop, "feed.#"), binding(shop, "news")])
    app.conf.task_queues = [feed, Queue("tills", shop, "*.till.*"), Queue("orders", shop, "orders")]
    assert message.queue_name(app, "shop", routing_key) == expected
