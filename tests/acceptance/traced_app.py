"""The app whose tasks are traced; workers and `traced_sender` load it with its settings in the environment."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from typing import Any

from celery import Celery, Task, signals

import oracle_celery
from oracle_celery import Oracle

CORRELATION = "web-1042"
PUBLIC_URL = "https://oracle.example.org"

logger = logging.getLogger(__name__)


def make_app() -> Celery:
    """Settings are in the environment, as JSON; a test that only asks for names has none."""
    settings = json.loads(os.environ.get("TRACED_SETTINGS", "{}"))
    app = Celery("traced", set_as_current=bool(settings))
    app.conf.update(
        task_default_queue="traced",
        broker_connection_retry_on_startup=True,
        oracle_public_url=PUBLIC_URL,
        oracle_beat_interval=1.0,
    )
    app.conf.update(settings)
    if settings:
        Oracle(app)
    return app


app = make_app()


@app.task
def add(a: int = 1, b: int = 1) -> int:
    logger.warning("adding")
    return a + b


@app.task
def within() -> None:
    """Has a span of its own code within its run's."""
    from opentelemetry import trace

    with trace.get_tracer("shop").start_as_current_span("by hand"):
        logger.warning("within a span")


@app.task(bind=True)
def again(self: Task) -> int:
    """Retried once."""
    if not self.request.retries:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(bind=True)
def spawn(self: Task) -> str:
    return str(add.delay(1, 2).id)


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def fail() -> None:
    raise ValueError("no")


@app.task
def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def sleep() -> None:
    time.sleep(60)


@app.task
def whose() -> Any:
    """What the worker knows."""
    return oracle_celery.correlation_id()


# -- what a project may have set up by itself -------------------------------------------------------------------------


def set_up_by_itself() -> None:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": "its-own"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument(use_span_links=True)


if os.environ.get("TRACED_OWN_SETUP"):

    @signals.worker_process_init.connect(weak=False)
    def in_child(**_: Any) -> None:
        set_up_by_itself()
