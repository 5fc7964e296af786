"""What ties tasks to the request that caused them: a correlation id, set by the web side, carried by messages.

    with oracle_celery.correlation(request.headers.get("X-Request-ID")):
        send_mail.delay(...)

Guarantee: a task that another task sends (chain, group, chord, link, errback, retry, replacement, or an ordinary call)
has the correlation id of its sender, unless an enclosing block or the message's own header names another one. Whatever
is given is made fit: printable, and at most `CORRELATION_LIMIT` characters. Needs no OpenTelemetry; where there is one,
an entry ``correlation_id`` or ``correlation.id`` in the message's W3C ``baggage`` counts, if nothing else names one.

What will bite: it is anybody's word and proves nothing. It finds tasks; it never opens those of others.
"""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

from celery import _state

__all__ = [
    "CORRELATION_LIMIT",
    "HEADER",
    "Correlations",
    "correlation",
    "correlation_id",
    "correlation_of",
    "forget_correlation",
    "set_correlation_id",
]

#: The message header.
HEADER = "oracle_correlation_id"
#: Characters.
CORRELATION_LIMIT = 200
#: Bits of a number that is one.
INTEGER_BIT_LIMIT = 512
#: Entries of W3C baggage, https://www.w3.org/TR/baggage/, and the characters of it that are looked at.
BAGGAGE_KEYS = ("correlation_id", "correlation.id")
BAGGAGE_LIMIT = 8_192

_correlation: ContextVar[str | None] = ContextVar("oracle_correlation", default=None)


@contextmanager
def correlation(value: object) -> Iterator[str | None]:
    """Tasks sent inside this block have that correlation id; it is given as it will be stored. None: no block."""
    fit = _fit(value)
    token = _correlation.set(_correlation.get() if fit is None else fit)
    try:
        yield fit
    finally:
        _correlation.reset(token)


def set_correlation_id(value: object) -> str | None:
    """For middleware that cannot enclose: what is sent from here on in this context; None ends it. Returns it as it
    will be stored."""
    fit = _fit(value)
    _correlation.set(fit)
    return fit


def correlation_id() -> str | None:
    """That of the enclosing block, else of the running task."""
    return _correlation.get() or _of_running_task()


def correlation_of(headers: Mapping[str, Any]) -> str | None:
    """What a message's headers say."""
    named = headers.get(HEADER)
    if named is not None:
        return _fit(named)
    baggage = headers.get("baggage")
    return None if baggage is None else _in_baggage(baggage)


def forget_correlation() -> None:
    """A worker's thread begins a task: what the one before has set is not its."""
    if _correlation.get() is not None:
        _correlation.set(None)


class Correlations:
    """Of one app's messages."""

    def __init__(self) -> None:
        #: What was received here, while it lasts: of a child that was killed the main process sends the errbacks, with
        #: no task running.
        self._received: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()

    def receive(self, request: Any) -> None:
        """Remembers a received message; `request` is a `celery.worker.request.Request`."""
        if HEADER in request.request_dict or "baggage" in request.request_dict:
            self._received[request.id] = request

    def stamp(self, headers: dict[str, Any]) -> None:
        """Writes the correlation id on a message about to be sent."""
        if headers.get(HEADER) is not None:
            return
        found = correlation_id()
        if found is None:
            parent = self._received.get(headers.get("parent_id"))
            found = None if parent is None else correlation_of(parent.request_dict)
        if found is not None:
            headers[HEADER] = found

    def stamp_eager(self, fields: dict[str, Any]) -> None:
        """The same on a run that no message has brought: it runs in place, and may send others."""
        given = fields.get("headers")
        if isinstance(given, dict) and given.get(HEADER) is not None:
            fields.setdefault(HEADER, given[HEADER])
        self.stamp(fields)


def _of_running_task() -> str | None:
    """The innermost run here that has one; one that runs eagerly, inside another, may have none."""
    stack: list[Any] = getattr(_state._task_stack, "stack", None) or []  # noqa: SLF001
    for task in reversed(stack):
        request = task.request
        found = None if request is None else correlation_of(request.__dict__)
        if found is not None:
            return found
    return None


def _in_baggage(baggage: Any) -> str | None:
    if type(baggage) is not str:
        return None
    for entry in baggage[:BAGGAGE_LIMIT].split(","):
        key, equals, value = entry.partition(";")[0].partition("=")
        if equals and key.strip() in BAGGAGE_KEYS:
            return _fit(unquote(value.strip(), errors="replace"))
    return None


def _fit(value: Any) -> str | None:
    """None for what says nothing, and for foreign objects: no code of theirs is run."""
    if type(value) is uuid.UUID or (type(value) is int and value.bit_length() < INTEGER_BIT_LIMIT):
        value = str(value)
    elif isinstance(value, str):
        value = str.__str__(value)[: 4 * CORRELATION_LIMIT]
    else:
        return None
    if not value.isprintable():
        value = "".join(character for character in value if character.isprintable())
    return value.strip()[:CORRELATION_LIMIT] or None
