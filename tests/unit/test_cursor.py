"""A cursor's text and its arithmetic."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle_celery.database.cursor import Cursor, CursorUnusable, Snapshot

TRANSACTION = st.integers(0, 2**62)


def snapshot(**fields: object) -> Snapshot:
    whole = {"system_id": 7, "timeline": 1, "xmin": 0, "xmax": 1_000, "xip": (), "floor": 0, "is_standby": False}
    return Snapshot(**(whole | fields))  # type: ignore[arg-type]


@st.composite
def cursors(draw: st.DrawFn) -> Cursor:
    xmax = draw(TRANSACTION)
    xip = draw(st.sets(st.integers(max(0, xmax - 10_000), xmax - 1), max_size=50)) if xmax else set()
    return Cursor(draw(st.integers(0, 2**63 - 1)), draw(st.integers(0, 2**31)), xmax, tuple(sorted(xip)))


@given(cursors())
def test_its_text_is_the_same_cursor(cursor: Cursor) -> None:
    """What a client brings back is where it was."""
    assert Cursor.parse(str(cursor)) == cursor


@given(st.text(max_size=80) | st.from_regex(r"\A[0-9._]{0,60}\Z"))
def test_any_other_text_is_refused_or_read(text: str) -> None:
    """Whatever a client sends is a cursor that could be one, or CursorUnusable."""
    with contextlib.suppress(CursorUnusable):
        cursor = Cursor.parse(text)
        assert all(0 <= x < cursor.xmax for x in cursor.xip)
        assert list(cursor.xip) == sorted(set(cursor.xip))


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "2.7.1.5.", "1.7.1.5.0", "1.7.1.5.6", "1.7.1.5.1_0", "1.7.1.\u0665.", "1.7.1.5.\n"]
)
def test_impossible_cursors(text: str) -> None:
    """Another format, a transaction under way that is not below the end, foreign digits, a line break."""
    with pytest.raises(CursorUnusable):
        Cursor.parse(text)


def test_a_header_carries_the_longest() -> None:
    """Very many transactions under way are rounded down to the oldest of them, never cut off."""
    xip = tuple(range(10, 10 + 2 * 300, 2))
    cursor = Cursor.at(snapshot(xip=xip), 900)
    assert (cursor.xmax, cursor.xip) == (10, ())
    widest = Cursor.at(snapshot(xip=tuple(range(0, 400 * 10**6, 2 * 10**6)), xmax=10**18), 10**17)
    assert len(widest.xip) == 200
    assert len(str(widest)) < 2_000
    assert Cursor.parse(str(widest)) == widest


def test_it_is_clipped_to_what_was_delivered() -> None:
    """Numbers above the last row delivered may be given out again after a crash: they are not promised to be seen."""
    cursor = Cursor.at(snapshot(xmax=1_000, xip=(5, 20, 700)), 19)
    assert (cursor.xmax, cursor.xip) == (20, (5,))
    advanced = cursor.advanced(snapshot(xmax=1_000, xip=(20, 700)), 30, is_cut=False)
    assert (advanced.xmax, advanced.xip) == (31, (20,))


def test_nothing_new_moves_nothing_but_what_ended() -> None:
    """A read without rows drops transactions that have ended without any."""
    cursor = Cursor(7, 1, 20, (5, 6))
    assert cursor.advanced(snapshot(xip=(6, 900)), None, is_cut=False) == Cursor(7, 1, 20, (6,))


def test_a_cut_among_late_commits_keeps_the_rest() -> None:
    """Where a read ends among transactions that were under way, the later of them are still to be read."""
    cursor = Cursor(7, 1, 20, (5, 6, 9))
    assert cursor.advanced(snapshot(xip=(5,)), 6, is_cut=True) == Cursor(7, 1, 20, (5, 9))


def test_a_standby_rounds_down() -> None:
    """It does not know which transactions are under way: rows may come twice, but none is lost."""
    standby = snapshot(is_standby=True, xmin=15)
    assert Cursor(7, 1, 20, (12,)).advanced(standby, 30, is_cut=False) == Cursor(7, 1, 15, ())
    assert Cursor(7, 1, 10).advanced(standby, None, is_cut=False) == Cursor(7, 1, 10, ())


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        (Cursor(8, 1, 20), "other_database"),
        (Cursor(7, 2, 20), "other_database"),
        (Cursor(7, 1, 1_001), "other_database"),
        (Cursor(7, 1, 9), "cursor_expired"),
        (Cursor(7, 1, 20, (9, 15)), "cursor_expired"),
    ],
)
def test_what_cannot_be_served(cursor: Cursor, reason: str) -> None:
    """Another database, another timeline, the future, and history that is gone are told apart."""
    with pytest.raises(CursorUnusable) as caught:
        cursor.check(snapshot(floor=10))
    assert caught.value.reason == reason


def test_what_can_be_served() -> None:
    """The floor itself and the end are still inside."""
    Cursor(7, 1, 1_000, (10,)).check(snapshot(floor=10))
