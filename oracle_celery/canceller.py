"""Ends runs that were cancelled while they ran: softly first, so that a task can clean up, then by SIGKILL.

Guarantee: no other task is hit. A child is killed once it has answered that it still runs that very run and stays in
it; a child that answers anything else is left alone. A child that does not answer at all has not run a single step of
Python since the signal: it is stuck in C code, in the same run. It is killed where the pool gives a child no next task
before its last one's end is known here; elsewhere only if its last answer came from that run, which shows that it can
hear. And not where Celery has lost sight of what its children do (`_has_lost_sight`).

One thread, alive only while there is something to end. Killing is done in the worker's event loop, where nobody else
hands over tasks or hears of their ends meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Set
from typing import TYPE_CHECKING, Any

import msgspec
from celery.concurrency.asynpool import SCHED_STRATEGY_FAIR, AsynPool
from celery.worker import state

from oracle_celery.gate import Gate, queue_of
from oracle_celery.interruption import (
    FOREIGN,
    INTERRUPT,
    PARK,
    PARKED,
    RAISE,
    RAISED,
    Answer,
    InterruptRequest,
    answer_path,
    request_path,
    write_atomically,
)
from oracle_celery.run import RUN_ID

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["Canceller", "forget_answers"]

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.02
#: Seconds between two requests to a child that could not be interrupted where it was.
REPEAT_SECONDS = 0.1
#: Seconds without an answer after which a child is stuck in C code.
SILENCE_SECONDS = 5.0
#: Seconds that the event loop gets to kill a parked child before this thread does.
KILL_PATIENCE = 5.0
#: Seconds in which a child says nothing but that it runs something else: the run has ended, and Celery may not know.
ABSENCE_SECONDS = 5.0

#: Celery before 5.7 forgets with a lost connection which children are busy, and 5.5 what they run.
FORGETS_CHILDREN = "intersection_update" not in getattr(getattr(AsynPool.flush, "__code__", None), "co_names", ())


class Canceller:
    """Of one prefork worker, in its main process."""

    def __init__(self, oracle: Oracle, worker: Any, gate: Gate) -> None:
        self.oracle = oracle
        self.worker = worker
        self._gate = gate
        self._pursuits: dict[int, Pursuit] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        gate.on_late_start = self.pursue

    def look(self, cancelled: Set[str]) -> None:
        """Ends what runs here of these. Those that start later are told of by the gate."""
        if cancelled:
            for request in _running():
                if request.id in cancelled:
                    self.pursue(request)

    def pursue(self, request: Any) -> None:
        """Begins to end a run that its child has accepted. Any thread."""
        try:
            with self._lock:
                pid = request.worker_pid
                known = self._pursuits.get(pid)
                if known is not None and known.request is request:
                    return
                self._pursuits[pid] = Pursuit(self.oracle, self.worker, request)  # the child has left an earlier run
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="oracle-canceller", daemon=True)
                    self._thread.start()
        except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
            self.oracle.guest.count_failure()

    def _run(self) -> None:
        while True:
            with self._lock:
                for pid, pursuit in list(self._pursuits.items()):
                    if pursuit.is_over:
                        del self._pursuits[pid]
                pursuits = list(self._pursuits.values())
                if not pursuits:
                    self._thread = None
                    return
            for pursuit in pursuits:
                try:
                    pursuit.step()
                except Exception:  # noqa: BLE001
                    self.oracle.guest.count_failure()
            time.sleep(POLL_SECONDS)


class Pursuit:
    """The end of one run."""

    _numbers = itertools.count(1)

    def __init__(self, oracle: Oracle, worker: Any, request: Any) -> None:
        self.oracle = oracle
        self.worker = worker
        self.request = request
        self.pid = request.worker_pid
        self.run_id = request.request_dict.get(RUN_ID)
        self._kill_at = time.monotonic() + oracle.settings.cancel_grace
        self._sent: InterruptRequest | None = None
        self._sent_at = 0.0
        self._has_answered = False
        self._absent_since: float | None = None
        self._is_raised = False
        self._dying_since: float | None = None
        self._is_given_up = False

    @property
    def is_over(self) -> bool:
        return self._is_given_up or not self._runs()

    def step(self) -> None:
        now = time.monotonic()
        if self._dying_since is not None:
            if now - self._dying_since > KILL_PATIENCE:
                self._kill()
            return
        answer = self._answer()
        is_hard = now >= self._kill_at
        if answer is not None:
            self._has_answered = answer != FOREIGN
            self._is_raised = self._is_raised or answer == RAISED
            if answer != FOREIGN:
                self._absent_since = None
            elif self._absent_since is None:
                self._absent_since = now
            elif now - self._absent_since > ABSENCE_SECONDS:
                self._is_given_up = True
                return
            if answer == PARKED:
                self._die(now)
                return
        if self._sent is None:
            self._send(PARK if is_hard else RAISE)
        elif is_hard and self._sent.action != PARK:
            self._send(PARK)
        elif answer is not None and now - self._sent_at > REPEAT_SECONDS and (is_hard or not self._is_raised):
            self._send(self._sent.action)
        elif answer is None and is_hard and now - self._sent_at > SILENCE_SECONDS:
            self._end_silent(now)

    def _runs(self) -> bool:
        return self.request in state.active_requests and self.request.worker_pid == self.pid

    def _send(self, action: str) -> None:
        if self.run_id is None or not self._is_child():
            self._is_given_up = True
            return
        request = InterruptRequest(next(self._numbers), self.run_id, action)
        write_atomically(request_path(self.oracle.folder, self.pid), request)
        self._sent = request  # what could not be written is no question, and no silence follows it
        self._sent_at = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, INTERRUPT)

    def _is_child(self) -> bool:
        pool = self.worker.pool._pool  # noqa: SLF001
        return pool is not None and any(child.pid == self.pid for child in list(pool._pool))  # noqa: SLF001

    def _answer(self) -> str | None:
        """To the last request; None as long as there is none."""
        if self._sent is None:
            return None
        try:
            said = msgspec.json.decode(answer_path(self.oracle.folder, self.pid).read_bytes(), type=Answer)
        except (OSError, msgspec.MsgspecError):
            return None
        return said.answer if said.number == self._sent.number else None

    def _end_silent(self, now: float) -> None:
        if not self._has_lost_sight() and (self._has_answered or self._gets_one_task_at_a_time()):
            self._die(now)
            return
        self._is_given_up = True
        logger.warning(
            "Oracle: process %d does not answer, and its pool may have given it another task by now: task %s goes on.",
            self.pid,
            self.request.id,
        )

    def _has_lost_sight(self) -> bool:
        """From then on a child may have been given a task behind another one, and so on, and an end may go unheard."""
        return FORGETS_CHILDREN and self.worker.hub is not None and self.worker.consumer.restart_count > 0

    def _gets_one_task_at_a_time(self) -> bool:
        strategy = getattr(self.worker.pool._pool, "sched_strategy", None)  # noqa: SLF001
        return self.worker.hub is not None and strategy == SCHED_STRATEGY_FAIR

    def _die(self, now: float) -> None:
        self._dying_since = now
        if self.worker.hub is None:
            self._kill()
        else:
            self.worker.consumer.call_soon(self._kill)

    def _kill(self) -> None:
        """What ``revoke(terminate=True, signal="SIGKILL")`` does once it has found the request."""
        try:
            if self._runs() and not self.request._already_revoked:  # noqa: SLF001
                logger.info("Oracle kills process %d: task %s did not end by itself.", self.pid, self.request.id)
                self.oracle.keeper.keep(self.request, queue_of(self.request))
                self.request.terminate(self.worker.pool, signal="SIGKILL")
        except Exception:  # noqa: BLE001
            self.oracle.guest.count_failure()


def _running() -> list[Any]:
    """Celery's own set, which changes while it is read."""
    while True:
        with contextlib.suppress(RuntimeError):
            return list(state.active_requests)


def forget_answers(oracle: Oracle) -> None:
    """What an earlier worker of this name and its children have left behind."""
    for path in oracle.folder.glob("interrupt.*"):
        with contextlib.suppress(OSError):  # each question has a number of its own
            path.unlink()
