"""The Celery app and its task: a query, a span of its own, and inside that a call of another service."""

from __future__ import annotations

from typing import Any

import httpx
import psycopg
from celery import Celery
from celery.signals import worker_process_init
from configuration import BROKER_URL, DASHBOARD_URL, DATABASE_URL, JWT_KEY, LEDGER_URL, OWNER_KEY, TRACE_URL
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

from oracle_celery import Oracle

FEE_PER_MILLE = 29
LEDGER_TIMEOUT = 5.0  # seconds

app = Celery("webhook", broker=BROKER_URL)
app.conf.update(
    task_default_queue="webhook",
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    oracle_url=DATABASE_URL,
    oracle_jwt_key=JWT_KEY,
    oracle_owner_key=OWNER_KEY,
    oracle_tracing=True,  # the spans of producers and workers
    oracle_trace_url=TRACE_URL,  # from a task to its trace
    oracle_public_url=DASHBOARD_URL,  # and back: each run's span has the address of its task's page
)
Oracle(app)

tracer = trace.get_tracer(__name__)


@worker_process_init.connect
def instrument_libraries(**_: Any) -> None:
    """In each child of the pool: from here on their calls are spans, inside that of the running task."""
    PsycopgInstrumentor().instrument()
    HTTPXClientInstrumentor().instrument()


@app.task(name="orders.settle")
def settle(order_id: int) -> dict[str, Any]:
    """Books the fee of an order that was paid for."""
    with psycopg.connect(DATABASE_URL) as connection:
        found = connection.execute("SELECT cents FROM orders WHERE order_id = %s", (order_id,)).fetchone()
    if found is None:
        raise LookupError(f"there is no order {order_id}")
    with tracer.start_as_current_span("orders.book_fee") as span:
        fee = found[0] * FEE_PER_MILLE // 1000
        span.set_attribute("order.fee_cents", fee)
        entry = {"order": order_id, "fee_cents": fee}
        httpx.post(f"{LEDGER_URL}/entries", json=entry, timeout=LEDGER_TIMEOUT).raise_for_status()
    return {"order": order_id, "fee_cents": fee}
