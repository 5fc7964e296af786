"""The shop's customers: sends tasks for as long as it runs, in an order that a seed decides.

    python traffic.py [--seed 7] [--events 0] [--pace 1.0]

About two things happen a second, which makes five to ten tasks a second; now and then a newsletter or a night's
invoices go out all at once. ``--events`` stops after that many.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time

import shop
from celery import chain, chord, group

from oracle_celery import owner

CUSTOMERS = ("alice", "bob", "carol", "dmitri", "elif", "farah", "goran", "hana")
EVENTS_PER_SECOND = 2.0
PHOTO_WIDTHS = (320, 800, 1600)
REMINDER_DELAY_SECONDS = 8
REMINDERS_REVOKED = 0.5


class Traffic:
    """What happens in the shop, one event at a time."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.number = 0
        #: Reminders that may still be revoked, with the time when they will be sent.
        self.reminders: list[tuple[float, str]] = []
        self.events = {
            self.checkout: 45,
            self.upload_photo: 12,
            self.change_catalogue: 8,
            self.leave_cart: 10,
            self.return_to_cart: 6,
            self.clean_carts: 6,
            self.request_report: 3,
            self.send_newsletter: 1,
            self.close_the_day: 2,
        }

    def next_event(self) -> None:
        """Something happens to somebody."""
        self.number += 1
        (event,) = self.dice.choices(list(self.events), weights=list(self.events.values()))
        customer = self.dice.choice(CUSTOMERS)
        event(customer)

    def checkout(self, customer: str) -> None:
        amount = round(self.dice.uniform(5, 250), 2)
        with owner(customer):
            chain(
                shop.reserve_stock.s(self.number, self.dice.randint(1, 6)),
                shop.charge_card.s(amount),
                shop.send_receipt.s(f"{customer}@example.com"),
            ).apply_async()

    def upload_photo(self, customer: str) -> None:
        with owner(customer):
            chord([shop.resize.s(self.number, width) for width in PHOTO_WIDTHS], shop.publish_gallery.s()).apply_async()

    def change_catalogue(self, customer: str) -> None:
        with owner(customer):
            group(shop.reindex.s(self.dice.randint(1, 5000)) for _ in range(self.dice.randint(3, 8))).apply_async()

    def leave_cart(self, customer: str) -> None:
        with owner(customer):
            address = f"{customer}@example.com"
            sent = shop.send_reminder.apply_async((self.number, address), countdown=REMINDER_DELAY_SECONDS)
        self.reminders.append((time.monotonic() + REMINDER_DELAY_SECONDS, sent.id))

    def return_to_cart(self, customer: str) -> None:
        now = time.monotonic()
        waiting = [task_id for due, task_id in self.reminders if due > now + 1]
        self.reminders = [(due, task_id) for due, task_id in self.reminders if due > now and task_id not in waiting[:1]]
        if waiting and self.dice.random() < REMINDERS_REVOKED:
            shop.app.control.revoke(waiting[0])

    def clean_carts(self, customer: str) -> None:
        shop.expire_stale.apply_async((self.number, 30), expires=60)

    def request_report(self, customer: str) -> None:
        month = f"2026-{self.dice.randint(1, 12):02}"
        with owner(customer):
            shop.build_monthly.delay(month, self.dice.randint(3, 8))

    def send_newsletter(self, customer: str) -> None:
        with owner("marketing"):
            for reader in range(30):
                shop.send_newsletter.delay(self.number, f"reader{reader}@example.com")

    def close_the_day(self, customer: str) -> None:
        with owner("accounting"):
            for line in range(10):
                shop.sync_invoice.delay(f"INV-{self.number}-{line}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--events", type=int, default=0, help="stop after so many; 0 never stops")
    arguments.add_argument("--pace", type=float, default=1.0, help="2 is twice as fast")
    options = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # what has been sent is still flushed at exit
    traffic = Traffic(options.seed)
    try:
        while options.events == 0 or traffic.number < options.events:
            traffic.next_event()
            time.sleep(traffic.dice.expovariate(EVENTS_PER_SECOND * options.pace))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
