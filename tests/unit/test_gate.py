"""Each message says from which queue it was taken, whatever its transport makes of it on the way."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import amqp
from celery import Celery
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.transport import pyamqp

from oracle_celery.gate import _tagging, queue_of, tag_messages


def taken_from(message: Any) -> str | None:
    app = Celery("shop", set_as_current=False)
    app.conf.task_queues = [Queue("orders", Exchange("shop", type="topic"), "orders")]
    return queue_of(SimpleNamespace(app=app, message=message))


def test_amqp() -> None:
    """Kombu makes a message of its own of what came, which knows the exchange and the routing key alone."""
    taken: list[Any] = []

    def consume(_: str, callback: Callable[[Any], Any]) -> None:
        raw = amqp.Message("{}")
        raw.delivery_info = {"consumer_tag": "1", "delivery_tag": 1, "exchange": "shop", "routing_key": "orders"}
        callback(raw)

    _tagging(consume, "audit")("1", lambda raw: taken.append(pyamqp.Message(raw)))
    assert taken_from(taken[0]) == "audit"


def test_other_transports() -> None:
    """What they would give back to the broker stays as it was."""
    taken: list[Any] = []
    with Connection("memory://test-gate") as connection:
        audit = Queue("audit", Exchange("shop", type="topic"), "#")
        consumer = Consumer(connection, [audit], on_message=taken.append, accept=["json"])
        tag_messages(consumer)
        consumer.consume()
        Producer(connection).publish({}, exchange=audit.exchange, routing_key="orders")
        connection.drain_events(timeout=10)
    assert taken_from(taken[0]) == "audit"
    assert taken[0].delivery_info == {"exchange": "shop", "routing_key": "orders"}
