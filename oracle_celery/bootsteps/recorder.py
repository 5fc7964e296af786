"""The recorder inside a worker's main process, whatever its pool.

Before the pool forks, what the process has loaded is taken out of the garbage collector's sight: a child collects when
it begins, and would get a copy of every page of it. That is more than Oracle itself adds to a child.

What will bite: this step stops before the pool does, while tasks of a warm shutdown still run. So it does not stop
the recorder; ``worker_shutdown`` does, which fires when the pool is gone. A cold shutdown has no such signal: then the
end of the process does.
"""

from __future__ import annotations

import atexit
import gc
from typing import Any

import click
from celery import bootsteps, signals

from oracle_celery import stored_success
from oracle_celery.errors import ConfigurationError
from oracle_celery.extension import Oracle, find
from oracle_celery.settings import Settings

__all__ = ["RecorderStep"]


class RecorderStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Makes this process a worker for Oracle before the pool forks, and starts the recorder after it has."""

    name = "Oracle recorder"
    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")

    def __init__(self, worker: Any, **options: Any) -> None:
        oracle = find(worker.app)
        self.oracle: Oracle | None = oracle
        self.enabled = oracle is not None and _settings(oracle).enabled
        if oracle is not None and self.enabled:
            oracle.become_worker(worker.hostname)
            oracle.signals.has_main_process = _is_prefork(worker)
            _begin_tracing(oracle)
            if oracle.signals.has_main_process:
                stored_success.watch()
                _share_with_children()
            signals.worker_shutdown.connect(self._on_shutdown, weak=False, dispatch_uid=f"oracle-{id(oracle)}-shutdown")
            atexit.register(self._on_shutdown)
        super().__init__(worker, **options)

    def include_if(self, worker: Any) -> bool:
        return bool(self.enabled)

    def start(self, worker: Any) -> None:
        assert self.oracle is not None
        self.oracle.start_recorder()

    def stop(self, worker: Any) -> None:
        """The pool may still finish tasks: see the module's docstring."""

    def terminate(self, worker: Any) -> None:
        """The same."""

    def _on_shutdown(self, **_: Any) -> None:
        atexit.unregister(self._on_shutdown)
        assert self.oracle is not None
        self.oracle.stop()


def _share_with_children() -> None:
    """Once, not at every fork: what is alive then may have become garbage when the next child is forked."""
    gc.collect()
    gc.freeze()


def _begin_tracing(oracle: Oracle) -> None:
    try:
        oracle.instrumentation.begin_worker(is_prefork=oracle.signals.has_main_process)
    except ConfigurationError as error:
        raise _on_command_line(error) from error


def _settings(oracle: Oracle) -> Settings:
    """A mistake in them stops the worker; on the command line with one line and without a traceback."""
    try:
        return oracle.settings
    except ConfigurationError as error:
        raise _on_command_line(error) from error


def _on_command_line(error: ConfigurationError) -> Exception:
    return error if click.get_current_context(silent=True) is None else click.ClickException(str(error))


def _is_prefork(worker: Any) -> bool:
    pool = worker.pool_cls
    return getattr(pool, "__module__", "") == "celery.concurrency.prefork"
