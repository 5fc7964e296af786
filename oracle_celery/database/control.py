"""The only writer of what people want: cancels, retries, pauses, bulk actions, and the audit of all of them.

Guarantee: a command is one transaction that holds its desired state, its one audit entry, the facts that follow at once
and the notification; the owner's predicate is inside its SQL. Thread-safe; every method blocks.
What bites: rows of tasks are locked first and in the order of their ids, the advisory lock of control last and as short
as can be: whoever holds it waits for nobody. Rules are read in a statement after the one that locks, because a
statement that had to wait for a row still sees everything else as it was before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from oracle_celery.database.control_facts import (
    AuditPage,
    Bulk,
    BulkAction,
    BulkItem,
    BulkItemPage,
    BulkJob,
    BulkOptions,
    BulkPreview,
    CancelOutcome,
    Pause,
    PauseCommand,
    RetryChanges,
    RetryClaim,
    TaskControl,
    WorkerPauseReport,
)
from oracle_celery.database.listing import TaskFilter
from oracle_celery.viewer import Actor, Viewer

__all__ = ["ControlStore"]


class ControlStore:
    """Commands and their outcomes, over a small pool of its own that is opened when it is first needed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def close(self) -> None:
        raise NotImplementedError

    def cancel(self, actor: Actor, task_id: str, reason: str | None = None) -> CancelOutcome:
        """Calls a task off before it starts, or requests its end. Raises TaskNotFound or NotAllowed."""
        raise NotImplementedError

    def preflight(self, viewer: Viewer, task_id: str) -> TaskControl:
        """What may be done with a task. Raises TaskNotFound."""
        raise NotImplementedError

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
        raise NotImplementedError

    def confirm_retry(self, new_ids: Sequence[str]) -> None:
        raise NotImplementedError

    def fail_retry(self, new_id: str, detail: str) -> None:
        raise NotImplementedError

    def pause(
        self, actor: Actor, queues: Sequence[str], reason: str | None = None, until: datetime | None = None
    ) -> PauseCommand:
        raise NotImplementedError

    def resume(self, actor: Actor, queues: Sequence[str], reason: str | None = None) -> PauseCommand:
        raise NotImplementedError

    def pauses(self) -> list[Pause]:
        raise NotImplementedError

    def pause_reports(self, command: PauseCommand) -> list[WorkerPauseReport]:
        raise NotImplementedError

    def record_pause_outcomes(self, command: PauseCommand, reports: Sequence[WorkerPauseReport]) -> None:
        raise NotImplementedError

    def end_pauses(self) -> int:
        raise NotImplementedError

    def settle(self, limit: int = 500) -> int:
        raise NotImplementedError

    def revoked_results_due(self, limit: int = 100) -> list[str]:
        raise NotImplementedError

    def results_revoked(self, task_ids: Sequence[str]) -> None:
        raise NotImplementedError

    def audit(
        self,
        viewer: Viewer,
        *,
        actor: str | None = None,
        action: str | None = None,
        task_id: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> AuditPage:
        raise NotImplementedError

    def preview_bulk(
        self,
        actor: Actor,
        action: BulkAction,
        ids: Sequence[str] | None,
        wanted: TaskFilter | None,
        options: BulkOptions,
    ) -> BulkPreview:
        raise NotImplementedError

    def create_bulk(
        self,
        actor: Actor,
        action: BulkAction,
        ids: Sequence[str] | None,
        wanted: TaskFilter | None,
        options: BulkOptions,
    ) -> Bulk:
        raise NotImplementedError

    def bulk(self, viewer: Viewer, bulk_id: str) -> Bulk:
        raise NotImplementedError

    def bulks(self, viewer: Viewer, limit: int = 20) -> list[Bulk]:
        raise NotImplementedError

    def bulk_items(
        self, viewer: Viewer, bulk_id: str, *, after: int = 0, limit: int = 100, outcome: str | None = None
    ) -> BulkItemPage:
        raise NotImplementedError

    def open_bulks(self) -> list[BulkJob]:
        raise NotImplementedError

    def try_run_bulk(self, bulk_id: str) -> AbstractContextManager[bool]:
        raise NotImplementedError

    def next_items(self, bulk_id: str, limit: int) -> list[BulkItem]:
        raise NotImplementedError

    def cancel_items(self, job: BulkJob, items: Sequence[BulkItem]) -> None:
        raise NotImplementedError

    def claim_retry_items(self, job: BulkJob, items: Sequence[BulkItem]) -> list[RetryClaim]:
        raise NotImplementedError

    def record_retry_items(self, job: BulkJob, sent: Sequence[str], failed: Mapping[str, str]) -> Bulk:
        raise NotImplementedError

    def recover_bulk(self, job: BulkJob) -> None:
        raise NotImplementedError

    def finish_bulk(self, bulk_id: str) -> Bulk:
        raise NotImplementedError
