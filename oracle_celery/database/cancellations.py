"""Cancels: a task that waits is called off at once, one that runs is asked to end; in the end both are settled.

Guarantee: the id stays cancelled, whatever is restarted. What bites: a pending task may in fact have started already.
Its run then wins over the cancel, and the worker, which learns of the id all the same, ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import msgspec

from oracle_celery.database.audit import add_entry, add_outcomes
from oracle_celery.database.bulk_progress import count_moves
from oracle_celery.database.control_facts import CancelOutcome
from oracle_celery.database.refusals import Refusal, status_word
from oracle_celery.database.sql import statement
from oracle_celery.database.transactions import CommandStore, Transaction
from oracle_celery.errors import TaskNotFound
from oracle_celery.redaction import USUAL, Redaction
from oracle_celery.states import Status
from oracle_celery.viewer import Actor

__all__ = ["Cancellable", "Cancellations", "call_off", "cancellable"]

CANCELLED, REQUESTED = "cancelled", "requested"
_DETAILS = {CANCELLED: "Its message is dropped by the worker that receives it.", REQUESTED: None}

#: Open cancellations that one call of `settle` looks at: bounds what they cost every second, however many there are.
SETTLE_WINDOW = 5_000


class Cancellable(msgspec.Struct, frozen=True):
    """A task and what the rule says of cancelling it."""

    task_id: str
    status: int
    refusal: Refusal | None
    interruptible: bool | None

    @property
    def outcome(self) -> str:
        return CANCELLED if self.status == Status.PENDING else REQUESTED


class Cancellations(CommandStore):
    def __init__(self, dsn: str, redaction: Redaction = USUAL) -> None:
        super().__init__(dsn, redaction)
        self._settled_up_to = 0  # of the round through open cancellations

    def cancel(self, actor: Actor, task_id: str, reason: str | None = None) -> CancelOutcome:
        """Calls a task off before it starts, or requests its end. Raises TaskNotFound, NotAllowed or ReadOnly."""
        with self._command(actor) as transaction:
            if not transaction.lock_tasks(actor.viewer, [task_id]):
                raise TaskNotFound(task_id=task_id)
            [task] = cancellable(transaction, [task_id])
            if task.refusal:
                raise task.refusal.error()
            status: Literal["cancelled", "in_progress"] = "cancelled" if task.outcome == CANCELLED else "in_progress"
            before, after = {"status": status_word(task.status)}, {"status": status}
            entry_id = add_entry(
                transaction, actor, "cancel", task_id=task_id, before=before, after=after, reason=reason
            )
            [(living_workers,)] = transaction.fetch("living_workers")
            call_off(transaction, entry_id, [task])
            transaction.ring("cancel", task_id)
        return CancelOutcome(
            task_id=task_id,
            status=status,
            entry_id=entry_id,
            interruptible=task.interruptible,
            living_workers=living_workers,
        )

    def revoked_results_due(self, limit: int = 100) -> list[str]:
        """Tasks that were called off and will be dropped wherever their message turns up, so that the application's
        result backend may say REVOKED; and does not yet."""
        with self._transaction() as transaction:
            return [task_id for (task_id,) in transaction.fetch("results_due", {"limit": limit})]

    def results_revoked(self, task_ids: Sequence[str]) -> None:
        """The result backend says so."""
        with self._transaction() as transaction:
            transaction.execute("results_revoked", {"ids": list(task_ids)})

    def _settle_cancellations(self, limit: int) -> int:
        """How many have come to their end since; they are looked through in turns."""
        with self._transaction() as transaction:
            window = {"after": self._settled_up_to, "window": SETTLE_WINDOW}
            [(seen, last, ids)] = transaction.fetch("ended_cancellations", window, ended=statement("ended"))
            if len(ids) <= limit:  # else the rest of the window comes with the next call
                self._settled_up_to = last if seen == SETTLE_WINDOW else 0
            if not ids:
                return 0
            ids = ids[:limit]
            transaction.execute("lock_tasks", {"ids": ids}, controllable="true")
            moves = transaction.fetch("settle_cancellations", {"ids": ids}, ended=statement("ended"))
            for bulk_id, of_bulk in groupby((move for move in moves if move[0]), key=lambda move: move[0]):
                count_moves(transaction, bulk_id, [(was, outcome, count) for _, was, outcome, count, _ in of_bulk])
                transaction.ring("bulk", bulk_id)
        return len(ids)


def cancellable(transaction: Transaction, ids: Sequence[str]) -> list[Cancellable]:
    """Of tasks that are locked, in the order of their ids."""
    rows = transaction.fetch("cancellable", {"ids": list(ids)}, rule=statement("cancel_rule"))
    return [
        Cancellable(task_id, status, Refusal(code=code, status=status_word(status)) if code else None, interruptible)
        for task_id, status, code, interruptible in rows
    ]


def call_off(transaction: Transaction, entry_id: int, tasks: Sequence[Cancellable]) -> None:
    """Writes the facts, the desired states and the outcomes of locked tasks that may be cancelled. Takes the lock of
    control, so it is the last thing in its transaction that may wait."""
    if not tasks:
        return
    ids = [task.task_id for task in tasks]
    transaction.execute("tell_cancels", {"ids": ids})
    add_outcomes(transaction, entry_id, ((task.task_id, task.outcome, _DETAILS[task.outcome]) for task in tasks))
    transaction.lock_control()
    statuses = [task.status for task in tasks]
    transaction.execute("add_cancellations", {"entry_id": entry_id, "ids": ids, "statuses": statuses})
