"""What a task message says, read from its headers: both of Celery's protocols, queue, times."""

from __future__ import annotations

import datetime
import re
import time
from typing import Any, NamedTuple

from oracle_celery.payload import identifier

__all__ = ["DELAYED_PREFIX", "Sent", "queue_name", "seconds_since_epoch", "sent", "was_delayed"]

#: kombu's exchange for messages that RabbitMQ itself delays, behind a prefix where one is set; the real routing key
#: follows 28 binary digits.
DELAYED_EXCHANGE = "celery_delayed_delivery"
DELAYED_PREFIX = re.compile(r"^(?:[01]\.){28}")
#: Seconds since the epoch of the first and the last moment that Oracle tells, 0001-01-02 and 9999-12-31: they are of
#: Python's years in every time zone. PostgreSQL has more years, which nobody who reads them in Python could read.
FIRST_MOMENT = -62_135_510_400.0
LAST_MOMENT = 253_402_214_400.0


class Sent(NamedTuple):
    """A message as its sender sees it."""

    headers: dict[str, Any]
    args: Any
    kwargs: Any


def sent(headers: dict[str, Any] | None, body: Any) -> Sent | None:
    """Protocol 2 has the task in the headers, protocol 1 in the body; None where it is no task's message."""
    if headers and "task" in headers:
        args, kwargs = (body[0], body[1]) if isinstance(body, (tuple, list)) and len(body) > 1 else (None, None)
        return Sent(headers, args, kwargs)
    if isinstance(body, dict) and "task" in body:
        return Sent({**body, **(headers or {})}, body.get("args"), body.get("kwargs"))
    return None


def queue_name(app: Any, exchange: Any, routing_key: Any) -> str | None:
    """The queue that a message with this exchange and routing key goes to, as far as the app's own queues tell."""
    if not exchange:  # the usual one, and asked for with every fact
        return identifier(routing_key)
    if was_delayed(exchange) and type(routing_key) is str:
        return identifier(DELAYED_PREFIX.sub("", routing_key))
    exchange = getattr(exchange, "name", exchange)
    queues = app.amqp.queues.items()
    for name, queue in queues:
        if queue.routing_key == routing_key and (queue.exchange is None or queue.exchange.name == exchange):
            return identifier(name)
    for name, queue in queues:
        if any(_leads(binding, exchange, routing_key) for binding in (queue, *(queue.bindings or ()))):
            return identifier(name)
    return identifier(routing_key)


def _leads(binding: Any, exchange: Any, routing_key: Any) -> bool:
    """Whether a queue, or one more binding of it, gets what is sent so."""
    if binding.exchange is None or binding.exchange.name != exchange:
        return False
    if binding.routing_key == routing_key:
        return True
    if binding.exchange.type != "topic" or type(routing_key) is not str:
        return False
    return _fits(str(binding.routing_key or "").split("."), routing_key.split("."))


def _fits(pattern: list[str], words: list[str]) -> bool:
    """AMQP's patterns: ``*`` is one word, ``#`` any number of them."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_fits(pattern[1:], words[start:]) for start in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _fits(pattern[1:], words[1:])


def was_delayed(exchange: Any) -> bool:
    """A message from this exchange says where its delay ended, not where its sender sent it."""
    return type(exchange) is str and exchange.endswith(DELAYED_EXCHANGE)


def seconds_since_epoch(moment: Any) -> float | None:
    """An ISO 8601 text, a datetime (naive means UTC, as Celery's messages are) or seconds from now. What is before the
    first moment or after the last is that one: whoever says `datetime.max` means "never"."""
    if moment is None:
        return None
    if type(moment) in (int, float):
        return _told(time.time() + max(-LAST_MOMENT, min(LAST_MOMENT, moment)))
    if type(moment) is str:
        try:
            moment = datetime.datetime.fromisoformat(moment)
        except ValueError:
            return None
    if not isinstance(moment, datetime.datetime):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return _told(float(moment.timestamp()))


def _told(seconds: float) -> float:
    return max(FIRST_MOMENT, min(LAST_MOMENT, seconds))
