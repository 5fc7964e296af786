"""Celery's signals become records.

Guarantee: a handler never raises into Celery, never blocks and never talks to the network: it encodes one record and
appends it to the journal. Which signal fires where, in which process and in which order is a long table; what bites:

- A run gets its id in ``task_received``, written into ``request.request_dict``, which travels to the pool child; eager
  tasks get theirs in ``task_prerun``. The same task id may run twice at once after a broker reconnect, so nothing is
  keyed by the task id alone.
- The worker's main process reports lost children, hard time limits and revocations. Of which run, the gate tells
  (`speaking_of`); nobody does for the first of the two ``task_failure`` signals of a hard time limit.
- A run that Celery itself fails around, because its result cannot be stored, may have ``task_internal_error`` only;
  one whose child was lost behind its stored result has no signal at all (`stored_success`). Before 5.7 that signal, and
  ``task_failure`` behind it, also come when a task's own ``after_return`` fails, whose run has told its end by then.
- ``task_retry`` may come without a reason: the worker lets go of the run. Its message goes back where it was not yet
  acknowledged; else that is the task's end, whatever the word.
- ``task_revoked`` may come without a ``task_received`` before it. No signal at all has the body of a chord whose header
  failed, nor a message whose task had succeeded before (``worker_deduplicate_successful_tasks``).
"""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery import signals
from celery.exceptions import Reject, SoftTimeLimitExceeded
from celery.states import IGNORED, REJECTED, SUCCESS

from oracle_celery import message, task_logs
from oracle_celery.correlations import correlation_of, forget_correlation
from oracle_celery.description import describe_error, describe_message, describe_rejection, describe_retry
from oracle_celery.payload import encode_value, identifier, type_name
from oracle_celery.records import Transition
from oracle_celery.run import (
    CANCEL_RAISED,
    FAILED_OUTSIDE,
    HIDDEN_TASKS,
    REPLACED,
    RUN_AT,
    RUN_ID,
    SENT_BY_ORACLE,
    STARTED_AT,
    RunMint,
    retries_of,
    run_fields,
)
from oracle_celery.states import Rank, Status
from oracle_celery.task_cancelled import TaskCancelled, revoke_result
from oracle_celery.trace_context import trace_of_message

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["TaskSignals"]

# The facts of every task, as plain numbers: reading an enumeration's member costs more than encoding the record.
PENDING, IN_PROGRESS, COMPLETED = int(Status.PENDING), int(Status.IN_PROGRESS), int(Status.COMPLETED)
RECEIVED, STARTED, REPORTED = int(Rank.RECEIVED), int(Rank.STARTED), int(Rank.REPORTED)

_NOTHING: dict[str, Any] = {}

#: Received tasks whose receipt may wait to be told; beyond it is told at once.
WAITING_LIMIT = 10_000

#: Runs that have told their end last: a handler of it may fail after as many others have ended meanwhile.
ENDED_LIMIT = 1_000

#: In a second.
NANOSECONDS = 1e9

#: Attribute of a request that this process has received and has begun to run.
BEGUN = "oracle_begun"


