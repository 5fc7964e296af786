"""How far a running task says that it is: what it tells Celery by `update_state`, and by `progress` to Oracle alone.

Guarantee: a record on the local disk, at most `RATE` of them a second for one run, and the newest value always gets
there: one that comes too soon is written a moment later by a timer, which later ones find waiting. `update_state` does
what it always did, whatever happens here. A value is a payload: bounded and masked like a result.

What bites: the method is wrapped where Celery's class `Task` has it, so a task that replaces it without calling it is
not seen; and what a task says of another one's id is passed over, because only its own run is known here.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from celery._state import get_current_task
from celery.app.task import Task
from celery.exceptions import SoftTimeLimitExceeded
from celery.states import READY_STATES

from oracle_celery.payload import encode_value, identifier
from oracle_celery.records import Progress, encode_line
from oracle_celery.run import HIDDEN_TASKS, RUN_ID

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["connect", "progress"]

#: Records of one run in a second.
RATE = 5
#: Bytes that are kept of a value.
META_LIMIT = 2_048
#: Key in ``task.request`` of the monotonic time at which its last record was written.
TOLD_AT = "oracle_progress_at"
#: Characters of a state's name.
STATE_LIMIT = 80


def progress(current: float, total: float | None = None, text: str | None = None) -> None:
    """Shows a progress bar for the task that runs here, in Oracle alone: no result backend is asked. Outside of a task,
    and where Oracle is not enabled, it does nothing. Never raises."""
    meta = {"current": current, "total": total, "text": text}
    _observe(get_current_task(), None, {key: value for key, value in meta.items() if value is not None})


def connect(oracle: Oracle) -> None:
    """From now on this app's tasks are listened to. The class is everybody's: it is wrapped once."""
    _oracles[id(oracle.app)] = oracle
    if not hasattr(Task.update_state, "oracle"):
        Task.update_state = _observed(Task.update_state)


#: By the id of their app, which lives as long as they do.
_oracles: dict[int, Oracle] = {}


def _observed(update_state: Any) -> Any:
    @functools.wraps(update_state)
    def observed(self: Any, task_id: Any = None, state: Any = None, meta: Any = None, **options: Any) -> Any:
        answer = update_state(self, task_id, state, meta, **options)
        if state not in READY_STATES and (task_id is None or task_id == self.request.id):
            _observe(self, state, meta)
        return answer

    observed.oracle = True  # type: ignore[attr-defined]
    return observed


def _observe(task: Any, state: Any, meta: Any) -> None:
    oracle = None
    try:
        oracle = None if task is None else _oracles.get(id(task.app))
        if oracle is None or not oracle.is_recording or task.name in HIDDEN_TASKS:
            return
        fields = task.request.__dict__
        task_id = identifier(fields.get("id"))
        if task_id is None:
            return
        record = Progress(
            task_id=task_id,
            run_id=fields.get(RUN_ID),
            at=time.monotonic_ns(),
            state=None if not isinstance(state, str) else (identifier(state) or "")[:STATE_LIMIT],
            meta=encode_value(meta, META_LIMIT, oracle.settings.redaction),
        )
        _waiting.tell(oracle, fields, record)
    except SoftTimeLimitExceeded:  # it happened to strike here, and is the task's
        raise
    except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
        if oracle is not None:
            oracle.guest.count_failure()


class _Waiting:
    """The newest values of runs whose last record is too young, until their time comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[tuple[int, str, str | None], tuple[Oracle, dict[str, Any], Progress]] = {}
        self._timer: threading.Timer | None = None

    def tell(self, oracle: Oracle, fields: dict[str, Any], record: Progress) -> None:
        key = (id(oracle), record.task_id, record.run_id)
        with self._lock:
            if key not in self._records and time.monotonic() - fields.get(TOLD_AT, 0.0) >= 1 / RATE:
                self._write(oracle, fields, record)
                return
            self._records[key] = (oracle, fields, record)
            if self._timer is None:
                self._timer = threading.Timer(1 / RATE, self._flush)
                self._timer.daemon = True
                self._timer.start()

    def _flush(self) -> None:
        with self._lock:
            self._timer = None
            waiting = list(self._records.values())
            self._records.clear()
            for oracle, fields, record in waiting:
                self._write(oracle, fields, record)

    def _write(self, oracle: Oracle, fields: dict[str, Any], record: Progress) -> None:
        fields[TOLD_AT] = time.monotonic()
        oracle.log_journal.append(encode_line(record))


_waiting = _Waiting()


def _after_fork_in_child() -> None:
    global _waiting
    _waiting = _Waiting()  # the parent's timer is not here, and its lock may have been held


os.register_at_fork(after_in_child=_after_fork_in_child)
