"""A paused queue is not consumed, from the first message of each connection on, until it is resumed.

Guarantee: when this worker confirms a pause, none of the queue's tasks starts here any more. It consumes the queue no
longer, it has given back what it held, and what its pool was given before has started or ended.

What will bite: the set of queues that this worker is to consume (``app.amqp.queues.consume_from``) stays as it is,
paused or not: it says what to resume, also after somebody has changed it meanwhile by Celery's own commands. Only
the consuming itself is withheld. And RabbitMQ answers a declaration that it refuses by closing the channel, and with it
the consuming of all other queues: whether a queue can be resumed is tried on a channel that nobody needs.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable
from typing import Any

from celery import bootsteps
from celery.worker import state

from oracle_celery.begun_runs import begun_runs
from oracle_celery.database.store import PauseReport
from oracle_celery.extension import Oracle, find
from oracle_celery.gate import Gate, accepted_at, queue_of, tag_messages
from oracle_celery.run import RUN_ID

__all__ = ["QueuePauseStep", "QueuePauses"]

logger = logging.getLogger(__name__)

#: Seconds that a starting worker waits for the database before it goes by what it remembers.
PATIENCE = 5.0
#: Seconds between two looks whether what was given to the pool has started.
CONFIRM_INTERVAL = 0.1
#: Seconds after its acceptance in which a task's own process has certainly begun, where nobody can say whether it has:
#: its start is not in the journal, which may be full.
START_SECONDS = 10.0
#: Seconds after a reconnect in which a child may still take up what Celery has lost sight of.
RECONNECT_SECONDS = 0.5
#: Seconds after which a queue that the broker has refused to resume is tried again.
REFUSAL_SECONDS = 10.0


class QueuePauseStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Runs at each connection, after Celery has prepared its consuming and before it begins."""

    name = "Oracle queue pause"
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        oracle = find(consumer.app)
        self.pauses: QueuePauses | None = None
        if oracle is not None and oracle.gate is not None:
            self.pauses = QueuePauses(oracle, oracle.gate, consumer)
        super().__init__(consumer, **options)

    def include_if(self, consumer: Any) -> bool:
        return self.pauses is not None

    def start(self, consumer: Any) -> None:
        assert self.pauses is not None
        self.pauses.start()

    def stop(self, consumer: Any) -> None:
        """Celery ends all consuming."""


