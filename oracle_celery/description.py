"""What a message says about its task, and an exception about itself: the descriptive fields of a `Transition`.

Guarantee: bounded, storable, without the secrets that can be known by their names, and without running code of the
values, as `payload` has it. Nothing is raised: what cannot be described is told without its description.
"""

from __future__ import annotations

import contextlib
from typing import Any

from oracle_celery import message
from oracle_celery.correlations import HEADER, correlation_of
from oracle_celery.payload import cut_text, encode_arguments, error_message, identifier, type_name
from oracle_celery.redaction import Redaction
from oracle_celery.trace_context import trace_of_message

__all__ = ["describe_error", "describe_message", "describe_rejection", "describe_retry"]


def describe_message(headers: Any, args: Any, kwargs: Any, limit: int, redaction: Redaction) -> dict[str, Any]:
    """All but name, owner and queue, whichever run it is; `limit` is that of the arguments, in bytes."""
    try:
        described = _of_headers(headers)
    except Exception:  # noqa: BLE001  # a moment that no calendar has, and whatever else: it costs itself, not the fact
        described = _of_each_header(headers)
    described["arguments"] = encode_arguments(args, kwargs, limit, redaction)
    return described


def _of_headers(headers: Any) -> dict[str, Any]:
    parent_id = identifier(headers.get("parent_id"))
    if parent_id == identifier(headers.get("id")):
        parent_id = None  # a task that retries itself sends the message again, and Celery names the sender the parent
    return {
        **trace_of_message(headers),
        "correlation_id": correlation_of(headers),
        "eta": message.seconds_since_epoch(headers.get("eta")),
        "expires": message.seconds_since_epoch(headers.get("expires")),
        "root_id": identifier(headers.get("root_id")),
        "parent_id": parent_id,
        "group_id": identifier(headers.get("group")),
    }


def _of_each_header(headers: Any) -> dict[str, Any]:
    """The same where one of them cannot be read."""
    described: dict[str, Any] = {}
    for name in (HEADER, "baggage", "traceparent", "eta", "expires", "root_id", "parent_id", "group"):
        with contextlib.suppress(Exception):
            found = _of_headers({"id": headers.get("id"), name: headers.get(name)})
            described |= {field: value for field, value in found.items() if value is not None}
    return described


def describe_error(exception: Any, einfo: Any, limit: int, redaction: Redaction) -> dict[str, Any]:
    """Type, words and traceback; `einfo` is Celery's, with the traceback as text. What cannot be read is left out: an
    end that was told without its words is an end."""
    fields: dict[str, Any] = {}
    traceback = _read(einfo, "traceback")
    traceback = traceback if type(traceback) is str else None
    if issubclass(type(exception), BaseException):  # its class, not what it says that it is
        with contextlib.suppress(Exception):
            fields["error_type"] = type_name(type(exception))
            fields["error_message"] = error_message(exception, traceback, limit, redaction)
    if traceback is not None:
        with contextlib.suppress(Exception):
            fields["traceback"] = cut_text(traceback, limit, redaction)
    return fields


def describe_rejection(rejection: Any, limit: int, redaction: Redaction) -> dict[str, Any]:
    """What Celery's `Reject` was given: an exception, or words."""
    cause = _read(rejection, "reason")
    is_error = issubclass(type(cause), BaseException)
    fields = describe_error(cause if is_error else rejection, None, limit, redaction)
    if type(cause) is str:
        fields["error_message"] = cut_text(cause, limit, redaction)
    return fields


def describe_retry(retry: Any, einfo: Any, limit: int, redaction: Redaction) -> dict[str, Any]:
    """What Celery's `Retry` was given: when, and the exception because of which."""
    fields: dict[str, Any] = {}
    with contextlib.suppress(Exception):
        fields["eta"] = message.seconds_since_epoch(_read(retry, "when"))
    exception = _read(retry, "exc")
    return fields if exception is None else fields | describe_error(exception, einfo, limit, redaction)


def _read(thing: Any, name: str) -> Any:
    """An attribute that Celery sets, of an object whose class may be the user's."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001
        return None
