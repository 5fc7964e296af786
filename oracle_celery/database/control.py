"""The only writer of what people want: cancels, retries, pauses, bulk actions, and the audit of all of them.

Guarantee: a command is one transaction that holds its desired state, its one audit entry, the facts that follow at once
and the notification; the owner's predicate is inside its SQL. Thread-safe; every method blocks. What bites: the store
says what is wanted and what is known of it. That workers look at once, that a message is sent again and that a result
backend says REVOKED is up to the caller.
"""

from __future__ import annotations

from oracle_celery.database.audit import AuditLog
from oracle_celery.database.bulk_actions import BulkActions
from oracle_celery.database.bulk_runs import BulkRuns
from oracle_celery.database.cancellations import Cancellations
from oracle_celery.database.pauses import Pauses
from oracle_celery.database.retries import Retries
from oracle_celery.database.task_control import TaskControls

__all__ = ["ControlStore"]


class ControlStore(Cancellations, Retries, Pauses, BulkActions, BulkRuns, TaskControls, AuditLog):
    """All of control over one small pool, opened when it is first needed."""

    def settle(self, limit: int = 500) -> int:
        """Writes down what has come of commands since they were answered: cancelled tasks that have ended, promised
        retries that were heard of, workers that have reported. To be called again and again by whoever leads; returns
        how many cancels were settled: call again at once where it is `limit`."""
        settled = self._settle_cancellations(limit)
        self._settle_retries()
        self._settle_pauses()
        return settled