class QueuePauses:
    """Of one worker's consumer. Whatever touches the consumer runs in its event loop."""

    def __init__(self, oracle: Oracle, gate: Gate, consumer: Any) -> None:
        self.oracle = oracle
        self.consumer = consumer
        self.desired = oracle.desired_state
        self._gate = gate
        self._withheld: set[str] = set()
        #: Those of them that cannot be resumed, until the monotonic second in which they are tried again.
        self._refused: dict[str, float] = {}
        self._confirmed: dict[str, PauseReport] = {}
        self._connected_at = 0.0
        self._is_started = False
        self._is_act_due = False
        self._is_sweep_due = False
        self._is_confirm_due = False
        self._add_task_queue = consumer.add_task_queue
        consumer.add_task_queue = self.add_task_queue
        gate.guard_receipt(consumer)
        gate.on_unwanted_delivery = self._withhold
        oracle.pauses = self
        self.desired.watch(lambda _: self._on_change())

    def start(self) -> None:
        """Before the first message of a connection."""
        if not self._is_started:
            self._is_started = True
            self._learn()
        self._connected_at = time.monotonic()
        self._withheld.clear()  # Celery's consumer is a new one, and is about to consume whatever it is not kept from
        self._refused.clear()
        self._is_act_due = self._is_confirm_due = False  # what was due may have gone with the connection
        if self._gate.slots is not None:
            self._gate.slots.forget_waiting()
        self._is_sweep_due = True
        self._gate.on_connection()
        tag_messages(self.consumer.task_consumer)
        self._act()

    def act_soon(self) -> None:
        """In the event loop. Any thread."""
        if not self._is_act_due and self._is_started:
            self._is_act_due = True
            self.consumer.call_soon(self._act)

    def tick(self) -> None:
        """Now and then: a pause may have ended by itself. Any thread."""
        if self._gate.slots is not None:
            self._gate.slots.recheck()
        self.act_soon()

    def add_task_queue(self, queue: str, *args: Any, **options: Any) -> Any:
        """Celery's ``add_consumer``: a paused queue is noted, and consumed when it is resumed."""
        if not self.desired.is_paused(queue):
            added = self._add_task_queue(queue, *args, **options)
            self._select(queue)
            return added
        with _Withholding(self.consumer, queue):
            self._add_task_queue(queue, *args, **options)
        self._select(queue)
        self._withheld.add(queue)
        logger.info("Queue %s is paused by Oracle: it is consumed once it is resumed.", queue)
        return None

    # -- what the recorder reports -------------------------------------------------------------------------------

    def consuming(self) -> list[str]:
        task_consumer = self.consumer.task_consumer
        if task_consumer is None:
            return []
        return sorted(list(task_consumer._active_tags))  # noqa: SLF001, C414  # a copy first: the loop may change it

    def reports(self) -> list[PauseReport]:
        return sorted(self._confirmed.copy().values(), key=lambda report: report.queue)

    # -- acting --------------------------------------------------------------------------------------------------

    def _learn(self) -> None:
        recorder = self.oracle.start_recorder()
        if not self.desired.wait_until_known(PATIENCE, lambda: recorder.is_away) and self.desired.remember():
            logger.warning(
                "Oracle: PostgreSQL does not answer; this worker keeps to the pauses and cancels it knew of."
            )

    def _on_change(self) -> None:
        self._is_sweep_due = True
        self.act_soon()

    def _act(self) -> None:
        self._is_act_due = False
        consumer = self.consumer
        if consumer.connection is None:
            return  # the next one begins with all of this
        try:
            self._consume_what_may_be()
            if (
                self._is_sweep_due
            ):  # what comes later is asked for when it is received, and once more when its turn comes
                self._is_sweep_due = False
                self._gate.sweep()
            self._confirm()
        except consumer.connection_errors as error:
            logger.debug("Oracle could not act on a queue, and tries again with the next connection: %r", error)
        except consumer.channel_errors as error:
            if not self._is_amqp():
                logger.debug("Oracle could not act on a queue, and tries again: %r", error)
                return
            logger.error("Oracle could not act on a queue: the broker ends all consuming here, and says: %s", error)  # noqa: TRY400
            raise ConnectionError("The broker has closed the channel of all consuming.") from error  # to begin anew
        except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
            self.oracle.guest.count_failure()

    def _consume_what_may_be(self) -> None:
        task_consumer = self.consumer.task_consumer
        if task_consumer is None:
            return
        resumed = []
        for queue in self._configured():
            if self.desired.is_paused(queue.name):
                self._refused.pop(queue.name, None)
                self._withhold(queue.name)
            elif queue.name in self._withheld and self._may_resume(queue):
                task_consumer.add_queue(queue)
                resumed.append(queue.name)
        if resumed:
            task_consumer.consume()
            self._withheld.difference_update(resumed)
            logger.info("Oracle resumes %s.", ", ".join(resumed))

    def _may_resume(self, queue: Any) -> bool:
        """Whether the broker takes the queue as this worker declares it."""
        now = time.monotonic()
        if not self._is_amqp() or now < self._refused.get(queue.name, now):
            return queue.name not in self._refused
        try:
            with self.consumer.connection.channel() as channel:
                queue(channel).declare()
        except self.consumer.channel_errors as error:
            if queue.name not in self._refused:
                logger.error(  # noqa: TRY400  # its traceback says nothing more
                    "Oracle cannot resume %s. The broker does not take the queue as this worker declares it, and says: "
                    "%s. Delete the queue, or let task_queues say what it is now; it is tried again every %g seconds.",
                    queue.name,
                    error,
                    REFUSAL_SECONDS,
                )
            self._refused[queue.name] = now + REFUSAL_SECONDS
            return False
        self._refused.pop(queue.name, None)
        return True

    def _is_amqp(self) -> bool:
        return bool(self.consumer.connection.transport.driver_type == "amqp")

    def _withhold(self, queue: str) -> None:
        task_consumer = self.consumer.task_consumer
        if queue in task_consumer._queues:  # noqa: SLF001  # consumed, or about to be
            self._withheld.add(queue)
            task_consumer.cancel_by_queue(queue)
            logger.info("Oracle pauses %s.", queue)

    def _confirm(self) -> None:
        is_news, is_all = False, True
        for queue in self._configured():
            report = self._report_on(queue.name)
            if report is None:
                is_all = is_all and self.desired.word(queue.name) is None
            elif self._confirmed.get(queue.name) != report:
                self._confirmed[queue.name] = report
                is_news = True
        if is_news:
            self.oracle.start_recorder().wake()
        if not is_all and not self._is_confirm_due:
            self._is_confirm_due = True
            self.consumer.timer.call_after(CONFIRM_INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self._is_confirm_due = False
        self.act_soon()

    def _report_on(self, queue: str) -> PauseReport | None:
        """What there is to confirm; None as long as there is nothing."""
        word = self.desired.word(queue)
        task_consumer = self.consumer.task_consumer
        if word is None or task_consumer is None:
            return None
        is_consuming = queue in task_consumer._active_tags  # noqa: SLF001
        if not word.is_paused:
            return PauseReport(queue=queue, seq=word.seq, state="consuming") if is_consuming else None
        if is_consuming or self._may_start(queue):
            return None
        return PauseReport(queue=queue, seq=word.seq, state="paused")

    def _may_start(self, queue: str) -> bool:
        now = time.monotonic()
        if now - self._connected_at < RECONNECT_SECONDS and self.consumer.restart_count > 0:
            return True
        unsure: set[str] = set()
        for request in _reserved():
            moment = accepted_at(request)
            if (moment is None or now - moment < START_SECONDS) and queue_of(request) == queue:
                run_id = request.request_dict.get(RUN_ID)
                if moment is None or run_id is None:
                    return True
                unsure.add(run_id)
        return bool(unsure) and begun_runs(self.oracle.folder, unsure) != unsure

    def _select(self, queue: str) -> None:
        """Celery before 5.7 consumes an added queue that it knew by name, and forgets it with the connection: it could
        be neither paused nor resumed."""
        queues = self.consumer.app.amqp.queues
        if queue in queues and queue not in queues.consume_from:
            queues.select_add(queues[queue])

    def _configured(self) -> list[Any]:
        return list(self.consumer.app.amqp.queues.consume_from.values())


class _Withholding:
    """Makes Celery believe that a queue is consumed already, so that it only notes it."""

    def __init__(self, consumer: Any, queue: str) -> None:
        self._task_consumer = consumer.task_consumer
        self._queue = queue

    def __enter__(self) -> None:
        self._task_consumer.consuming_from = lambda _: True

    def __exit__(self, *_: object) -> None:
        del self._task_consumer.consuming_from


def _reserved() -> Iterable[Any]:
    """Celery's own set, which other threads may change while it is read."""
    while True:
        with contextlib.suppress(RuntimeError):
            return list(state.reserved_requests)
