"""What log records know of their trace."""

from __future__ import annotations

import logging

import pytest
from celery import Celery, _state
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from oracle_celery import TraceFilter, correlation

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def logged() -> tuple[str, str, str]:
    record = logging.makeLogRecord({"msg": "x"})
    assert TraceFilter().filter(record)
    return record.trace_id, record.span_id, record.correlation_id


def test_nothing_to_tell() -> None:
    """Any format can name the fields."""
    assert logged() == ("-", "-", "-")


def test_of_the_running_tasks_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is traced in this process; a span that is there goes before."""
    task = Celery("shop", set_as_current=False).task(name="shop.pay", shared=False)(logged)
    task.push_request(traceparent=f"00-{TRACE}-{SPAN}-01", oracle_correlation_id="web-1")
    _state._task_stack.push(task)
    try:
        assert logged() == (TRACE, SPAN, "web-1")
        span = TracerProvider(shutdown_on_exit=False).get_tracer("tests").start_span("within")
        with trace.use_span(span), correlation("web-2"):
            context = span.get_span_context()
            assert logged() == (f"{context.trace_id:032x}", f"{context.span_id:016x}", "web-2")
    finally:
        _state._task_stack.pop()
