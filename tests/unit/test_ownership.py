"""Whose a task is."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from oracle_celery.ownership import current_owner, owner, stamp


def test_a_block_says_whose_tasks_are() -> None:
    """The inner one counts; after it the outer one does again."""
    with owner("ann"):
        with owner(7):
            assert current_owner("user_id") == "7"
        assert current_owner("user_id") == "ann"
    assert current_owner("user_id") is None


def test_a_block_ends_with_an_error() -> None:
    """The next request of the same thread is somebody else's."""
    with pytest.raises(ValueError), owner("ann"):
        raise ValueError
    assert current_owner("user_id") is None


def test_threads_do_not_share_owners() -> None:
    """A web server answers many users at once."""
    seen: list[Any] = []
    with owner("ann"):
        thread = threading.Thread(target=lambda: seen.append(current_owner("user_id")))
        thread.start()
        thread.join()
    assert seen == [None]


def test_a_message_that_names_its_owner_keeps_it() -> None:
    """The block is for those that do not."""
    named: dict[str, Any] = {"user_id": "bob"}
    unnamed: dict[str, Any] = {}
    with owner("ann"):
        stamp(named, "user_id")
        stamp(unnamed, "user_id")
    assert (named, unnamed) == ({"user_id": "bob"}, {"user_id": "ann"})


def test_without_an_owner_nothing_is_written() -> None:
    """A header that is None would still be a header."""
    headers: dict[str, Any] = {}
    stamp(headers, "user_id")
    assert headers == {}
