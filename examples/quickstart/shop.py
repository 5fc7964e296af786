"""A shop's background work: a Celery app of believable tasks, watched by Oracle.

Two environment variables move it from this machine's files to real servers: ``SHOP_BROKER_URL`` (say
``amqp://guest:guest@localhost//``) and ``SHOP_DATABASE_URL`` (``postgresql://...``). ``SHOP_FOLDER`` is where it keeps
its files. What a task does is decided by its arguments, so the same traffic always ends the same way.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.schedules import crontab
from celery.utils.log import get_task_logger

from oracle_celery import Oracle, embedded_broker, progress

folder = Path(os.environ.get("SHOP_FOLDER") or Path(tempfile.gettempdir()) / f"oracle-shop-{os.getuid()}")
results = folder / "results"
results.mkdir(mode=0o700, parents=True, exist_ok=True)

app = Celery("shop", broker=os.environ.get("SHOP_BROKER_URL") or embedded_broker.address(folder / "broker"))
app.conf.update(
    task_default_queue="default",
    task_routes={f"{queue}.*": {"queue": queue} for queue in ("orders", "emails", "images", "reports")},
    task_ignore_result=True,
    result_backend=f"file://{results}",  # chords need the results of their parts
    broker_connection_retry_on_startup=True,
    beat_schedule={
        "carts: expire stale ones": {"task": "carts.expire_stale", "schedule": 20.0, "args": (0, 30)},
        "reports: build the month": {
            "task": "reports.build_monthly",
            "schedule": crontab(minute="*/2"),
            "args": ("2026-01", 5),
        },
        "search: reindex the bestseller": {"task": "search.reindex", "schedule": crontab(minute=20), "args": (1,)},
    },
    worker_pool_putlocks=False,  # the file broker has no event loop: a busy pool must not keep commands waiting
    oracle_url=os.environ.get("SHOP_DATABASE_URL") or None,
    oracle_state_dir=os.environ.get("SHOP_FOLDER") or None,
)
Oracle(app)

log = get_task_logger(__name__)


class CardDeclined(Exception):
    """The bank says no: nothing to try again."""


class GatewayTimeout(Exception):
    """The bank says nothing: try again."""


class MailboxBusy(Exception):
    """The mail server is busy: try again."""


@app.task(name="orders.reserve_stock")
def reserve_stock(order: int, items: int) -> dict[str, Any]:
    """Fast and safe."""
    _work(0.02, 0.08, order)
    log.info("Reserved %d items for order %d", items, order)
    return {"order": order, "items": items}


@app.task(name="orders.charge_card", bind=True, max_retries=3)
def charge_card(self: Task, reserved: dict[str, Any], amount: float) -> dict[str, Any]:
    """Sometimes the gateway does not answer; sometimes the card is no good."""
    order = reserved["order"]
    dice = _dice(order, self.request.retries)
    log.info("Charging %.2f EUR for order %d, try %d", amount, order, self.request.retries + 1)
    _work(0.1, 0.4, order)
    if dice < 0.08:
        log.warning("The payment gateway did not answer in time")
        raise self.retry(exc=GatewayTimeout(f"no answer for order {order}"), countdown=2 + self.request.retries)
    if dice > 0.94:
        raise CardDeclined(f"card of order {order} was declined: insufficient funds")
    return {"order": order, "charged": amount}


@app.task(name="emails.send_receipt", bind=True, autoretry_for=(MailboxBusy,), retry_backoff=2, max_retries=4)
def send_receipt(self: Task, charged: dict[str, Any], address: str) -> str:
    """The last link of a checkout."""
    order = charged["order"]
    _work(0.03, 0.12, order)
    if _dice("receipt", order, self.request.retries) < 0.06:
        raise MailboxBusy(f"451 try again later: {address}")
    log.info("Receipt for order %d sent to %s", order, address)
    return f"sent to {address}"


@app.task(name="emails.send_newsletter")
def send_newsletter(edition: int, address: str) -> None:
    """One of many, all at once."""
    _work(0.02, 0.1, address, edition)
    if _dice("newsletter", edition, address) < 0.02:
        raise ConnectionResetError("mail server closed the connection")


@app.task(name="emails.send_reminder")
def send_reminder(cart: int, address: str) -> None:
    """Sent with a delay, and often revoked before its time: the customer came back."""
    log.info("Reminding %s of cart %d", address, cart)
    _work(0.02, 0.1, cart)


@app.task(name="images.resize", ignore_result=False)
def resize(photo: int, width: int) -> dict[str, int]:
    """Part of a chord: three widths of one photo."""
    log.info("Resizing photo %d to %d px", photo, width)
    _work(0.15, 0.6, photo, width)
    if _dice("broken", photo) < 0.05 and width == 1600:
        raise ValueError(f"photo {photo} is truncated after 8192 bytes")
    return {"photo": photo, "width": width}


@app.task(name="images.publish_gallery")
def publish_gallery(sizes: list[dict[str, int]]) -> str:
    """The chord's body: it never runs where a photo was broken."""
    _work(0.02, 0.05, len(sizes))
    return f"photo {sizes[0]['photo']} in {len(sizes)} sizes"


@app.task(name="search.reindex")
def reindex(product: int) -> None:
    """Many in a group."""
    _work(0.03, 0.15, product)


@app.task(name="carts.expire_stale")
def expire_stale(round_number: int, older_than_minutes: int) -> int:
    """Housekeeping without a user."""
    _work(0.05, 0.1, round_number)
    stale = int(_dice("stale", round_number) * 20)
    log.info("Expired %d carts older than %d minutes", stale, older_than_minutes)
    return stale


@app.task(name="billing.sync_invoice", bind=True, max_retries=2)
def sync_invoice(self: Task, invoice: str) -> None:
    """An accounting service of the old school."""
    _work(0.05, 0.3, invoice)
    if _dice("invoice", invoice, self.request.retries) < 0.15:
        raise self.retry(exc=GatewayTimeout(f"accounting did not take {invoice}"), countdown=3)


@app.task(name="reports.build_monthly", soft_time_limit=20, time_limit=25)
def build_monthly(month: str, pages: int) -> str:
    """Slow, with a log line a page, and how far it is."""
    for page in range(1, pages + 1):
        _work(0.5, 1.0, month, page)
        log.info("Report %s: page %d of %d", month, page, pages)
        progress(page, pages)
    return f"report-{month}.pdf, {pages} pages"


def _dice(*what: object) -> float:
    """From 0 to 1, always the same for the same task."""
    return random.Random(repr(what)).random()


def _work(shortest: float, longest: float, *what: object) -> None:
    """Takes some time, in seconds."""
    time.sleep(shortest + (longest - shortest) * _dice("work", *what))
