"""Retries: the promise of one new id for a failed task, before its message is sent, and what came of it.

Guarantee: a task is retried once. What bites: between the promise and its confirmation the message may have been sent
or not, and nobody can tell; it is never sent again by itself, and counts as sent once the new task is heard of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from oracle_celery.database.audit import add_entry, add_outcomes
from oracle_celery.database.bulk_progress import move_items
from oracle_celery.database.control_facts import RetryChanges, RetryClaim
from oracle_celery.database.refusals import Refusal, status_word
from oracle_celery.database.sql import statement
from oracle_celery.database.transactions import CommandStore, Transaction
from oracle_celery.errors import TaskNotFound
from oracle_celery.viewer import Actor

__all__ = ["PATIENCE", "Retries", "Retryable", "Traces", "claim", "confirm", "fail", "retryable"]

#: Seconds after which a promised retry that nothing was heard of is shown as unknown.
PATIENCE = 60.0
UNSURE_LIMIT = 200  # retries looked at by one call of `settle`

#: By new id, the fields `trace_id` and `span` of a `records.Transition`; one that is missing has its old task's trace.
Traces = Mapping[str, Mapping[str, str]]
_NO_TRACES: Traces = {}


class Retryable(msgspec.Struct, frozen=True):
    """A task and what the rule says of retrying it."""

    task_id: str
    status: int
    refusal: Refusal | None
    size: int  # bytes of its message


class Retries(CommandStore):
    def claim_retry(
        self,
        actor: Actor,
        task_id: str,
        new_id: str,
        *,
        include_cancelled: bool = False,
        force: bool = False,
        changes: RetryChanges | None = None,
        reason: str | None = None,
        bulk_id: str | None = None,
        entry_id: int | None = None,
    ) -> RetryClaim:
        """Promises that the task's message will be sent as `new_id`. With the `entry_id` of a bulk action no audit
        entry is written. Raises TaskNotFound, NotAllowed or ReadOnly."""
        with self._command(actor) as transaction:
            if not transaction.lock_tasks(actor.viewer, [task_id]):
                raise TaskNotFound(task_id=task_id)
            [task] = retryable(transaction, [task_id], include_cancelled=include_cancelled, force=force)
            if task.refusal:
                raise task.refusal.error()
            if entry_id is None:
                entry_id = add_entry(
                    transaction,
                    actor,
                    "retry",
                    task_id=task_id,
                    bulk_id=bulk_id,
                    before={"status": status_word(task.status)},
                    after={"new_id": new_id, "changes": changes or RetryChanges()},
                    reason=reason,
                )
            [found] = claim(transaction, entry_id, {task_id: new_id})
            return found

    def confirm_retry(self, new_ids: Sequence[str], traces: Traces = _NO_TRACES) -> None:
        """The broker has the messages. Idempotent."""
        with self._transaction() as transaction:
            confirm(transaction, new_ids, traces)

    def fail_retry(self, new_id: str, detail: str) -> None:
        """The message was certainly not sent: the task may be retried again."""
        with self._transaction() as transaction:
            fail(transaction, {new_id: detail})

    def _settle_retries(self) -> int:
        """Promises whose keeper is gone: sent where the new task has been heard of, unknown where not."""
        with self._transaction() as transaction:
            unsure = transaction.fetch("unsure_retries", {"patience": PATIENCE, "limit": UNSURE_LIMIT})
            heard_of = [(new_id, entry_id) for _, new_id, entry_id, is_there in unsure if is_there]
            confirm(transaction, [new_id for new_id, _ in heard_of])
            entries = [entry_id for _, entry_id in heard_of]
            for bulk_id, bulk_entry in transaction.fetch("bulks_of_entries", {"entries": entries}):
                sent = {new_id: ("sent", None) for new_id, entry_id in heard_of if entry_id == bulk_entry}
                move_items(transaction, bulk_id, sent)
            for task_id, new_id, entry_id, is_there in unsure:
                if not is_there:
                    add_outcomes(transaction, entry_id, [(task_id, "unknown", new_id)])
        return len(unsure)


def retryable(transaction: Transaction, ids: Sequence[str], *, include_cancelled: bool, force: bool) -> list[Retryable]:
    """Of tasks that are locked, in the order of their ids."""
    rows = transaction.fetch(
        "retryable",
        {"ids": list(ids), "include_cancelled": include_cancelled, "force": force},
        rule=statement("retry_rule"),
        missing=statement("missing_message"),
    )
    return [
        Retryable(
            task_id,
            status,
            Refusal(code=code, status=status_word(status), missing=missing, new_id=new_id) if code else None,
            size,
        )
        for task_id, status, code, missing, new_id, size in rows
    ]


def claim(transaction: Transaction, entry_id: int, new_ids: Mapping[str, str]) -> list[RetryClaim]:
    """Of locked tasks that may be retried, each with its new id."""
    if not new_ids:
        return []
    parameters = {"entry_id": entry_id, "ids": list(new_ids), "new_ids": list(new_ids.values())}
    return [
        RetryClaim(task_id=task_id, new_id=new_id, entry_id=entry_id, envelope=envelope, key_id=key_id)
        for task_id, new_id, envelope, key_id in transaction.fetch("add_retries", parameters)
    ]


def confirm(transaction: Transaction, new_ids: Sequence[str], traces: Traces = _NO_TRACES) -> None:
    if new_ids:
        told = [traces.get(new_id) or {} for new_id in new_ids]
        transaction.execute(
            "confirm_retries",
            {
                "new_ids": list(new_ids),
                "trace_ids": [trace.get("trace_id") for trace in told],
                "spans": [trace.get("span") for trace in told],
            },
        )


def fail(transaction: Transaction, details: Mapping[str, str]) -> None:
    """By new id, why."""
    if details:
        transaction.execute("fail_retries", {"new_ids": list(details), "details": list(details.values())})
