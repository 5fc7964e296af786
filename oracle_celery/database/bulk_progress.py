"""How far a bulk action is: counts of its items by outcome, moved along with them.

What bites: an item may go on from one outcome to another when more becomes known; it is done only once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from oracle_celery.database.transactions import Transaction

__all__ = ["SENDING", "count_moves", "move_items"]

#: Not an outcome yet: the item's message has been promised, and may have been sent.
SENDING = "sending"


def move_items(transaction: Transaction, bulk_id: str, outcomes: Mapping[str, tuple[str, str | None]]) -> None:
    """Says what has become of promised messages: (outcome, detail) by new id."""
    if not outcomes:
        return
    parameters = {
        "bulk_id": bulk_id,
        "new_ids": list(outcomes),
        "outcomes": [outcome for outcome, _ in outcomes.values()],
        "details": [detail for _, detail in outcomes.values()],
    }
    if moves := transaction.fetch("move_items", parameters):
        count_moves(transaction, bulk_id, moves)
        transaction.ring("bulk", bulk_id)


def count_moves(transaction: Transaction, bulk_id: str, moves: Iterable[tuple[str | None, str, int]]) -> None:
    """(from, to, how many); from None or "sending", an item is done for the first time."""
    changes: Counter[str] = Counter()
    done = 0
    for was, outcome, count in moves:
        if outcome == SENDING:
            continue
        changes[outcome] += count
        if was is None or was == SENDING:
            done += count
        else:
            changes[was] -= count
    transaction.execute(
        "count_outcomes",
        {"bulk_id": bulk_id, "done": done, "outcomes": list(changes), "counts": list(changes.values())},
    )
