"""The gate: nothing that was cancelled, and nothing of a paused queue, gets from this worker into its pool.

A message is asked for at its receipt, and its request once more when it is handed to the pool: between the two it may
have waited for hours. What was cancelled is dropped, as Celery drops a revoked task: the result backend says REVOKED.
What belongs to a paused queue goes back into it.

Guarantee: where nobody has cancelled or paused anything, a message costs one question more than without a gate. A
mistake of the gate's own is counted and the message goes its normal way, except that a cancelled task never runs.

What will bite: requests wait in several places (the semaphore, our own slots, rate limits, timers), and Celery keeps
its own list of none of them. Everything here that looks into those runs in the worker's event loop.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionWithTraceback
from celery import signals
from celery.exceptions import Ignore, InvalidTaskError, Reject, Retry
from celery.worker import state
from celery.worker.request import Request
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2

from oracle_celery import message as messages
from oracle_celery.pool_slots import PoolSlots
from oracle_celery.task_cancelled import TaskCancelled

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["Gate", "accepted_at", "queue_of", "tag_messages"]

logger = logging.getLogger(__name__)

#: A run of this many seconds has its message kept before it ends: a worker that is killed keeps nothing any more.
LONG_RUN_SECONDS = 1.0

#: The queue that a message was really taken from: attribute of kombu's message, or beside the consumer's tag in AMQP's
#: own `delivery_info`, which is all that kombu's message takes over from it.
QUEUE = "oracle_queue"
#: Attribute of a worker's request: monotonic seconds. Celery's own `time_start` is the time of day, which somebody may
#: set meanwhile.
ACCEPTED_AT = "oracle_accepted_at"


def accepted_at(request: Any) -> float | None:
    """When the pool has taken the request up, in monotonic seconds; None as long as it has not."""
    moment: float | None = getattr(request, ACCEPTED_AT, None)
    return moment


def queue_of(request: Any) -> str | None:
    """The queue that the message of a worker's request came from."""
    queue: str | None = _queue_of_message(request.app, request.message)
    return queue


