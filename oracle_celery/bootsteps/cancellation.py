"""A worker does what is wanted of its tasks and queues: the gate before its pool, and the end of running tasks.

What will bite: the gate must stand between the pool and the consumer, which remembers what it was given. So it is put
up while the worker's parts are created, long before anything is started.
"""

from __future__ import annotations

import functools
from typing import Any

from celery import bootsteps
from celery.worker.control import control_command

from oracle_celery.acceptances import hear_before_forgetting
from oracle_celery.bootsteps.queue_pause import QueuePauses
from oracle_celery.canceller import Canceller, forget_answers
from oracle_celery.database.store import Store
from oracle_celery.desired_state import FILE_NAME
from oracle_celery.extension import Oracle, find
from oracle_celery.gate import Gate
from oracle_celery.interruption import is_interruptible
from oracle_celery.recorder import RecorderCounts

__all__ = ["CancellationStep"]

#: Seconds between two questions to the database; a broadcast makes it ask at once.
LOOK_INTERVAL = 1.0
#: Seconds between two looks whether a pause has ended by itself: without the database too.
TICK_INTERVAL = 1.0
#: Looks after which everything is reported again, changed or not: the database may have forgotten this worker.
LOOKS_PER_REPORT = 10
#: Seconds that a loop without a waker waits for the answer to a broadcast, to act on it in the same round.
LOOK_PATIENCE = 0.2


class CancellationStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Puts up the gate, and gives the recorder the duty to ask what is wanted."""

    name = "Oracle cancellation"
    requires = (
        "celery.worker.components:Pool",
        "oracle_celery.bootsteps.recorder:RecorderStep",
        "oracle_celery.bootsteps.presence:PresenceStep",
    )

    def __init__(self, worker: Any, **options: Any) -> None:
        self.oracle = find(worker.app)
        self.enabled = self.oracle is not None and self.oracle.settings.enabled
        self._ticks: Any = None
        super().__init__(worker, **options)

    def include_if(self, worker: Any) -> bool:
        return bool(self.enabled)

    def create(self, worker: Any) -> Any:
        assert self.oracle is not None
        self.oracle.gate = Gate(self.oracle, worker)
        self.oracle.gate.install()
        return self

    def start(self, worker: Any) -> None:
        oracle = self.oracle
        assert oracle is not None
        assert oracle.gate is not None
        desired = oracle.desired_state
        desired.path = oracle.settings.journal_path / FILE_NAME
        forget_answers(oracle)
        if is_interruptible(worker):
            desired.watch(Canceller(oracle, worker, oracle.gate).look)
            hear_before_forgetting(worker, oracle.guest)
        self._keep_ticking(worker.timer)
        oracle.gate.on_connection = functools.partial(self._keep_ticking, worker.timer)
        oracle.start_recorder().add_duty(LOOK_INTERVAL, Looking(oracle))

    def _keep_ticking(self, timer: Any) -> None:
        """Whoever loses the broker ends all timers, in versions before 5.7; later ones those of the connection only."""
        if self._ticks is not None:
            if any(planned.entry is self._ticks for planned in list(timer.queue)):
                return
            self._ticks.cancel()  # should it run just now
        planned = timer.call_repeatedly(TICK_INTERVAL, self._tick)
        self._ticks = getattr(planned, "entry", planned)  # of a greenlet

    def _tick(self) -> None:
        assert self.oracle is not None
        if self.oracle.gate is not None:
            self.oracle.gate.keep_long_runs()
        if self.oracle.pauses is not None:
            self.oracle.pauses.tick()

    def stop(self, worker: Any) -> None:
        """The recorder ends its duties when it stops."""

    def terminate(self, worker: Any) -> None:
        """The same."""


class Looking:
    """The recorder's duty: asks what is new, and reports what has been done about it."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self._reported: object = None
        self._looks = 0

    def perform(self, store: Store, counts: RecorderCounts) -> None:
        desired = self.oracle.desired_state
        desired.apply(store.control_changes(desired.known_up_to))
        pauses = self.oracle.pauses
        if pauses is not None:
            self._report(store, pauses, desired.seq)

    def end(self, store: Store) -> None:
        """Whoever reads knows that this worker has stopped."""

    def _report(self, store: Store, pauses: QueuePauses, seq: int) -> None:
        report = (seq, tuple(pauses.consuming()), tuple(pauses.reports()))
        self._looks += 1
        if report == self._reported and self._looks % LOOKS_PER_REPORT:
            return
        _, consuming, reports = report
        is_noted = store.report_control(str(self.oracle.worker_id), seq=seq, consuming=consuming, reports=reports)
        self._reported = report if is_noted else None


@control_command(name="oracle_look", visible=False)  # type: ignore[untyped-decorator]
def look(panel: Any, **_: Any) -> dict[str, str]:
    """Something is wanted of tasks or queues: ask the database now."""
    oracle = find(panel.app)
    if oracle is None or oracle.gate is None:
        return {"ok": "no Oracle here"}
    oracle.start_recorder().wake()
    consumer = panel.consumer
    if consumer.hub is None and not getattr(consumer.pool, "is_green", False):
        oracle.desired_state.wait_for_look(LOOK_PATIENCE)
    return {"ok": "looking"}
