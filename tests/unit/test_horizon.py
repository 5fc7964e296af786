"""Marks say which part of the history may be left alone, and never more than is certain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from oracle_celery.database.cursor import Cursor
from oracle_celery.database.horizon import SLACK, Marks

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MARKS = Marks([(100, 90, NOON), (200, 190, NOON + 5 * HOUR), (300, 200, NOON + 9 * HOUR)])


def cursor(xmax: int, *xip: int) -> Cursor:
    return Cursor(1, 1, xmax, xip)


def test_without_marks_everything_is_looked_into() -> None:
    """In a database that has none yet, and before the first of them."""
    assert Marks().since(cursor(50)) == Marks().logs_since([cursor(50)]) == BEGINNING
    assert MARKS.since(cursor(90)) == MARKS.logs_since([cursor(99)]) == BEGINNING
    assert Marks().latest() == {"marked": 0, "marked_at": BEGINNING}


def test_the_newest_mark_that_nothing_unseen_comes_before() -> None:
    """What a cursor has not seen may be as old as the oldest transaction that was under way."""
    assert MARKS.since(cursor(200)) == NOON + 5 * HOUR - SLACK
    assert MARKS.since(cursor(201)) == NOON + 9 * HOUR - SLACK
    assert MARKS.since(cursor(301, 150, 299)) == NOON - SLACK
    assert MARKS.logs_since([cursor(299)]) == NOON + 5 * HOUR - SLACK
    assert MARKS.logs_since([cursor(300)]) == NOON + 9 * HOUR - SLACK
    assert MARKS.logs_since([cursor(400), cursor(250, 150)]) == NOON - SLACK


def test_the_latest_transaction_is_looked_for_after_the_newest_mark() -> None:
    """And is that mark's where nothing came since."""
    assert MARKS.latest() == {"marked": 200, "marked_at": NOON + 9 * HOUR - SLACK}
