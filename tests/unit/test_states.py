"""The order of facts about a task."""

from __future__ import annotations

import pytest

from oracle_celery.states import FINAL, Rank, Status


def test_words_and_codes() -> None:
    """The mission's five words, and back."""
    assert [status.word for status in Status] == ["pending", "in_progress", "completed", "failed", "cancelled"]
    assert [Status.from_word(status.word) for status in Status] == list(Status)
    with pytest.raises(KeyError):
        Status.from_word("queued")


def test_who_is_believed() -> None:
    """What was reported beats what was confirmed, that what was inferred, that what was assumed from silence."""
    believed = [Rank.REPORTED, Rank.CANCELLED, Rank.GIVEN_BACK, Rank.INFERRED, Rank.INTERRUPTED, Rank.LOST]
    assert sorted(Rank, reverse=True)[: len(believed)] == believed
    assert Rank.SENT < Rank.RECEIVED < Rank.STARTED < Rank.LOST


def test_final_statuses() -> None:
    """In none of them is a run waiting or under way."""
    assert set(Status) - FINAL == {Status.PENDING, Status.IN_PROGRESS}
