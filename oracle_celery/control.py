"""What people want of tasks and queues: each command is a transaction first, then a bell for the workers.

The sidecar's only way to Celery, and what stands behind `app.oracle`. Every method blocks: the sidecar calls them in
threads.

Guarantee: once a command has returned, it holds, whatever becomes of the broker, the workers or this process; workers
look at what is wanted by themselves, at their start and every second. The bell only makes them look now, so a broker
that does not answer costs a command a bounded time and a note in its answer, never the command.

What bites: a broker that cannot be reached is an error where a worker is asked something (`ping`), never an answer:
that a worker did not answer a question nobody could ask says nothing about the worker. And what is certain once a
command holds is answered, also where the database goes away before all of it is written down or read.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import msgspec
from celery import states
from celery.backends.base import DisabledBackend

from oracle_celery import remote_control
from oracle_celery.bounded_calls import BoundedCalls
from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import (
    Bulk,
    BulkAction,
    BulkOptions,
    BulkPreview,
    PauseCommand,
    RetryChanges,
    WorkerPauseReport,
)
from oracle_celery.database.listing import TaskFilter
from oracle_celery.database.transactions import LONG_TIMEOUT
from oracle_celery.errors import BadQuery, DatabaseUnavailable, NotAllowed, PublishFailed
from oracle_celery.repetition import repeated
from oracle_celery.resending import Resender
from oracle_celery.settings import Settings
from oracle_celery.viewer import Actor

__all__ = ["ALL_QUEUES", "BELL", "Cancelled", "Control", "QueuesAnswer", "Resender", "Retried", "ping"]

logger = logging.getLogger(__name__)

#: Celery's remote-control command that makes workers look at what is wanted of them. It says nothing and asks nothing.
BELL = "oracle_look"
#: In place of a queue's name.
ALL_QUEUES = "*"

#: A node that does not exist costs the full time.
PING_TIMEOUT_SECONDS = 3.0
#: What a broker may cost a ping besides, that answers each time, but slowly.
PING_GRACE_SECONDS = 8.0
#: What the bell, or telling a result backend, may cost a command.
BROKER_PATIENCE_SECONDS = 2.0
#: Calls of each kind that may go on behind at once.
CALLS_BEHIND = 8
#: How long a pause waits for the workers' own reports; later ones reach the audit all the same.
REPORT_PATIENCE_SECONDS = 3.0
REPORT_POLL_SECONDS = 0.05
#: Results told as revoked in one round.
RESULTS_LIMIT = 1_000
#: What writing down the outcome of a retry may cost its answer besides the first attempt; how long it goes on behind,
#: and of how many retries.
NOTE_PATIENCE_SECONDS = 5.0
NOTE_SECONDS = 300.0
NOTES_BEHIND = 64

BELL_UNHEARD = "The broker does not answer now; workers that run will see it by themselves within a second."
REPORTS_UNKNOWN = "The database does not answer now: what the workers have said of it is not known yet."

_PINGS = BoundedCalls("oracle-ping", CALLS_BEHIND)


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """`outcome` is "cancelled", or "requested" where the task runs and its worker has to end it."""

    task_id: str
    status: Literal["cancelled", "in_progress"]
    outcome: Literal["cancelled", "requested"]
    interruptible: bool | None  # of a running task: whether its pool can interrupt it; None: nobody knows
    audit_id: int
    note: str | None


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """The new task that was sent in place of the old one."""

    task_id: str
    new_task_id: str
    audit_id: int


class QueuesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A pause or a resume, and what each living worker has said of it so far."""

    audit_id: int
    queues: tuple[str, ...]  # (): all
    is_paused: bool
    until: str | None
    workers: list[WorkerPauseReport]
    note: str | None


