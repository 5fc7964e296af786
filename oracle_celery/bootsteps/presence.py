"""A worker says that it is there: it registers, beats and says goodbye on the recorder's connection.

A beat is a statement of its own and never journalled: a beat that arrives after an outage would tell of the past.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
from typing import Any

import celery
from celery import bootsteps
from celery.worker import state

from oracle_celery import __version__
from oracle_celery.database.store import Store, WorkerRegistration
from oracle_celery.extension import find
from oracle_celery.interruption import is_interruptible
from oracle_celery.payload import identifier
from oracle_celery.process_load import ProcessLoad
from oracle_celery.recorder import RecorderCounts

__all__ = ["PresenceStep"]


class PresenceStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Gives the recorder the duty to beat for this worker."""

    name = "Oracle presence"
    requires = ("oracle_celery.bootsteps.recorder:RecorderStep",)

    def __init__(self, worker: Any, **options: Any) -> None:
        self.oracle = find(worker.app)
        self.enabled = self.oracle is not None and self.oracle.settings.enabled
        super().__init__(worker, **options)

    def include_if(self, worker: Any) -> bool:
        return bool(self.enabled)

    def start(self, worker: Any) -> None:
        assert self.oracle is not None
        recorder = self.oracle.start_recorder()
        recorder.add_duty(self.oracle.settings.beat_interval, Beat(worker, str(self.oracle.worker_id)))

    def stop(self, worker: Any) -> None:
        """The recorder says goodbye when it stops."""


class Beat:
    """The duty itself: the first beat registers, and so does one that finds the worker unknown."""

    def __init__(self, worker: Any, worker_id: str) -> None:
        self.worker = worker
        self.worker_id = worker_id
        self.load = ProcessLoad()
        self.is_registered = False

    def perform(self, store: Store, counts: RecorderCounts) -> None:
        if self.is_registered:
            self.is_registered = self._tell(store, counts)
        if not self.is_registered:
            store.register_worker(self._registration())
            self.is_registered = self._tell(store, counts)
        counts.begin_interval()

    def end(self, store: Store) -> None:
        if self.is_registered:
            store.retire(self.worker_id)

    def _tell(self, store: Store, counts: RecorderCounts) -> bool:
        load = self.load.read()
        return store.beat(
            self.worker_id,
            active=len(state.active_requests),
            reserved=len(state.reserved_requests),
            queues=self._queues(),
            rate_limits=self._rate_limits(),
            counts=counts,
            cpu=load.cpu,
            memory=load.memory,
        )

    def _queues(self) -> tuple[str, ...]:
        return tuple(filter(None, map(identifier, self.worker.app.amqp.queues.consume_from)))

    def _rate_limits(self) -> dict[str, str]:
        """They may be changed by remote control at any time. One that has no words, or such as nobody can store, is left
        out: a worker that cannot beat looks lost, and so do its tasks."""
        told: dict[str, str] = {}
        for name, task in list(self.worker.app.tasks.items()):
            with contextlib.suppress(Exception):
                if task.rate_limit:
                    told[identifier(name) or ""] = identifier(str(task.rate_limit)) or ""
        return told

    def _registration(self) -> WorkerRegistration:
        worker = self.worker
        return WorkerRegistration(
            worker_id=self.worker_id,
            node=worker.hostname,
            origin=f"{os.getpid()}@{socket.gethostname()}",
            pool=getattr(worker.pool_cls, "__module__", str(worker.pool_cls)).rpartition(".")[2],
            concurrency=worker.concurrency,
            queues=self._queues(),
            interruptible=is_interruptible(worker),
            versions={"oracle": __version__, "celery": celery.__version__, "python": platform.python_version()},
        )
