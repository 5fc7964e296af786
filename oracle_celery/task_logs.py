"""Log lines of running tasks become records: a `logging.Handler` that knows which task runs in this thread.

Guarantee: a line is formatted once, masked, cut, and appended to the journal of log lines; past a number of lines per
run one last line says that the rest is left out. The handler never raises into the task, except for a soft time limit
that happens to strike inside it: that one belongs to the task.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from celery import signals
from celery._state import get_current_task
from celery.exceptions import SoftTimeLimitExceeded

from oracle_celery.payload import cut_head, identifier, scrub
from oracle_celery.records import LogLine, encode_line
from oracle_celery.run import HIDDEN_TASKS, RUN_ID

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["TaskLogHandler", "connect"]

#: Key in ``task.request`` that counts the run's lines.
LINES = "oracle_lines"
#: Where Celery says how a task ended: the same facts are transitions.
TRACE_LOGGER = "celery.app.trace"


class TaskLogHandler(logging.Handler):
    """Records what a task logs through Python's logging, whatever the logger."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def emit(self, record: logging.LogRecord) -> None:
        try:
            task = get_current_task()
            if task is None or task.app is not self.oracle.app or task.name in HIDDEN_TASKS:
                return
            if record.name == TRACE_LOGGER or not self.oracle.is_recording:
                return
            self._record(record, task.request)
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
            self.oracle.guest.count_failure()

    def _record(self, record: logging.LogRecord, request: Any) -> None:
        settings = self.oracle.settings
        task_id = identifier(request.id)
        if not settings.logs or task_id is None:
            return
        number = request.__dict__.get(LINES, 0)
        if number > settings.log_lines_per_run:
            return
        request.__dict__[LINES] = number + 1
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + (logging.Formatter().formatException(record.exc_info))
        if number == settings.log_lines_per_run:
            message = f"Further lines of this run are not recorded: oracle_log_lines_per_run = {number}."
        line = LogLine(
            task_id=task_id,
            run_id=request.__dict__.get(RUN_ID),
            at=time.monotonic_ns(),
            number=number,
            level=record.levelno,
            logger=scrub(record.name)[:255],
            message=cut_head(message, settings.log_line_limit, settings.redaction),
        )
        self.oracle.log_journal.append(encode_line(line))


def connect(oracle: Oracle) -> None:
    """Adds the handler to the loggers that a worker sets up: the root, and that of tasks, which does not propagate."""
    handler = TaskLogHandler(oracle)

    def attach(logger: logging.Logger | None = None, **_: Any) -> None:
        if logger is not None and handler not in logger.handlers:
            logger.addHandler(handler)

    for signal in (signals.after_setup_logger, signals.after_setup_task_logger):
        signal.connect(attach, weak=False, dispatch_uid=f"oracle-{id(oracle)}-{signal.name}")