class Control:
    """Commands to one app's tasks and queues. Thread-safe."""

    def __init__(self, app: Any, settings: Settings, store: ControlStore) -> None:
        self._app = app
        self._settings = settings
        self._store = store
        self._bells = BoundedCalls("oracle-bell", CALLS_BEHIND)
        self._results = BoundedCalls("oracle-result", CALLS_BEHIND)
        self._notes = BoundedCalls("oracle-note", NOTES_BEHIND)

    def cancel(self, actor: Actor, task_id: str, reason: str | None = None) -> Cancelled:
        """Raises TaskNotFound, or NotAllowed for a task that has ended."""
        outcome = self._store.cancel(actor, task_id, reason)
        notes = [self.ring()]
        if outcome.status == "cancelled" and not outcome.living_workers:
            notes.append(self._revoke_result_now(task_id))
        return Cancelled(
            task_id=task_id,
            status=outcome.status,
            outcome="cancelled" if outcome.status == "cancelled" else "requested",
            interruptible=outcome.interruptible,
            audit_id=outcome.entry_id,
            note=" ".join(note for note in notes if note) or None,
        )

    def retry(
        self,
        actor: Actor,
        task_id: str,
        *,
        include_cancelled: bool = False,
        force: bool = False,
        changes: RetryChanges | None = None,
        reason: str | None = None,
    ) -> Retried:
        """Raises TaskNotFound, NotAllowed, or PublishFailed where nothing was sent. Any other error after the claim
        leaves the retry "sending": whether the broker has the message is then shown by the new task's record. What is
        certain is the answer, though the database may not be there to write it down at once."""
        new_id = str(uuid.uuid4())
        claim = self._store.claim_retry(
            *(actor, task_id, new_id),
            include_cancelled=include_cancelled,
            force=force,
            changes=changes,
            reason=reason,
        )
        try:
            with self.resender() as resender:
                trace = resender.resend(claim.envelope, claim.key_id, new_id, changes)
        except (PublishFailed, NotAllowed) as error:
            self._note(partial(self._store.fail_retry, new_id, str(error)))
            raise
        self._note(partial(self._store.confirm_retry, [new_id], {new_id: trace}))
        return Retried(task_id=task_id, new_task_id=new_id, audit_id=claim.entry_id)

    def pause(
        self,
        actor: Actor,
        queues: Sequence[str] | str | None = None,
        reason: str | None = None,
        until: datetime | None = None,
    ) -> QueuesAnswer:
        """No queue: the app's default one; ALL_QUEUES: every queue, those of the future too."""
        if until is not None and (until.tzinfo is None or until <= datetime.now(UTC)):
            raise BadQuery(parameter="until", value=str(until), allowed="a moment to come, with its time zone")
        return self._answer(self._store.pause(actor, self._queues(queues), reason, until))

    def resume(
        self, actor: Actor, queues: Sequence[str] | str | None = None, reason: str | None = None
    ) -> QueuesAnswer:
        """Queues as for `pause`. Raises NotAllowed where none of them is paused."""
        return self._answer(self._store.resume(actor, self._queues(queues), reason))

    def preview_bulk(
        self,
        actor: Actor,
        action: BulkAction,
        ids: Sequence[str] | None,
        wanted: TaskFilter | None,
        options: BulkOptions,
        created_until: datetime | None = None,
        patience: int = LONG_TIMEOUT,
    ) -> BulkPreview:
        """What a bulk would do now; nothing is done. Raises QueryTooBroad after `patience` milliseconds."""
        return self._store.preview_bulk(actor, action, ids, wanted, options, created_until, patience)

    def create_bulk(
        self,
        actor: Actor,
        action: BulkAction,
        ids: Sequence[str] | None,
        wanted: TaskFilter | None,
        options: BulkOptions,
        created_until: datetime | None = None,
    ) -> Bulk:
        """A sidecar runs it (`bulk_runner`)."""
        return self._store.create_bulk(actor, action, ids, wanted, options, created_until)

    def resender(self) -> Resender:
        """Sends kept messages over one confirmed connection, as a context manager."""
        return Resender(self._app, self._settings)

    def ring(self) -> str | None:
        """Makes the workers look now. Returns what to tell people where the bell could not be rung."""
        error = self._bells.within(BROKER_PATIENCE_SECONDS, partial(remote_control.tell, self._app, BELL))
        if error is None:
            return None
        logger.warning("The workers' bell cannot be rung, they look by themselves: %r", error)
        return BELL_UNHEARD

    def revoke_results(self) -> int:
        """Tells the result backend of cancelled tasks whose message no worker is there to drop. Returns how many.
        Raises what the backend raises; what is left is due again."""
        due = self._store.revoked_results_due(RESULTS_LIMIT)
        told = []
        try:
            for task_id in due:
                self._revoke_result(task_id)
                told.append(task_id)
        finally:
            if told:
                self._store.results_revoked(told)
        return len(told)

    def _queues(self, queues: Sequence[str] | str | None) -> tuple[str, ...]:
        names = (queues,) if isinstance(queues, str) else tuple(queues or ())
        if ALL_QUEUES in names:
            return ()
        if "" in names:
            raise BadQuery(parameter="queue", value="", allowed=f"a queue's name, or {ALL_QUEUES} for all")
        return tuple(dict.fromkeys(names)) or (self._app.conf.task_default_queue,)

    def _answer(self, command: PauseCommand) -> QueuesAnswer:
        """Waits for the workers' own reports, which they make after the act. Never raises: the command holds."""
        notes = [self.ring()]
        deadline = time.monotonic() + REPORT_PATIENCE_SECONDS
        reports: list[WorkerPauseReport] = []
        away: DatabaseUnavailable | None = None
        while True:
            try:
                reports, away = self._store.pause_reports(command), None
            except DatabaseUnavailable as error:
                away = error
            is_known = away is None and all(report.state != "waiting" for report in reports)
            if is_known or time.monotonic() > deadline:
                break
            time.sleep(REPORT_POLL_SECONDS)
        if away is None:
            try:
                self._store.record_pause_outcomes(command, reports)
            except DatabaseUnavailable as error:  # the sidecar that leads does so as well, for an hour
                logger.warning("What workers said of a command to queues is noted later: %s", error)
        else:
            logger.warning("What workers have said of a command to queues cannot be read: %s", away)
            notes.append(REPORTS_UNKNOWN)
        return QueuesAnswer(
            audit_id=command.entry_id,
            queues=command.queues,
            is_paused=command.is_paused,
            until=command.until,
            workers=reports,
            note=" ".join(note for note in notes if note) or None,
        )

    def _note(self, write: Callable[[], None]) -> None:
        """Of a retry, which stays barred while it is not written: so it is tried for a while, behind the answer too."""
        try:
            write()
        except DatabaseUnavailable as error:
            logger.warning("What has come of a retry is written down as soon as the database answers: %s", error)
            error_behind = self._notes.within(NOTE_PATIENCE_SECONDS, partial(repeated, write, NOTE_SECONDS))
            if error_behind is not None:
                logger.warning("What has come of a retry is not written down yet: %r", error_behind)

    def _revoke_result_now(self, task_id: str) -> str | None:
        def revoke() -> None:
            self._revoke_result(task_id)
            self._store.results_revoked([task_id])

        error = self._results.within(BROKER_PATIENCE_SECONDS, revoke)
        if error is None:
            return None
        logger.warning("The result backend has not taken REVOKED for a cancelled task: %r", error)
        return "The result backend does not answer now; who waits for the result is told by a sidecar or worker."

    def _revoke_result(self, task_id: str) -> None:
        """Whoever waits for the result sees REVOKED, unless the backend knows an outcome."""
        backend = self._app.backend
        if isinstance(backend, DisabledBackend):
            return
        try:
            if backend.get_state(task_id) not in states.READY_STATES:
                backend.mark_as_revoked(task_id, "cancelled")
        except (NotImplementedError, RuntimeError, AttributeError):
            # it answers only those who hold the message (rpc://): a worker that drops it says so
            logger.debug("This result backend cannot be told that a task was cancelled", exc_info=True)


async def ping(app: Any, nodes: Collection[str], timeout: float = PING_TIMEOUT_SECONDS) -> set[str]:
    """Those of `nodes` that answer. Raises whatever the broker's client raises where the broker cannot be asked, and
    TimeoutError where it does not answer: this always comes back, and holds up no end of the process."""
    if not nodes:
        return set()
    asking = partial(remote_control.answering, app, nodes, timeout)
    return await _PINGS.awaited(asking, timeout + PING_GRACE_SECONDS)
