"""The Celery app. All its settings are Django's, with the prefix CELERY_, Oracle's too: see settings.py."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def instrument_libraries(**_: Any) -> None:
    """In each child of the pool: from here on their calls are spans, inside that of the running task."""
    SQLite3Instrumentor().instrument()
    HTTPXClientInstrumentor().instrument()
