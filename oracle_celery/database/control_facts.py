"""What control is asked and what it answers: commands, what came of them, and the audit of both.

Points in time and statuses are told as in `facts`: ISO-8601 texts in UTC, and words.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from oracle_celery.database.facts import Instant
from oracle_celery.viewer import Actor

__all__ = [
    "AuditEntry",
    "AuditOutcome",
    "AuditPage",
    "Bulk",
    "BulkAction",
    "BulkItem",
    "BulkItemPage",
    "BulkJob",
    "BulkOptions",
    "BulkPreview",
    "CancelControl",
    "CancelOutcome",
    "CancelRequest",
    "Ineligible",
    "Pause",
    "PauseCommand",
    "RetryChanges",
    "RetryClaim",
    "RetryControl",
    "TaskControl",
    "WorkerPauseReport",
]

BulkAction = Literal["cancel", "retry"]


class CancelOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a cancel has come to in its own transaction."""

    task_id: str
    status: Literal["cancelled", "in_progress"]  # in_progress: its end is requested
    entry_id: int
    interruptible: bool | None  # whether the worker that runs it can interrupt it; None: it runs nowhere, or unknown
    living_workers: int


class RetryChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a retry is to have instead of what its task had; None leaves it."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    queue: str | None = None


class RetryClaim(msgspec.Struct, frozen=True, kw_only=True):
    """The right to send a task's message again, once, under a new id."""

    task_id: str
    new_id: str
    entry_id: int
    envelope: bytes  # kept_message.Envelope
    key_id: str | None  # the key that it is encrypted with


class CancelControl(msgspec.Struct, frozen=True, kw_only=True):
    allowed: bool
    code: str | None  # of why_not, as a refusal would have it
    why_not: str | None
    interruptible: bool | None


class RetryControl(msgspec.Struct, frozen=True, kw_only=True):
    """Where `needs` is given, a retry is allowed with that option only."""

    allowed: bool
    code: str | None
    why_not: str | None
    missing: str | None = None  # why there is no message
    needs: Literal["include_cancelled", "force"] | None


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True):
    at: Instant
    by: str
    reason: str | None


class TaskControl(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done with one task, and what has been."""

    cancel: CancelControl
    retry: RetryControl
    cancel_requested: CancelRequest | None
    retry_of: str | None
    retried_as: str | None
    retry_state: Literal["sending", "sent", "unknown"] | None


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A pause in force."""

    queue: str  # '': all queues
    by: str
    at: Instant
    reason: str | None
    until: Instant | None
    seq: int
    exceptions: tuple[str, ...] = ()  # of a pause of all queues: those that were resumed since


class PauseCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A pause or a resume that was given."""

    entry_id: int
    seq: int
    queues: tuple[str, ...]  # (): all queues
    is_paused: bool
    until: Instant | None = None


class WorkerPauseReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a living worker has said of a pause or a resume; of several queues, the worst."""

    node: str
    worker_id: str
    state: Literal["confirmed", "waiting", "unreachable", "not_consuming"]
    detail: str | None = None


class AuditOutcome(msgspec.Struct, frozen=True, kw_only=True):
    subject: str  # a task id, a worker's node name, or '*': the action as a whole
    outcome: str
    detail: str | None
    at: Instant


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what, and what came of it."""

    audit_id: int
    at: Instant
    actor: str
    is_admin: bool
    via: str
    address: str | None
    action: str
    task_id: str | None
    queues: list[str] | None  # []: all queues
    bulk_id: str | None
    filter: Any
    before: Any
    after: Any
    reason: str | None
    outcome: str | None  # the newest
    outcomes: list[AuditOutcome]  # as they came


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    entries: list[AuditEntry]  # newest first
    next: int | None  # `before` of the next page


class BulkOptions(msgspec.Struct, frozen=True, kw_only=True):
    reason: str | None = None
    include_cancelled: bool = False
    force: bool = False


class Ineligible(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str
    count: int
    missing: str | None = None  # why there is no message, where that is what keeps them back


class BulkPreview(msgspec.Struct, frozen=True, kw_only=True):
    total: int
    eligible: int
    ineligible: list[Ineligible]
    sample: list[str]  # some of the eligible
    created_until: Instant  # a filter finds no task that was created later; for the command that follows


class Bulk(msgspec.Struct, frozen=True, kw_only=True):
    """One action on many tasks, and how far it is."""

    bulk_id: str
    action: BulkAction
    state: Literal["running", "finished"]
    total: int
    done: int
    outcomes: dict[str, int]
    created_at: Instant
    finished_at: Instant | None
    actor: str
    reason: str | None
    audit_id: int
    is_admin: bool  # what the actor was when they asked for it: it runs with the rights that they had


class BulkItem(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    task_id: str
    outcome: str | None = None  # None: not yet
    detail: str | None = None
    new_task_id: str | None = None


class BulkItemPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[BulkItem]
    next: int | None


class BulkJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner has to know of a bulk that is not finished."""

    bulk_id: str
    action: BulkAction
    entry_id: int
    actor: Actor
    options: BulkOptions
