"""Log records know their trace: a `logging.Filter` for the handlers of a worker, or of any other process.

Guarantee: it keeps every record, raises nothing, and needs no OpenTelemetry: where no span is there, the message of the
running task tells. What has nothing to tell is a dash, so that any format can name the fields.
"""

from __future__ import annotations

import logging
import sys

from celery._state import get_current_task
from celery.exceptions import SoftTimeLimitExceeded

from oracle_celery.correlations import correlation_id
from oracle_celery.trace_context import TraceContext

__all__ = ["TraceFilter"]

API = "opentelemetry.trace"
NOTHING = "-"


class TraceFilter(logging.Filter):
    """Adds ``trace_id``, ``span_id`` and ``correlation_id``."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = None
        try:
            if API in sys.modules:
                from oracle_celery import tracing

                context = tracing.run_context(None)
            task = get_current_task()
            if context is None and task is not None:
                context = TraceContext.from_traceparent(task.request.__dict__.get("traceparent"))
            record.correlation_id = correlation_id() or NOTHING
        except SoftTimeLimitExceeded:  # it happened to strike here, and is the task's
            raise
        except Exception:  # noqa: BLE001  # a line without its trace is better than none
            record.correlation_id = NOTHING
        record.trace_id, record.span_id = (NOTHING, NOTHING) if context is None else context[:2]
        return True
