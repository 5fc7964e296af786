"""A query, a span of its own, and inside that a call of another service."""

from typing import Any

import httpx
from celery import shared_task
from django.conf import settings
from opentelemetry import trace

from orders.models import Order

FEE_PER_MILLE = 29
LEDGER_TIMEOUT = 5.0  # seconds

tracer = trace.get_tracer(__name__)


@shared_task(name="orders.settle")
def settle(order_id: int) -> dict[str, Any]:
    """Books the fee of an order."""
    order = Order.objects.get(pk=order_id)
    with tracer.start_as_current_span("orders.book_fee") as span:
        order.fee_cents = order.cents * FEE_PER_MILLE // 1000
        span.set_attribute("order.fee_cents", order.fee_cents)
        entry = {"order": order.pk, "fee_cents": order.fee_cents}
        httpx.post(f"{settings.LEDGER_URL}/entries", json=entry, timeout=LEDGER_TIMEOUT).raise_for_status()
    order.save(update_fields=["fee_cents"])
    return entry
