"""The Celery app. All its settings are Django's, with the prefix CELERY_, Oracle's too: see settings.py."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

from shop import tracing

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def begin_tracing(**_: Any) -> None:
    """In each child of the pool: from here on runs are spans, and inside them the calls of these libraries."""
    tracing.set_up("shop-worker")
    SQLite3Instrumentor().instrument()
    HTTPXClientInstrumentor().instrument()


@worker_process_shutdown.connect
def end_tracing(**_: Any) -> None:
    """Sends the last spans."""
    trace.get_tracer_provider().shutdown()
