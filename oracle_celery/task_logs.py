"""Log lines of running tasks become records: a `logging.Handler` that knows which task runs in this thread.

Guarantee: a line is formatted once, masked, cut, and appended to the journal of log lines, until its run has as many
lines or bytes as the settings allow. Every line takes a number, kept or not, so that what is missing can be counted by
whoever reads: a record without words says where a run's numbers are, at its 1st, 2nd, 4th, 8th … line that was left out
and when the run ends. The handler never raises into the task, except for a soft time limit that happens to strike
inside it: that one belongs to the task.

What bites: what a task prints is here because Celery's worker turns it into a record of the logger `celery.redirected`,
unless `worker_redirect_stdouts` is off; and a killed process says nothing of the lines that it left out last.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import TYPE_CHECKING, Any

from celery import _state, signals
from celery.exceptions import SoftTimeLimitExceeded

from oracle_celery.payload import cut_head, identifier, scrub
from oracle_celery.records import LogLine, encode_line
from oracle_celery.run import HIDDEN_TASKS, RUN_ID

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["TaskLogHandler", "connect", "tell_end"]

#: Key in ``task.request`` of the run's counts.
LINES = "oracle_lines"
#: Where Celery says how a task ended: the same facts are transitions.
TRACE_LOGGER = "celery.app.trace"
#: Why a line is not kept.
TOO_MANY, TOO_LARGE, NO_ROOM = "oracle_log_lines_per_run", "oracle_log_bytes_per_run", "oracle_journal_quota"


#: Characters of a logger's name, and names that are remembered.
LOGGER_LIMIT = 255
LOGGERS_LIMIT = 256


class _Lines:
    """What one run has logged."""

    __slots__ = ("left_out", "number", "reason", "run_id", "size", "task_id", "told")

    def __init__(self, task_id: str, run_id: str | None) -> None:
        self.task_id = task_id
        self.run_id = run_id
        self.number = 0  # of the next line
        self.size = 0  # bytes journalled
        self.told = 0  # the number up to which a reader can know what is missing
        self.left_out = 0
        self.reason = NO_ROOM


class TaskLogHandler(logging.Handler):
    """Records what a task logs through Python's logging, whatever the logger."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the lock of a handler: the journal has its own."""
        if self.filters:
            kept: Any = self.filter(record)
            if not kept:
                return False
            if isinstance(kept, logging.LogRecord):  # since Python 3.12 a filter may give another record instead
                record = kept
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            task = _state._task_stack.top  # noqa: SLF001  # as get_current_task does
            if task is None or task.name in HIDDEN_TASKS or record.name == TRACE_LOGGER:
                return
            if task.app is not self.oracle.app or not self.oracle.is_recording:
                return
            request = task.request_stack.top
            self._record(record, task.request if request is None else request)
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
            self.oracle.guest.count_failure()

    def _record(self, record: logging.LogRecord, request: Any) -> None:
        settings, fields = self.oracle.settings, request.__dict__
        if not settings.logs:
            return
        lines = fields.get(LINES)
        if lines is None:
            task_id = identifier(request.id)
            if task_id is None:
                return
            lines = fields[LINES] = _Lines(task_id, fields.get(RUN_ID))
        elif lines.run_id is None:  # its first line came before its run had an id: an eager one's, from a handler
            lines.run_id = fields.get(RUN_ID)
        number = lines.number
        lines.number = number + 1
        if number >= settings.log_lines_per_run:
            _leave_out(self.oracle, request, lines, TOO_MANY)
            return
        if lines.size >= settings.log_bytes_per_run:
            _leave_out(self.oracle, request, lines, TOO_LARGE)
            return
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + (logging.Formatter().formatException(record.exc_info))
        line = LogLine(
            task_id=lines.task_id,
            run_id=lines.run_id,
            at=time.monotonic_ns(),
            number=number,
            level=record.levelno,
            logger=_logger_name(record.name),
            message=cut_head(message, settings.log_line_limit, settings.redaction),
            span_id=self.oracle.instrumentation.span_id(),
        )
        encoded = encode_line(line)
        if self.oracle.log_journal.append(encoded):
            lines.size += len(encoded)
            lines.told = number + 1
        else:
            _leave_out(self.oracle, request, lines, NO_ROOM)


@functools.lru_cache(maxsize=LOGGERS_LIMIT)
def _logger_name(name: Any) -> str:
    return scrub(name)[:LOGGER_LIMIT]


def tell_end(oracle: Oracle, request: Any) -> None:
    """The run ends: what it left out since its last record is told."""
    lines = request.__dict__.get(LINES)
    if lines is not None and lines.told < lines.number:
        _tell(oracle, request, lines)


def connect(oracle: Oracle) -> None:
    """Adds the handler to the loggers that a worker sets up: the root, and that of tasks, which does not propagate."""
    handler = TaskLogHandler(oracle)

    def attach(logger: logging.Logger | None = None, **_: Any) -> None:
        if logger is not None and handler not in logger.handlers:
            logger.addHandler(handler)

    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        signal.connect(attach, weak=False, dispatch_uid=f"oracle-{id(oracle)}-{signal.name}")


def _leave_out(oracle: Oracle, request: Any, lines: _Lines, reason: str) -> None:
    """A task that logs in a loop costs a few records more, not one a line."""
    lines.reason = reason
    lines.left_out += 1
    oracle.tell_afterwards()
    if lines.left_out & (lines.left_out - 1) == 0:  # a power of two
        _tell(oracle, request, lines)


def _tell(oracle: Oracle, request: Any, lines: _Lines) -> None:
    line = LogLine(
        task_id=identifier(request.id) or "",
        run_id=request.__dict__.get(RUN_ID),
        at=time.monotonic_ns(),
        number=lines.number - 1,
        level=logging.NOTSET,
        logger=lines.reason,
    )
    if oracle.log_journal.append(encode_line(line)):
        lines.told = lines.number