class Gate:
    """Of one worker. `install` before Celery builds its consumer, `guard_receipt` on that consumer."""

    def __init__(self, oracle: Oracle, worker: Any) -> None:
        self.oracle = oracle
        self.worker = worker
        self.desired = oracle.desired_state
        self.slots: PoolSlots | None = None
        #: What each process runs, held for the sake of Celery's own list of it, which holds nothing: Celery 5.5 lets go
        #: of a run whose message comes again after a lost connection.
        self._accepted: dict[int, Any] = {}
        #: Called with a request that its pool has accepted although it was cancelled meanwhile.
        self.on_late_start: Callable[[Any], None] = _ignore
        #: Called in the event loop with the name of a paused queue that still delivers.
        self.on_unwanted_delivery: Callable[[str], None] = _ignore
        #: Called in the event loop before the first message of a connection.
        self.on_connection: Callable[[], None] = _ignore
        self._process = worker._process_task  # noqa: SLF001  # what Celery itself calls for each request
        self._apply_async = worker.pool.apply_async

    def install(self) -> None:
        worker = self.worker
        if worker.process_task == worker._process_task:  # noqa: SLF001
            worker.process_task = self.process
        worker._process_task = self.process  # noqa: SLF001
        self.slots = PoolSlots.needed(worker, self.turns_away, self._apply_async)
        worker.pool.apply_async = self.apply_async  # requests remember it when the consumer starts

    def guard_receipt(self, consumer: Any) -> None:
        create_task_handler = consumer.create_task_handler

        def create_guarded_handler(*args: Any, **options: Any) -> Callable[[Any], Any]:
            handler = create_task_handler(*args, **options)

            def on_task_received(message: Any) -> Any:
                if self.desired.is_quiet or not self._stops(consumer, message):
                    return handler(message)
                return None

            return on_task_received

        consumer.create_task_handler = create_guarded_handler
        if hasattr(consumer, "cancel_active_requests"):  # before 5.6, all of them have a signal
            consumer.cancel_active_requests = self._telling_who_goes_back(consumer.cancel_active_requests)

    def _telling_who_goes_back(self, cancel: Callable[[], None]) -> Callable[[], None]:
        """A cold shutdown lets go of what runs. Of those whose messages the broker delivers again, no signal tells."""

        def cancel_active_requests() -> None:
            unacknowledged = [request for request in _active() if request.task.acks_late and not request.acknowledged]
            cancel()
            for request in unacknowledged:
                if request._already_cancelled:  # noqa: SLF001
                    try:
                        self.oracle.signals.tell_given_back(request, "worker_stopped")
                    except Exception:  # noqa: BLE001
                        self.oracle.guest.count_failure()

        return cancel_active_requests

    # -- the two questions ---------------------------------------------------------------------------------------

    def _stops(self, consumer: Any, message: Any) -> bool:
        try:
            if _id_of_message(message) in self.desired.cancelled:
                request = self._read(consumer, message)
                if request is not None:
                    self.drop(request)
                    return True
            queue = _queue_of_message(self.oracle.app, message)
            if queue is not None and self.desired.is_paused(queue):
                self.on_unwanted_delivery(queue)  # first: or the broker hands it out here again, at once, for ever
                message.reject_log_error(logger, consumer.connection_errors, requeue=True)
                return True
        except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
            self.oracle.guest.count_failure()
        return False

    def process(self, request: Any) -> None:
        """Celery's way into the pool. It holds a place of the semaphore, where the pool has one."""
        if self.desired.is_quiet or not self.turns_away(request):
            self._process(request)
        elif getattr(self.worker, "semaphore", None) is not None:
            self._sweep_semaphore()  # first: each of them would release the next one, one level of calls deeper
            self.worker.semaphore.release()

    def turns_away(self, request: Any) -> bool:
        """Whether it was dropped or given back: it must not run now."""
        desired = self.desired
        if request.id in desired.cancelled:
            self.drop(request)
            return True
        try:
            queue = queue_of(request)
            return queue is not None and desired.is_paused(queue) and self._give_back(request)
        except Exception:  # noqa: BLE001
            self.oracle.guest.count_failure()
            return False

    def drop(self, request: Any) -> None:
        """As Celery drops a revoked one. Never raises, and never leaves the message to run."""
        if request._already_revoked:  # noqa: SLF001
            return
        self._keep(request)
        try:
            # not by way of Celery's set of revoked ids: it has a limit, and each of ours would push out one of theirs
            request._announce_revoked("cancelled", False, None, False)  # noqa: SLF001
        except Exception:  # noqa: BLE001  # the result backend may be away
            self.oracle.guest.count_failure()
            state.task_ready(request)
            request.acknowledge()
            request._already_revoked = True  # noqa: SLF001
            signals.task_revoked.send(
                request.task,
                request=request._context,  # noqa: SLF001
                terminated=False,
                signum=None,
                expired=False,
            )
        logger.info("Oracle drops the cancelled task %s[%s].", request.name, request.id)

    def _give_back(self, request: Any) -> bool:
        if request.acknowledged:
            return False
        request.reject(requeue=True)
        state.task_ready(request)
        self.oracle.signals.tell_given_back(request, "queue_paused")
        return True

    # -- what waits ----------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Drops or gives back whatever waits and may not run. In the event loop."""
        if self.desired.is_quiet:
            return
        if getattr(self.worker, "semaphore", None) is not None:
            self._sweep_semaphore()
        if self.slots is not None:
            self.slots.sweep()
        self._sweep_rate_limits()
        if self.worker.hub is not None:
            self._sweep_timers()

    def _sweep_semaphore(self) -> None:
        waiting = self.worker.semaphore._waiting  # noqa: SLF001  # Celery's own consumer only ever clears it
        for _ in range(len(waiting)):
            entry = waiting.popleft()
            request = entry[1][0] if entry[1] else None
            if not isinstance(request, Request) or not self.turns_away(request):
                waiting.append(entry)

    def _sweep_rate_limits(self) -> None:
        for bucket in list(self.worker.consumer.task_buckets.values()):
            if bucket:
                for _ in range(len(bucket.contents)):
                    entry = bucket.contents.popleft()
                    if not self.turns_away(entry[0]):
                        bucket.contents.append(entry)

    def _sweep_timers(self) -> None:
        """Tasks with an ETA that were cancelled. Those of a paused queue may wait for their time first."""
        consumer = self.worker.consumer
        for _, _, entry in list(consumer.timer._queue):  # noqa: SLF001  # only Celery 5.7 has a list of its own
            request = entry.args[0] if entry.args else None
            if isinstance(request, Request) and request.id in self.desired.cancelled and not entry.canceled:
                consumer.timer.cancel(entry)
                consumer.qos.decrement_eventually()
                self.drop(request)

    # -- the pool ------------------------------------------------------------------------------------------------

    def apply_async(self, target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """The pool's own, in its place: sees each request in, and how it ends."""
        request = getattr(options.get("callback"), "__self__", None)
        if not isinstance(request, Request):
            return self._apply_async(target, args, kwargs, **options)
        self._watch(request, options)
        if self.slots is None:
            return self._apply_async(target, args, kwargs, **options)
        return self.slots.apply_async(request, target, args, kwargs, options)

    def _watch(self, request: Any, options: dict[str, Any]) -> None:
        accepted, ended = options["accept_callback"], options["callback"]
        failed, timed_out = options["error_callback"], options["timeout_callback"]

        def on_accepted(pid: int, *args: Any, **kwargs: Any) -> None:
            setattr(request, ACCEPTED_AT, time.monotonic())
            self._accepted[pid] = request
            accepted(pid, *args, **kwargs)
            if request.id in self.desired.cancelled:
                self.on_late_start(request)

        def on_end(outcome: Any, **kwargs: Any) -> None:
            self._let_go(request)
            if _is_failure(outcome):
                self._keep(request)
            elif outcome[1] is outcome[2] is None:  # a run, however short, has a time that it took
                self.oracle.signals.tell_passed_over(request)
            ended(outcome, **kwargs)

        def on_failure(einfo: Any, *args: Any, **kwargs: Any) -> None:
            self._let_go(request)
            self._keep(request)
            with self.oracle.signals.speaking_of(request, einfo):
                failed(einfo, *args, **kwargs)

        def on_timeout(soft: Any, *args: Any, **kwargs: Any) -> None:
            if not soft:
                self._let_go(request)  # on greenlets there is no other end
                self._keep(request)
            try:
                timed_out(soft, *args, **kwargs)
            finally:
                if not soft:
                    self.oracle.signals.tell_time_limit(request)

        options.update(
            accept_callback=on_accepted, callback=on_end, error_callback=on_failure, timeout_callback=on_timeout
        )

    def _let_go(self, request: Any) -> None:
        pid = request.worker_pid
        if self._accepted.get(pid) is request:
            self._accepted.pop(pid, None)

    def keep_long_runs(self) -> None:
        """Called now and then. Quick tasks, which are many, never pay for it."""
        started_before = time.monotonic() - LONG_RUN_SECONDS
        for request in _active():
            moment = accepted_at(request)
            if moment is not None and moment < started_before:
                self._keep(request)

    def _keep(self, request: Any) -> None:
        self.oracle.keeper.keep(request, queue_of(request))

    # -- messages ------------------------------------------------------------------------------------------------

    def _read(self, consumer: Any, message: Any) -> Any:
        """The request of a message, as Celery's strategy makes it; None where it is no task of this worker's."""
        body, headers, is_decoded = None, None, False
        if "task" not in message.headers:
            body, headers, is_decoded, _ = proto1_to_proto2(message, message.decode())
        elif "args" in message.payload:
            body, headers, is_decoded, _ = hybrid_to_proto2(message, message.payload)
        task = self.oracle.app.tasks.get((headers or message.headers).get("task"))
        if task is None:
            return None
        try:
            return Request(
                message,
                on_ack=message.ack_log_error,
                on_reject=message.reject_log_error,
                app=self.oracle.app,
                hostname=consumer.hostname,
                eventer=consumer.event_dispatcher,
                task=task,
                connection_errors=consumer.connection_errors,
                body=body,
                headers=headers,
                decoded=is_decoded,
            )
        except InvalidTaskError:
            return None


def _active() -> list[Any]:
    """Celery's own set, which other threads may change while it is read."""
    while True:
        with contextlib.suppress(RuntimeError):
            return list(state.active_requests)


def _ignore(*_: object) -> None:
    """Nobody wants to know."""


def tag_messages(task_consumer: Any) -> None:
    """From now on each message knows the queue it was taken from. Transports do not tell: an exchange and a routing key
    may lead to several queues, and by a pattern."""
    basic_consume = task_consumer._basic_consume  # noqa: SLF001

    def consume_and_tag(queue: Any, *args: Any, **options: Any) -> Any:
        if "consume" not in queue.__dict__:
            queue.consume = _tagging(queue.consume, queue.name)
        return basic_consume(queue, *args, **options)

    task_consumer._basic_consume = consume_and_tag  # noqa: SLF001


def _tagging(consume: Callable[..., Any], queue: str) -> Callable[..., Any]:
    def consume_tagging(tag: Any, callback: Callable[[Any], Any], **options: Any) -> Any:
        def on_message(message: Any) -> Any:
            delivery = message.delivery_info
            if isinstance(delivery, dict) and "consumer_tag" in delivery:
                delivery[QUEUE] = queue
            else:
                message.oracle_queue = queue
            return callback(message)

        return consume(tag, on_message, **options)

    return consume_tagging


def _queue_of_message(app: Any, message: Any) -> str | None:
    delivery = message.delivery_info or {}
    queue: str | None = getattr(message, QUEUE, None) or delivery.get(QUEUE)
    if queue is None:
        queue = messages.queue_name(app, delivery.get("exchange"), delivery.get("routing_key"))
    return queue


def _id_of_message(message: Any) -> Any:
    headers = message.headers
    if "task" in headers:
        return headers.get("id")
    body = message.decode()
    return body.get("id") if isinstance(body, dict) else None


def _is_failure(outcome: Any) -> bool:
    """Of what a pool hands back: (failed, retval, runtime), or the error that there was no outcome for."""
    if not isinstance(outcome, tuple):
        return True
    if not outcome[0]:
        return False
    error = getattr(outcome[1], "exception", None)
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    if isinstance(error, Retry) or (isinstance(error, Reject) and error.requeue):
        return False
    return not isinstance(error, Ignore) or isinstance(error, TaskCancelled)
