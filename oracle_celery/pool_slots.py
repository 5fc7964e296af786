"""Slots for pools that take in whatever they are given: what cannot run yet waits here, where it can be called back.

Celery's prefork pool with an event loop has a semaphore for that. Threads, greenlets, and prefork on a transport
without an event loop queue inside the pool, where nobody could give a message back to its queue.

What will bite: a task's end is told in threads that must not wait: of prefork's own, one is about to kill the task's
process. So its pool's own lock is off, and a slot does the same. An end that goes unnoticed must not cost a slot for
ever: only requests that Celery itself still has in its books count, and `recheck` looks again now and then. A greenlet
that ends still has its place in the pool: the next one is handed over by another greenlet.
"""

from __future__ import annotations

import collections
import logging
import threading
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from celery.bootsteps import RUN
from celery.worker import state

__all__ = ["PoolSlots"]

logger = logging.getLogger(__name__)

PREFORK = "celery.concurrency.prefork"
THREADS = "celery.concurrency.thread"
GEVENT = "celery.concurrency.gevent"
EVENTLET = "celery.concurrency.eventlet"


class Job(NamedTuple):
    """What the pool was to be given."""

    request: Any
    target: Any
    args: Any
    kwargs: Any
    options: dict[str, Any]


class PoolSlots:
    """As many requests are in the pool as it runs at once. Any thread may call."""

    def __init__(
        self,
        worker: Any,
        turns_away: Callable[[Any], bool],
        apply_async: Callable[..., Any],
        *,
        watches_target: bool,
        later: Callable[[Callable[[], None]], Any] | None,
    ) -> None:
        self.worker = worker
        self._turns_away = turns_away
        self._apply_async = apply_async
        self._watches_target = watches_target
        self._later = later
        self._lock = threading.Lock()
        self._waiting: collections.deque[Job] = collections.deque()
        self._taken: set[Any] = set()

    @classmethod
    def needed(
        cls, worker: Any, turns_away: Callable[[Any], bool], apply_async: Callable[..., Any]
    ) -> PoolSlots | None:
        """None for pools that need none: prefork with an event loop, and whatever runs a task in place."""
        kind = worker.pool_cls.__module__
        if kind == PREFORK and (worker.hub is None or not worker.pool_putlocks):
            worker.pool.putlocks = False
            return cls(worker, turns_away, apply_async, watches_target=False, later=None)
        if kind == THREADS:
            return cls(worker, turns_away, apply_async, watches_target=True, later=None)
        if kind == GEVENT:
            later = import_module("gevent").spawn
            return cls(worker, turns_away, apply_async, watches_target=True, later=later)
        if kind == EVENTLET:
            later = import_module("eventlet").spawn_n
            return cls(worker, turns_away, apply_async, watches_target=True, later=later)
        return None

    def apply_async(self, request: Any, target: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        """Hands it to the pool, or keeps it for its turn."""
        job = Job(request, target, args, kwargs, options)
        with self._lock:
            if self._waiting or len(self._taken) >= self._size():
                self._waiting.append(job)
                return None
            self._taken.add(request)
        try:
            return self._hand_over(job)
        except BaseException:
            self._leave(request)
            raise

    def sweep(self) -> None:
        """What waits and may not run any more is turned away."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        kept = [job for job in waiting if not self._turns_away(job.request)]
        with self._lock:
            self._waiting.extendleft(reversed(kept))
        self._fill()

    def recheck(self) -> None:
        """Frees the slots of requests whose end nobody told of."""
        with self._lock:
            for request in [taken for taken in self._taken if not _is_held(taken)]:
                self._taken.discard(request)
        self._fill()

    def forget_waiting(self) -> None:
        """The connection is lost: their messages are delivered again."""
        with self._lock:
            self._waiting.clear()

    def _size(self) -> int:
        """How many the pool runs at once. One of greenlets says how many it has just now, before Celery 5.7."""
        pool = self.worker.pool
        size: int = pool.num_processes if self._later is None else pool._pool.size  # noqa: SLF001
        return size

    def _fill(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self.worker.blueprint.state != RUN:
                    return
                if len(self._taken) >= self._size():
                    return
                job = self._waiting.popleft()
                if job.request not in state.reserved_requests:
                    continue  # Celery has let it go with a lost connection
                self._taken.add(job.request)
            if self._turns_away(job.request):
                self._leave(job.request)
                continue
            try:
                result = self._hand_over(job)
            except Exception:
                self._leave(job.request)
                logger.exception("Oracle could not hand a task to the pool; its message stays with the broker.")
                return
            if result is not None:
                job.request._apply_result = weakref.ref(result)  # noqa: SLF001  # as Celery does

    def _hand_over(self, job: Job) -> Any:
        request, target, options = job.request, job.target, job.options
        if self._watches_target:

            def run(*args: Any, **kwargs: Any) -> Any:
                try:
                    return target(*args, **kwargs)
                finally:
                    self._end(request)

            return self._apply_async(run, job.args, job.kwargs, **options)
        for name in ("callback", "error_callback", "timeout_callback"):
            options[name] = self._ending(request, options[name], is_timeout=name == "timeout_callback")
        return self._apply_async(target, job.args, job.kwargs, **options)

    def _ending(self, request: Any, callback: Callable[..., Any], *, is_timeout: bool) -> Callable[..., Any]:
        def call_and_end(*args: Any, **kwargs: Any) -> None:
            try:
                callback(*args, **kwargs)
            finally:
                if not is_timeout or not kwargs.get("soft", args[0] if args else False):
                    self._end(request)

        return call_and_end

    def _end(self, request: Any) -> None:
        self._leave(request)
        if self._later is None:
            self._fill()
        elif self._waiting:
            self._later(self._fill)

    def _leave(self, request: Any) -> None:
        with self._lock:
            self._taken.discard(request)


def _is_held(request: Any) -> bool:
    """Whether Celery still has it in its books; with a lost connection, versions before 5.7 let go of what runs."""
    return request in state.reserved_requests or request in state.active_requests