class TaskSignals:
    """The handlers of one app. `connect` once; Celery's signals are global, so each handler checks whose task it is."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.app = oracle.app
        #: True in a child of a prefork pool: there the outcome is told first hand.
        self.is_pool_child = False
        #: True where a prefork pool's main process may tell of a run that a child could not finish telling about.
        self.has_main_process = False
        #: Requests by task id, for pools that tell of a run's end when it is not the current one any more.
        self._runs: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self._waiting: collections.deque[tuple[int, Any]] = collections.deque()
        self._mint = RunMint()
        #: The runs that have told their own end last, and the task that Celery itself failed around last.
        self._ended: collections.deque[str | None] = collections.deque(maxlen=ENDED_LIMIT)
        self._failed_outside: str | None = None
        #: What a main process' Celery says the failure of just now, by thread.
        self._spoken_of = threading.local()

    def connect(self) -> None:
        for signal, handler in (
            (signals.task_received, self.on_received),
            (signals.task_prerun, self.on_started),
            (signals.task_success, self.on_succeeded),
            (signals.task_failure, self.on_failed),
            (signals.task_internal_error, self.on_internal_error),
            (signals.task_retry, self.on_retry),
            (signals.task_postrun, self.on_postrun),
            (signals.task_revoked, self.on_revoked),
            (signals.task_unknown, self.on_unknown),
            (signals.worker_process_init, self.on_pool_child_start),
        ):
            self.oracle.guest.connect(signal, handler)

    def move_behind_others(self) -> None:
        """Of the handlers of a run's start: then what others do there, such as to begin its span, is done."""
        self.oracle.guest.disconnect(signals.task_prerun)
        self.oracle.guest.connect(signals.task_prerun, self.on_started)

    # -- a worker's main process ---------------------------------------------------------------------------------

    def on_received(self, sender: Any, *, request: Any, **_: Any) -> None:
        if sender.app is not self.app or request.name in HIDDEN_TASKS:
            return
        fields = request.request_dict
        now = self._mint.mint(fields)
        if not self.has_main_process:
            self._runs[request.id] = request
        self.oracle.owners.receive(request)
        self.oracle.correlations.receive(request)
        is_told = SENT_BY_ORACLE in fields
        if not is_told or fields["delivery_info"]["redelivered"] or len(self._waiting) >= WAITING_LIMIT:
            self._tell_received(request)
        else:
            self._waiting.append((now, request))

    def tell_waiting(self) -> None:
        """Records the receipt of tasks that are still waiting for their turn; the recorder calls it before a flush.

        A task that starts at once is received and started in one fact: its run's time is the time of its receipt.
        That spares every quick task a third of its cost. Nothing depends on it: a worker that is killed before has
        acknowledged none of these messages, so they are delivered again.
        """
        oldest = time.monotonic_ns() - int(self.oracle.settings.flush_interval * NANOSECONDS)
        waiting = self._waiting
        while waiting and waiting[0][0] <= oldest:
            _, request = waiting.popleft()
            if request.time_start is None:
                self._tell_received(request)

    def _tell_received(self, request: Any) -> None:
        fields = request.request_dict
        delivery = fields.get("delivery_info") or _NOTHING
        is_told = SENT_BY_ORACLE in fields
        record = Transition(
            task_id=identifier(request.id) or "",
            status=PENDING,
            rank=RECEIVED,
            at=fields[RUN_AT],
            reason="redelivered" if delivery.get("redelivered") else "received",
            retries=retries_of(fields),
            run_id=fields[RUN_ID],
            run_at=fields[RUN_AT],
            name=identifier(fields.get("task")),
            user_id=self.oracle.owners.of(fields, request.id),
            queue=self._queue(fields),
            **(_NOTHING if is_told else self._describe(fields, fields.get("args"), fields.get("kwargs"))),
        )
        self.oracle.record(record)

    def on_revoked(
        self, sender: Any, *, request: Any, terminated: bool = False, expired: bool = False, **_: Any
    ) -> None:
        if sender.app is not self.app or sender.name in HIDDEN_TASKS:
            return
        fields = run_fields(self._runs.get(request.id, request))
        run_at = fields.get(RUN_AT) or time.monotonic_ns()
        reason = self._why_revoked(request.id, terminated=terminated, expired=expired)
        self._record(
            request.id,
            status=Status.CANCELLED,
            rank=Rank.CANCELLED,
            reason=reason,
            retries=retries_of(fields),
            run_id=fields.get(RUN_ID),
            run_at=run_at,
            name=identifier(sender.name),
            user_id=self.oracle.owners.of(fields, request.id),
            queue=self._queue(fields),
            **self._describe(fields, fields.get("args"), fields.get("kwargs")),
        )
        self.oracle.instrumentation.tell_outcome(fields, request.id, sender.name, Status.CANCELLED.word, reason)
        self._fail_chord_body(fields, request.id, None)

    def _why_revoked(self, task_id: str, *, terminated: bool, expired: bool) -> str:
        if expired:
            return "expired"
        if task_id in self.oracle.desired_state.cancelled:
            return "cancelled"
        return "terminated" if terminated else "revoked"

    def tell_given_back(self, request: Any, reason: str) -> None:
        """A message goes back into its queue: which is paused, or its worker stops."""
        if request.name not in HIDDEN_TASKS:
            self._end(request, Status.PENDING, Rank.GIVEN_BACK, reason=reason)

    def on_unknown(
        self,
        sender: Any,
        *,
        name: str | None = None,
        id: str | None = None,  # noqa: A002  # Celery's word
        message: Any = None,
        exc: Any = None,
        **_: Any,
    ) -> None:
        if sender.app is not self.app or id is None:
            return
        headers = getattr(message, "headers", None) or {}
        self.oracle.owners.note(headers, id)
        self._record(
            id,
            status=Status.FAILED,
            rank=Rank.INFERRED,
            reason="unknown_task",
            retries=retries_of(headers),
            run_at=time.monotonic_ns(),
            error_type=None if exc is None else type_name(type(exc)),
            error_message=f"This worker knows no task named {identifier(name)}.",
            name=identifier(name),
            user_id=self.oracle.owners.of(headers, id),
            **self._describe(headers, None, None),
        )

    # -- where the task's code runs ------------------------------------------------------------------------------

    def on_pool_child_start(self, sender: Any, **_: Any) -> None:
        self.is_pool_child = self.has_main_process
        self._mint.reset()
        if self.is_pool_child:
            from oracle_celery.child_runs import ChildRuns  # no producer needs them
            from oracle_celery.interruption import Interruption

            self.oracle.interruption = Interruption(self.oracle)
            self.oracle.interruption.install()
            self.oracle.child_runs = ChildRuns(self.oracle)
            self.oracle.child_runs.watch()

    def on_started(self, sender: Any, *, task_id: str, args: Any = None, kwargs: Any = None, **_: Any) -> None:
        if sender.app is not self.app or sender.name in HIDDEN_TASKS:
            return
        fields, description = sender.request.__dict__, _NOTHING
        if RUN_ID not in fields:  # nobody received it: it runs eagerly, in place
            self.mint(fields, task_id, sender.name)
            description = self._describe(fields, args, kwargs)
        else:
            forget_correlation()
        now = fields[STARTED_AT] = time.monotonic_ns()
        if not self.has_main_process and run_fields(received := self._runs.get(task_id)).get(RUN_ID) == fields[RUN_ID]:
            setattr(received, BEGUN, True)
        more = self.oracle.instrumentation.of_run(fields)
        self.tell_started(fields, task_id, sender.name, now, description | more if description else more)

    def on_succeeded(self, sender: Any, *, result: Any = None, runtime: float | None = None, **_: Any) -> None:
        if sender.app is not self.app or sender.name in HIDDEN_TASKS:
            return
        fields = sender.request.__dict__
        self.tell_success(fields, fields["id"], result, runtime, self.oracle.instrumentation.of_run(fields))

    def mint(self, fields: dict[str, Any], task_id: Any, name: Any) -> None:
        """Marks `fields` as those of a run that nobody has received."""
        self._mint.mint(fields)
        self.oracle.owners.stamp_eager(fields, task_id, name)
        self.oracle.correlations.stamp_eager(fields)

    def tell_started(
        self, fields: dict[str, Any], task_id: Any, name: Any, now: int, more: dict[str, Any] = _NOTHING
    ) -> None:
        """A run begins; `fields` are its message's headers and its marks."""
        self._failed_outside = None
        record = Transition(
            task_id=identifier(task_id) or "",
            status=IN_PROGRESS,
            rank=STARTED,
            at=now,
            reason="eager" if fields.get("is_eager") else "started",
            retries=retries_of(fields),
            run_id=fields[RUN_ID],
            run_at=fields[RUN_AT],
            name=identifier(name),
            user_id=self.oracle.owners.of(fields, task_id),
            queue=self._queue(fields),
        )
        self.oracle.record(_and_more(record, more))

    def tell_success(
        self, fields: dict[str, Any], task_id: Any, result: Any, runtime: Any, more: dict[str, Any] = _NOTHING
    ) -> None:
        """A run has come to its good end. Celery tells its `runtime` from 5.7 on."""
        settings, now = self.oracle.settings, time.monotonic_ns()
        if runtime is None and STARTED_AT in fields:
            runtime = (now - fields[STARTED_AT]) / NANOSECONDS
        self._ended.append(fields.get(RUN_ID))
        record = Transition(
            task_id=identifier(task_id) or "",
            status=COMPLETED,
            rank=REPORTED,
            at=now,
            reason="cancel_too_late" if CANCEL_RAISED in fields else None,
            retries=retries_of(fields),
            run_id=fields.get(RUN_ID),
            run_at=fields.get(RUN_AT),
            result_payload=encode_value(result, settings.result_limit, settings.redaction),
            runtime=runtime,
        )
        if self.oracle.record(_and_more(record, more)) and settings.durability == "committed":
            self.oracle.wait_until_committed()

    def tell_not_run(self, fields: dict[str, Any], task_id: Any, retval: Any) -> None:
        """Celery has begun a run and not called its code: the task had succeeded before its message came again
        (``worker_deduplicate_successful_tasks``), or its arguments are none, which Celery takes for a success."""
        if FAILED_OUTSIDE in fields:
            return
        is_malformed = isinstance(retval, ExceptionInfo)
        error = self._describe_error(retval.exception, retval) if is_malformed else _NOTHING
        is_written = self._record(
            task_id,
            status=Status.FAILED if is_malformed else Status.COMPLETED,
            rank=REPORTED,
            reason=None,
            retries=retries_of(fields),
            run_id=fields.get(RUN_ID),
            run_at=fields.get(RUN_AT),
            **error,
        )
        if is_written:
            self.oracle.wait_until_committed()

    def on_failed(self, sender: Any, *, task_id: str, exception: Any = None, einfo: Any = None, **_: Any) -> None:
        if sender.app is not self.app or sender.name in HIDDEN_TASKS:
            return
        kind = type(exception)  # what it is, whatever it says that it is: no code of it is run
        if issubclass(kind, Reject):
            return  # the task's own process has told so in task_postrun
        if task_id == self._failed_outside:
            return  # the same again, when its request is not the current one any more
        is_inferred = is_main = self.has_main_process and not self.is_pool_child
        error = self._describe_error(exception, einfo)
        reason = None
        if issubclass(kind, WorkerLostError) or (is_main and issubclass(kind, SystemExit)):
            reason, is_inferred = "process_lost", True  # older versions say so of one that has left by itself
        elif issubclass(kind, TimeLimitExceeded):
            reason, is_inferred = "time_limit", True
            error["error_message"] = "The hard time limit was exceeded; the process that ran the task was killed."
        elif issubclass(kind, SoftTimeLimitExceeded):
            reason = "soft_time_limit"
            error["error_message"] = "The soft time limit was exceeded."
        request = self._request_of(sender, task_id)
        if FAILED_OUTSIDE in run_fields(request):
            return  # the same again, and others have started meanwhile
        if reason is None and CANCEL_RAISED in run_fields(request):
            reason = "cancel_too_late"
        if request is None and is_main:
            return  # of a hard time limit: it is told again, with its request, unless the message goes back
        if is_main:
            self._spoken_of.request = None  # it is told
        else:
            self._ended.append(run_fields(request).get(RUN_ID))
        self._end(
            request,
            Status.FAILED,
            Rank.INFERRED if is_inferred else Rank.REPORTED,
            task_id=task_id,
            reason=reason,
            **error,
        )
        if is_inferred:
            self.oracle.instrumentation.tell_outcome(
                run_fields(request), task_id, sender.name, Status.FAILED.word, reason or "failed"
            )
        self._fail_chord_body(run_fields(request), task_id, exception)

    def on_internal_error(
        self, sender: Any, *, task_id: str, request: Any = None, exception: Any = None, einfo: Any = None, **_: Any
    ) -> None:
        """Celery failed around the task's code: its result could not be stored, say. The message is acknowledged, and
        where the result backend is away there may be no other signal."""
        fields = request if isinstance(request, dict) else run_fields(request)
        if sender.app is not self.app or sender.name in HIDDEN_TASKS or RUN_ID not in fields:
            return
        if FAILED_OUTSIDE in fields:
            return
        fields[FAILED_OUTSIDE], self._failed_outside = True, task_id
        if fields[RUN_ID] in self._ended:
            return  # it has told its end, and a handler of that has failed
        if issubclass(type(exception), Reject):
            self.tell_rejected(fields, task_id, exception)  # before 5.7; its message goes where it says
            return
        is_written = self._record(
            task_id,
            status=Status.FAILED,
            rank=Rank.REPORTED,
            reason="internal_error",
            retries=retries_of(fields),
            run_id=fields[RUN_ID],
            run_at=fields.get(RUN_AT),
            **self._describe_error(exception, einfo),
        )
        if is_written:
            self.oracle.wait_until_committed()
        self._fail_chord_body(fields, task_id, exception)

    def tell_rejected(self, fields: dict[str, Any], task_id: Any, rejection: Reject) -> None:
        """A Reject has left Celery's tracer: one from ``on_success``, behind which no signal of a success comes, or
        one of a message whose task had succeeded before."""
        if fields.get(RUN_ID) in self._ended:
            return
        self._ended.append(fields.get(RUN_ID))
        settings, now = self.oracle.settings, time.monotonic_ns()
        is_requeued = bool(rejection.requeue)
        is_written = self._record(
            task_id,
            status=Status.PENDING if is_requeued else Status.FAILED,
            rank=Rank.GIVEN_BACK if is_requeued else Rank.REPORTED,
            at=now,
            reason="requeued" if is_requeued else "rejected",
            retries=retries_of(fields),
            run_id=fields.get(RUN_ID),
            run_at=fields.get(RUN_AT),
            runtime=(now - fields[STARTED_AT]) / NANOSECONDS if STARTED_AT in fields else None,
            **({} if is_requeued else describe_rejection(rejection, settings.error_limit, settings.redaction)),
        )
        if is_written and not is_requeued:
            self.oracle.wait_until_committed()

    def tell_time_limit(self, request: Any) -> None:
        """A hard one was exceeded. In a pool of greenlets that is all, and before 5.7 there is no signal; a prefork
        pool's main process is told of the loss of the child."""
        if not self.has_main_process and run_fields(request).get(RUN_ID) not in self._ended:
            tell = self.oracle.guest.guarded(self.on_failed)
            self._spoken_of.request = request  # others may have received the same task since
            tell(request.task, task_id=request.id, exception=TimeLimitExceeded(), einfo=None)
            self._spoken_of.request = None

    def tell_passed_over(self, request: Any) -> None:
        """A pool without processes has an outcome of this one that is none: Celery has not called the task."""
        if not self.has_main_process and not getattr(request, BEGUN, False) and request.name not in HIDDEN_TASKS:
            self.oracle.guest.guarded(self._tell_passed_over)(request.task, request=request)

    def _tell_passed_over(self, sender: Any, *, request: Any) -> None:
        self.tell_not_run(request.request_dict, request.id, None)

    def tell_stored_success(self, request: Any, result: Any) -> None:
        """The main process has found the result of a task whose child was lost before it could say that it succeeded:
        to Celery it has, its message is acknowledged, and no signal tells it."""
        if request.task.app is not self.app or request.name in HIDDEN_TASKS:
            return
        settings = self.oracle.settings
        self._end(
            request,
            Status.COMPLETED,
            Rank.INFERRED,
            reason="result_stored",
            result_payload=encode_value(result, settings.result_limit, settings.redaction),
        )

    def on_retry(self, sender: Any, *, request: Any, reason: Any = None, einfo: Any = None, **_: Any) -> None:
        if sender.app is not self.app or sender.name in HIDDEN_TASKS:
            return
        settings = self.oracle.settings
        if reason is None and not sender.acks_late:
            self._end(
                request,
                Status.FAILED,
                Rank.INFERRED,
                reason="interrupted",
                error_type="Terminated",
                error_message="Its worker was shut down while it ran, its message acknowledged: nobody runs it again.",
            )
            self._fail_chord_body(run_fields(request), request.id, None)
            return
        self._end(
            request,
            Status.PENDING,
            Rank.GIVEN_BACK,
            reason="connection_lost" if reason is None else "retry_scheduled",
            **describe_retry(reason, einfo, settings.error_limit, settings.redaction),
        )

    def on_postrun(self, sender: Any, *, retval: Any = None, state: str | None = None, **_: Any) -> None:
        """For what its log has left out, and for outcomes that have no signal of their own."""
        if sender.app is not self.app or sender.name in HIDDEN_TASKS:
            return
        request, settings = sender.request, self.oracle.settings
        task_logs.tell_end(self.oracle, request)
        if state == SUCCESS and issubclass(type(rejection := sys.exception()), Reject):
            self.tell_rejected(request.__dict__, request.id, rejection)
            return
        if state is not None and state != IGNORED and state != REJECTED:
            return
        if state == IGNORED:
            if issubclass(type(retval), TaskCancelled):
                self._end(request, Status.CANCELLED, Rank.REPORTED, reason="cancelled")
                self._fail_chord_body(run_fields(request), request.id, retval)
                revoke_result(sender, request)
            elif request.__dict__.get(REPLACED):
                self._end(request, Status.PENDING, Rank.GIVEN_BACK, reason="replaced")
            else:
                self._end(request, Status.COMPLETED, Rank.REPORTED, reason="ignored")
        elif state == REJECTED:
            if getattr(retval, "requeue", False):
                self._end(request, Status.PENDING, Rank.GIVEN_BACK, reason="requeued")
            else:
                self._end(
                    request,
                    Status.FAILED,
                    Rank.REPORTED,
                    reason="rejected",
                    **describe_rejection(retval, settings.error_limit, settings.redaction),
                )
        elif not self.is_pool_child:  # a pool's main process will say what became of the child
            self._end(request, Status.FAILED, Rank.INTERRUPTED, reason="interrupted")

    # -- records -------------------------------------------------------------------------------------------------

    def _end(self, request: Any, status: int, rank: int, *, task_id: str | None = None, **fields: Any) -> None:
        """The run's last fact."""
        known = run_fields(request)
        if request is not None:
            task_id = request.id
        now = time.monotonic_ns()
        if "runtime" not in fields and STARTED_AT in known:
            fields["runtime"] = (now - known[STARTED_AT]) / NANOSECONDS
        if STARTED_AT in known:
            fields |= self.oracle.instrumentation.of_run(known)
        is_written = self._record(
            task_id,
            status=status,
            rank=rank,
            at=now,
            retries=retries_of(known),
            run_id=known.get(RUN_ID),
            run_at=known.get(RUN_AT) or now,
            **fields,
        )
        if is_written and rank == REPORTED:
            self.oracle.wait_until_committed()

    def _record(self, task_id: Any, *, status: int, **fields: Any) -> bool:
        task_id = identifier(task_id)
        if task_id is None:
            return False
        fields.setdefault("at", time.monotonic_ns())
        record = Transition(task_id=task_id, status=status, **fields)
        return self.oracle.record(record)

    def _queue(self, fields: dict[str, Any]) -> str | None:
        delivery = fields.get("delivery_info") or _NOTHING
        return message.queue_name(self.app, delivery.get("exchange"), delivery.get("routing_key"))

    def _describe(self, headers: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        settings = self.oracle.settings
        return describe_message(headers, args, kwargs, settings.arguments_limit, settings.redaction)

    def _describe_error(self, exception: Any, einfo: Any) -> dict[str, Any]:
        settings = self.oracle.settings
        return describe_error(exception, einfo, settings.error_limit, settings.redaction)

    def _fail_chord_body(self, fields: dict[str, Any], task_id: str, exception: Any) -> None:
        """The body of a chord is published when its header is done; with a failed header that is never."""
        body = fields.get("chord")
        options = body.get("options") if isinstance(body, dict) else None
        if body is None or not isinstance(options, dict) or not options.get("task_id"):
            return
        self._record(
            options["task_id"],
            status=Status.FAILED,
            rank=Rank.INFERRED,
            reason="chord_header_failed",
            name=identifier(body.get("task")),
            user_id=self.oracle.owners.of(fields, task_id),
            correlation_id=correlation_of(fields),
            root_id=identifier(fields.get("root_id")),
            error_type=None if exception is None else type_name(type(exception)),
            error_message=f"Task {identifier(task_id)} of this chord's header failed, so its body never runs.",
            **trace_of_message(fields),
        )

    # -- whose signal, which run ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def speaking_of(self, request: Any, einfo: Any) -> Iterator[None]:
        """While a worker's main process lets Celery fail this one: from 5.7 on Celery says itself which it is. Where it
        cannot store the failure there is no signal, and the run has failed all the same."""
        self._spoken_of.request = request
        try:
            yield
        except Exception:
            if self._spoken_of.request is not None:
                self.oracle.guest.guarded(self._tell_unstored)(request.task, request=request, einfo=einfo)
            raise
        finally:
            self._spoken_of.request = None

    def _tell_unstored(self, sender: Any, *, request: Any, einfo: Any) -> None:
        error = einfo.exception
        error = error.exc if type(error) is ExceptionWithTraceback else error
        if not issubclass(type(error), Terminated):
            self.on_failed(sender, task_id=request.id, exception=error, einfo=einfo)

    def _request_of(self, task: Any, task_id: str) -> Any:
        """The run that `task_failure` speaks of: the one under way here, that the main process has just lost, or else
        the one that this process has received."""
        request = task.request
        if request.id == task_id and RUN_ID in request.__dict__:
            return request
        request = getattr(self._spoken_of, "request", None)
        if request is not None and request.id == task_id:
            return request
        return self._runs.get(task_id)


def _and_more(record: Transition, more: dict[str, Any]) -> Transition:
    """Most facts of a run have nothing more to say, and to have named it would cost them as much as the encoding."""
    return msgspec.structs.replace(record, **more) if more else record
