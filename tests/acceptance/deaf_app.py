"""The app of `signal_app`; its worker leaves unread what its children say, from their start until it is to stop itself.

So a task that runs is one that the worker has not heard to be accepted, as on a machine that is too busy for a moment.
"""

from __future__ import annotations

from typing import Any

from celery.concurrency.asynpool import AsynPool, ResultHandler
from celery.worker import state

from tests.acceptance.signal_app import app

__all__ = ["app"]

_children: list[int] = []
_on_process_alive = AsynPool.on_process_alive
_make_process_result = ResultHandler._make_process_result  # which the hub calls


def _note_child(pool: AsynPool, pid: int) -> None:
    _children.append(pid)
    _on_process_alive(pool, pid)


def _make_deaf_reader(handler: ResultHandler, hub: Any) -> Any:
    read = _make_process_result(handler, hub)
    last_rounds: list[int] = []

    def read_when_stopping(descriptor: int) -> None:
        if not _children or last_rounds:
            read(descriptor)
        elif state.should_stop is not None:
            last_rounds.append(descriptor)  # the loop is in its last round, which the signal may have come into

    return read_when_stopping


AsynPool.on_process_alive = _note_child
ResultHandler._make_process_result = _make_deaf_reader
