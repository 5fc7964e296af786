"""Where a reader of the history is: which transactions it has seen.

Numbers handed out by a sequence are no order of commits: a reader that remembers the largest one loses what commits
late. A cursor remembers transactions instead: it has seen all below ``xmax`` except those in ``xip``, which were still
under way. What is new is ``txid >= xmax OR txid = ANY (xip)``; no long transaction of anybody delays it.

Guarantee: resumed from a cursor, however old, a reader is given every row it has not seen, and none twice. What makes
it hold over a crash of the server is that ``xmax`` is clipped to what was delivered: transaction numbers that were
never flushed are given out again. Where rounding is needed it is downwards: rows may come twice, never not at all.

What bites: transaction numbers mean something in one database of one server on one timeline only; anything else gets
`CursorUnusable`, and the client starts over from a list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from oracle_celery.errors import OracleError

__all__ = ["Cursor", "CursorUnusable", "Snapshot"]

FORMAT = "1"
TEXT_LIMIT = 2000  # characters: a cursor travels in a header
NUMBER_LIMIT = 2**63
#: A cursor with more transactions under way is rounded down to the oldest of them.
UNDER_WAY_LIMIT = 200

_TEXT = re.compile(r"1\.(\d{1,20})\.(\d{1,10})\.(\d{1,19})\.((?:\d{1,19}(?:_\d{1,19})*)?)", re.ASCII)


class CursorUnusable(OracleError):
    """The stream cannot go on from this cursor ({reason}). Fetch the list again and go on from its cursor."""

    reason: str

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


class Snapshot(msgspec.Struct, frozen=True):
    """What one statement of a reader saw of the server."""

    system_id: int
    timeline: int
    xmin: int
    xmax: int
    xip: tuple[int, ...]
    floor: int  # rows of transactions below have been deleted
    is_standby: bool  # whose list of transactions under way is always empty, and therefore says nothing

    @classmethod
    def of(cls, row: Sequence[Any]) -> Snapshot:
        """The beginning of a row that the statement `snapshot` told."""
        system_id, timeline, xmin, xmax, xip, floor, is_standby = row[: len(cls.__struct_fields__)]
        return cls(system_id & (2**63 - 1), timeline, xmin, xmax, tuple(xip), floor, is_standby)


class Cursor(msgspec.Struct, frozen=True):
    """A place in the history. Its text is what clients keep."""

    system_id: int  # of this database of this server
    timeline: int
    xmax: int
    xip: tuple[int, ...] = ()  # ascending, all below xmax

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises CursorUnusable for what no cursor of ours ever looked like."""
        match = _TEXT.fullmatch(text) if len(text) <= TEXT_LIMIT else None
        if match is None:
            raise CursorUnusable("malformed_cursor")
        system_id, timeline, xmax = (int(match[number]) for number in (1, 2, 3))
        under_way = []
        transaction = xmax
        for delta in match[4].split("_") if match[4] else ():
            transaction -= int(delta)
            under_way.append(transaction)
            if delta.strip("0") == "" or transaction < 0:
                raise CursorUnusable("malformed_cursor")
        if xmax >= NUMBER_LIMIT:
            raise CursorUnusable("malformed_cursor")
        return cls(system_id, timeline, xmax, tuple(reversed(under_way)))

    def __str__(self) -> str:
        deltas = []
        above = self.xmax
        for transaction in reversed(self.xip):
            deltas.append(str(above - transaction))
            above = transaction
        return f"{FORMAT}.{self.system_id}.{self.timeline}.{self.xmax}.{'_'.join(deltas)}"

    @classmethod
    def at(cls, snapshot: Snapshot, latest: int | None) -> Cursor:
        """The cursor that has seen all that `snapshot` sees; `latest` is the largest txid of a row in it."""
        xmax = min(max(0 if latest is None else latest + 1, snapshot.floor), snapshot.xmax)
        return cls._clipped(snapshot, xmax, snapshot.xip)

    def check(self, snapshot: Snapshot) -> None:
        """Raises CursorUnusable unless every row that this cursor has not seen can still be found."""
        if (self.system_id, self.timeline) != (snapshot.system_id, snapshot.timeline) or self.xmax > snapshot.xmax:
            raise CursorUnusable("other_database")
        if min(self.xip, default=self.xmax) < snapshot.floor:
            raise CursorUnusable("cursor_expired")

    def advanced(self, snapshot: Snapshot, delivered: int | None, *, is_cut: bool) -> Cursor:
        """The cursor after a read in `snapshot` that delivered, in order of txid, all rows up to txid `delivered`: all
        there were, or where `is_cut` only the first of them."""
        xmax = self.xmax if delivered is None else max(self.xmax, delivered + 1)
        left = (x for x in self.xip if is_cut and delivered is not None and x > delivered)
        return self._clipped(snapshot, xmax, {*snapshot.xip, *left})

    @classmethod
    def _clipped(cls, snapshot: Snapshot, xmax: int, under_way: Iterable[int]) -> Cursor:
        xip = tuple(sorted(x for x in under_way if x < xmax))
        if len(xip) > UNDER_WAY_LIMIT:
            xmax, xip = xip[0], ()
        if snapshot.is_standby:
            xmax, xip = min(xmax, snapshot.xmin, *xip), ()
        return cls(snapshot.system_id, snapshot.timeline, xmax, xip)
