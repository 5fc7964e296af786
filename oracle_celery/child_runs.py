"""Runs in a child of a prefork pool, whose start and success are told without a signal.

A quick task's own share of a child's time is small, and to call a handler by a signal costs as much as to write a
record. So a child replaces each task's tracer by one that tells of a run's start and runs Celery's, and what Celery's
tracer calls to send ``task_success`` by what tells of it and then sends it to the others who want it. Failures and
retries keep their signals, which, like that call, come at the moment from which on Celery itself calls the run by that
name; and so do all runs elsewhere: eager ones, and those of other pools.

Guarantee: every start, and every success, is told by exactly one of the two. Whatever only ``task_postrun`` tells makes
that signal tell the rest of the run (`hand_over`): a task that asks to be ignored or rejected, one that goes on in
another message, one whose log is cut off. Where tasks are traced, or run eagerly within this process, the signals tell
all that is to come (`withdraw`), because handlers must then be called in their order.

What will bite: there are answers of a tracer for runs that Celery has not run, and they look like success: only the
runtime is missing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.app import trace
from celery.exceptions import Reject

from oracle_celery.correlations import forget_correlation
from oracle_celery.run import HIDDEN_TASKS, RUN_ID, STARTED_AT

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["ChildRuns"]

#: Loaded where anything here is traced, by whomever.
TRACING = "opentelemetry.trace"
#: Celery's methods by which a run ends that tells of itself in ``task_postrun`` alone.
TOLD_AFTERWARDS = ("handle_ignore", "handle_reject")


class ChildRuns:
    """Of one app, in one process, which runs one task at a time."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self._is_watching = False
        self._is_handed_over = False
        facts = oracle.signals
        self._handlers = [
            (signals.task_prerun, facts.on_started),
            (signals.task_postrun, facts.on_postrun),
        ]

    def watch(self) -> None:
        """From now on; Celery has built its tracers. Where it has none of what is needed, the signals go on."""
        info = getattr(trace, "TraceInfo", None)
        if not all(hasattr(info, name) for name in TOLD_AFTERWARDS) or not hasattr(trace, "send_success"):
            return
        self._is_watching = True
        for name in TOLD_AFTERWARDS:
            setattr(info, name, self._handing_over(getattr(info, name)))
        trace.build_tracer = self._withdrawing(trace.build_tracer)
        trace.send_success = self._sending(trace.send_success)
        for name, task in self.oracle.app.tasks.items():
            tracer = task.__trace__
            if tracer is not None and name not in HIDDEN_TASKS:
                task.__trace__ = self._told(task, tracer)
        self._disconnect()
        self._hear_success(_ignore)

    def hand_over(self) -> None:
        """The signals tell the rest of the run under way."""
        if self._is_watching and not self._is_handed_over:
            self._is_handed_over = True
            self._connect()

    def withdraw(self) -> None:
        """The signals tell the rest of the run under way, and all others."""
        if self._is_watching:
            self._is_watching = False
            self._connect()
            self._hear_success(self.oracle.signals.on_succeeded)

    def _told(self, task: Any, tracer: Callable[..., Any]) -> Callable[..., Any]:
        facts, guest, modules, clock = self.oracle.signals, self.oracle.guest, sys.modules, time.monotonic_ns

        def tell_not_run(outcome: Any, request: Any, uuid: Any) -> None:
            if outcome[1] is None and outcome[2] is None:  # Celery has not run it: there is no runtime
                try:
                    facts.tell_not_run(request, uuid, outcome[0])
                except Exception:  # noqa: BLE001
                    guest.count_failure()

        def trace_told(uuid: Any, args: Any, kwargs: Any, request: Any = None) -> Any:
            if TRACING in modules:
                self.withdraw()
            if not self._is_watching:
                outcome = tracer(uuid, args, kwargs, request)
                tell_not_run(outcome, request, uuid)
                return outcome
            try:
                if RUN_ID not in request:  # its receipt could not be told
                    facts.mint(request, uuid, task.name)
                forget_correlation()
                now = request[STARTED_AT] = clock()
                facts.tell_started(request, uuid, task.name, now)
            except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
                guest.count_failure()
            try:
                outcome = tracer(uuid, args, kwargs, request)
            except Reject as rejection:
                if self._is_watching and not self._is_handed_over:  # else ``task_postrun`` has told
                    try:
                        facts.tell_rejected(request, uuid, rejection)
                    except Exception:  # noqa: BLE001
                        guest.count_failure()
                raise
            finally:
                if self._is_handed_over:
                    self._take_back()
            tell_not_run(outcome, request, uuid)
            return outcome

        return trace_told

    def _take_back(self) -> None:
        self._is_handed_over = False
        if self._is_watching:
            self._disconnect()

    def _sending(self, send: Callable[..., Any]) -> Callable[..., Any]:
        facts, guest, receivers = self.oracle.signals, self.oracle.guest, signals.task_success.receivers

        def send_success(sender: Any, **named: Any) -> Any:
            if self._is_watching:
                try:
                    facts.on_succeeded(sender, **named)
                except Exception:  # noqa: BLE001
                    guest.count_failure()
                if len(receivers) == 1:  # `_ignore`, for the sake of which Celery's tracer calls this at all
                    return []
            return send(sender=sender, **named)

        return send_success

    def _hear_success(self, handler: Callable[..., None]) -> None:
        """From now on the signal calls this one."""
        self.oracle.guest.disconnect(signals.task_success)
        self.oracle.guest.connect(signals.task_success, handler)

    def _handing_over(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def handle(*args: Any, **options: Any) -> Any:
            self.hand_over()
            return method(*args, **options)

        return handle

    def _withdrawing(self, build_tracer: Callable[..., Any]) -> Callable[..., Any]:
        def build(*args: Any, **options: Any) -> Any:
            self.withdraw()
            return build_tracer(*args, **options)

        return build

    def _connect(self) -> None:
        for signal, handler in self._handlers:
            self.oracle.guest.connect(signal, handler)

    def _disconnect(self) -> None:
        for signal, _ in self._handlers:
            self.oracle.guest.disconnect(signal)


def _ignore(sender: Any, **_: Any) -> None:
    """It has been told."""
