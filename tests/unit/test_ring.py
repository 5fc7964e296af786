"""What the ring holds, and which cursors it can serve."""

from __future__ import annotations

from oracle_celery.database.cursor import Cursor
from oracle_celery.sidecar.ring import Event, Ring, includes, sees


def cursor(xmax: int, *xip: int, system_id: int = 1) -> Cursor:
    return Cursor(system_id, 1, xmax, xip)


def event(txid: int, owner: str | None = None) -> Event:
    return Event(txid, owner, f"{txid};".encode())


def test_a_cursor_sees_what_had_finished() -> None:
    """Below xmax and not under way."""
    assert sees(cursor(10, 4), 3)
    assert not sees(cursor(10, 4), 4)
    assert not sees(cursor(10, 4), 10)


def test_inclusion_of_cursors() -> None:
    """One has seen all that the other has; cursors of different databases never compare."""
    assert includes(cursor(10, 4), cursor(10, 4))
    assert includes(cursor(10), cursor(10, 4))
    assert not includes(cursor(10, 4), cursor(10))
    assert includes(cursor(12, 11), cursor(10))
    assert not includes(cursor(9), cursor(10))
    assert not includes(cursor(10, system_id=2), cursor(10))


def test_it_returns_what_a_cursor_has_not_seen() -> None:
    """A late transaction is behind in number and new all the same."""
    ring = Ring(cursor(5))
    ring.append([event(5), event(8)], 0.0)
    ring.seal(cursor(9, 6), 0.0)
    ring.append([event(6), event(9)], 0.0)
    ring.seal(cursor(10), 0.0)
    assert ring.after(cursor(9, 6), None) == [b"6;", b"9;"]
    assert ring.after(cursor(6), None) == [b"8;", b"6;", b"9;"]
    assert ring.after(cursor(10), None) == []


def test_owners_get_their_own() -> None:
    """Nobody's tasks and other people's are left out."""
    ring = Ring(cursor(5))
    ring.append([event(5, "ann"), event(6, "bob"), event(7)], 0.0)
    ring.seal(cursor(8), 0.0)
    assert ring.after(cursor(5), "ann") == [b"5;"]
    assert ring.after(cursor(5), None) == [b"5;", b"6;", b"7;"]


def test_owners_get_their_own_of_what_is_left() -> None:
    """What was evicted is evicted for its owner too, and an owner of nothing costs nothing."""
    ring = Ring(cursor(5), count_limit=2)
    for txid, owner in ((5, "ann"), (6, "bob"), (7, "ann")):
        ring.append([event(txid, owner)], 0.0)
        ring.seal(cursor(txid + 1), 0.0)
    assert ring.after(cursor(5), "ann") == [b"7;"]
    assert ring.after(cursor(5), "bob") == [b"6;"]
    assert ring.after(cursor(5), "eve") == []
    ring.append([event(8, "eve")], 0.0)
    ring.seal(cursor(9), 0.0)
    assert set(ring._by_owner) == {"ann", "eve"}


def test_a_crowd_with_one_cursor_is_answered_once() -> None:
    """And anew as soon as there is more; nobody's answer is somebody else's to change."""
    ring = Ring(cursor(5))
    ring.append([event(5)], 0.0)
    first = ring.after(cursor(5), None)
    first.append(b"mine")
    assert ring.after(cursor(5), None) == [b"5;"]
    ring.append([event(6)], 0.0)
    assert ring.after(cursor(5), None) == [b"5;", b"6;"]


def test_a_position_skips_what_came_before_it() -> None:
    """Also inside one read."""
    ring = Ring(cursor(5))
    ring.append([event(5), event(6)], 0.0)
    position = ring.end
    ring.append([event(7)], 0.0)
    ring.seal(cursor(8), 0.0)
    assert ring.after(cursor(5), None, position) == [b"7;"]


def test_limits_evict_whole_reads_and_raise_the_floor() -> None:
    """By count, by bytes and by age; what is gone cannot be served any more."""
    for limits in ({"count_limit": 2}, {"bytes_limit": 4}, {"age_limit": 5.0}):
        ring = Ring(cursor(5), **limits)  # type: ignore[arg-type]
        ring.append([event(5), event(6)], 0.0)
        ring.seal(cursor(7), 0.0)
        assert ring.covers(cursor(5))
        ring.append([event(7)], 6.0)
        ring.seal(cursor(8), 6.0)
        assert not ring.covers(cursor(5)), limits
        assert ring.covers(cursor(7))
        assert ring.after(cursor(7), None) == [b"7;"]
        assert (ring.start, ring.end) == (2, 3)


def test_a_read_under_way_is_not_evicted() -> None:
    """It has no cursor yet that could become the floor."""
    ring = Ring(cursor(5), count_limit=1)
    ring.append([event(5), event(6)], 0.0)
    assert ring.after(cursor(5), None) == [b"5;", b"6;"]
    ring.seal(cursor(7), 0.0)
    assert ring.after(cursor(5), None) == []
    assert ring.floor == cursor(7)
