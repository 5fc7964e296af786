"""Running bulk actions in batches, each one transaction.

Guarantee: an item is done once, whoever runs the bulk and however often a runner dies; a batch that was interrupted is
as if it had not been begun, except that messages promised in it may have been sent: their items become "unknown" and
are never sent again. What bites: the right to run one is a lock of a connection, so a runner that has lost its
connection may meet another one; every batch therefore takes only items that are still open.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from oracle_celery.database.audit import WHOLE, add_outcomes
from oracle_celery.database.bulk_actions import find_bulk
from oracle_celery.database.bulk_progress import SENDING, count_moves, move_items
from oracle_celery.database.cancellations import call_off, cancellable
from oracle_celery.database.control_facts import Bulk, BulkItem, BulkJob, BulkOptions, RetryClaim
from oracle_celery.database.opening import direct_connection
from oracle_celery.database.refusals import NOT_FOUND, Refusal
from oracle_celery.database.retries import Traces, claim, confirm, fail, retryable
from oracle_celery.database.sql import statement
from oracle_celery.database.transactions import CommandStore, Transaction, translated_errors
from oracle_celery.viewer import ORACLE, Actor, Viewer

__all__ = ["BulkRuns"]

#: The advisory locks of running bulks ("bulk"), arbitrary but for ever.
RUN_KEY = 0x62756C6B
#: Bytes of messages that are claimed at once, unless a single one has more.
CLAIM_BYTES = 16 * 1024 * 1024


class BulkRuns(CommandStore):
    def open_bulks(self) -> list[BulkJob]:
        """Those that are not finished, the oldest first."""
        with self._transaction() as transaction:
            rows = transaction.fetch("open_bulks")
        return [
            BulkJob(
                bulk_id=bulk_id,
                action=action,
                entry_id=entry_id,
                actor=Actor(viewer=Viewer(user_id=actor, is_admin=is_admin), via=via, address=address),
                options=msgspec.convert(options, BulkOptions),
            )
            for bulk_id, action, entry_id, actor, is_admin, via, address, options in rows
        ]

    @contextmanager
    def try_run_bulk(self, bulk_id: str) -> Iterator[bool]:
        """Whether the caller, alone of all sidecars, may run it; until the end of the block."""
        with translated_errors():
            connection = direct_connection(self._dsn)
        try:
            with translated_errors():
                found = connection.execute(statement("try_run_bulk"), {"bulk_id": bulk_id, "key": RUN_KEY}).fetchone()
            yield bool(found and found[0])
        finally:
            connection.close()

    def next_items(self, bulk_id: str, limit: int) -> list[BulkItem]:
        """Those whose turn it is; none: the bulk can be finished."""
        with self._transaction() as transaction:
            rows = transaction.fetch("next_items", {"bulk_id": bulk_id, "limit": limit})
        return [BulkItem(number=number, task_id=task_id) for number, task_id in rows]

    def cancel_items(self, job: BulkJob, items: Sequence[BulkItem]) -> None:
        """Cancels those that may be, and says of the others why not."""
        with self._transaction() as transaction:
            batch = _Batch(transaction, job, items)
            tasks = cancellable(transaction, batch.ids)
            for task in tasks:
                if task.refusal is None:
                    batch.set(task.task_id, task.outcome)
                else:
                    batch.refuse(task.task_id, task.refusal)
            batch.write()
            call_off(transaction, job.entry_id, [task for task in tasks if task.refusal is None])

    def claim_retry_items(self, job: BulkJob, items: Sequence[BulkItem]) -> list[RetryClaim]:
        """Promises those that may be retried, each under a new id, and says of the others why not. Where the messages
        are large, the last items stay open for the next call."""
        with self._transaction() as transaction:
            batch = _Batch(transaction, job, items)
            new_ids: dict[str, str] = {}
            size = 0
            include_cancelled, force = job.options.include_cancelled, job.options.force
            for task in retryable(transaction, batch.ids, include_cancelled=include_cancelled, force=force):
                if task.refusal is not None:
                    batch.refuse(task.task_id, task.refusal)
                elif not new_ids or size + task.size <= CLAIM_BYTES:
                    size += task.size
                    new_ids[task.task_id] = str(uuid.uuid4())
                    batch.set(task.task_id, SENDING, new_id=new_ids[task.task_id])
            claims = claim(transaction, job.entry_id, new_ids)
            batch.write()
            return claims

    def record_retry_items(
        self, job: BulkJob, sent: Sequence[str], failed: Mapping[str, str], traces: Traces | None = None
    ) -> Bulk:
        """Which of the promised messages (new ids) the broker has, and which were certainly not sent, and why."""
        with self._transaction() as transaction:
            confirm(transaction, sent, traces or {})
            fail(transaction, failed)
            outcomes: dict[str, tuple[str, str | None]] = dict.fromkeys(sent, ("sent", None))
            outcomes.update((new_id, ("failed", detail)) for new_id, detail in failed.items())
            move_items(transaction, job.bulk_id, outcomes)
            return find_bulk(transaction, job.actor.viewer, job.bulk_id)

    def release_retry_items(self, job: BulkJob, new_ids: Sequence[str]) -> None:
        """Takes promises back whose messages were certainly not sent: their items are open again, as if never tried."""
        with self._transaction() as transaction:
            parameters = {"bulk_id": job.bulk_id, "new_ids": list(new_ids)}
            transaction.execute("release_items", parameters)

    def recover_bulk(self, job: BulkJob) -> None:
        """Before a runner goes on: what an earlier one has promised was sent where the new task has been heard of, and
        is unknown where not."""
        with self._transaction() as transaction:
            unsure = transaction.fetch("unsure_items", {"bulk_id": job.bulk_id})
            confirm(transaction, [new_id for _, new_id, is_there in unsure if is_there])
            unknown = [(task_id, "unknown", new_id) for task_id, new_id, is_there in unsure if not is_there]
            add_outcomes(transaction, job.entry_id, unknown)
            outcomes = {new_id: ("sent" if is_there else "unknown", None) for _, new_id, is_there in unsure}
            move_items(transaction, job.bulk_id, outcomes)

    def finish_bulk(self, bulk_id: str) -> Bulk:
        """Idempotent."""
        with self._transaction() as transaction:
            bulk = find_bulk(transaction, ORACLE.viewer, bulk_id)
            for entry_id, outcomes in transaction.fetch("finish_bulk", {"bulk_id": bulk_id}):
                counts = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(outcomes.items()))
                add_outcomes(transaction, entry_id, [(WHOLE, "finished", counts or "No task was chosen.")])
                transaction.ring("bulk", bulk_id)
                bulk = find_bulk(transaction, ORACLE.viewer, bulk_id)
            return bulk


class _Batch:
    """Items of one bulk that are still open, their tasks locked, and what is to be written of them."""

    def __init__(self, transaction: Transaction, job: BulkJob, items: Sequence[BulkItem]) -> None:
        self._transaction = transaction
        self._job = job
        numbers = [item.number for item in items]
        locked = transaction.fetch("lock_items", {"bulk_id": job.bulk_id, "numbers": numbers})
        self._numbers = {task_id: number for number, task_id in locked}
        self.ids = sorted(transaction.lock_tasks(job.actor.viewer, list(self._numbers)))
        self._outcomes: dict[str, tuple[str, str | None, str | None]] = {}
        for task_id in self._numbers.keys() - set(self.ids):
            self.refuse(task_id, Refusal(code=NOT_FOUND))

    def set(self, task_id: str, outcome: str, *, new_id: str | None = None) -> None:
        """Its audit is written by whoever does it."""
        self._outcomes[task_id] = (outcome, None, new_id)

    def refuse(self, task_id: str, refusal: Refusal) -> None:
        self._outcomes[task_id] = (refusal.code, refusal.explanation, None)

    def write(self) -> None:
        found = [(self._numbers[task_id], *outcome) for task_id, outcome in self._outcomes.items()]
        names = ("numbers", "outcomes", "details", "new_ids")
        columns = [list(column) for column in zip(*found, strict=True)] or [[], [], [], []]
        parameters = {"bulk_id": self._job.bulk_id, **dict(zip(names, columns, strict=True))}
        self._transaction.execute("set_items", parameters)
        refused = [(task_id, code, why) for task_id, (code, why, _) in self._outcomes.items() if why is not None]
        add_outcomes(self._transaction, self._job.entry_id, refused)
        count_moves(self._transaction, self._job.bulk_id, [(None, outcome, 1) for _, outcome, _, _ in found])
        self._transaction.ring("bulk", self._job.bulk_id)
