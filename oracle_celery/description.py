"""What a message says about its task, and an exception about itself: the descriptive fields of a `Transition`.

Guarantee: bounded, storable, without the secrets that can be known by their names, and without running code of the
values, as `payload` has it.
"""

from __future__ import annotations

from typing import Any

from oracle_celery import message
from oracle_celery.correlations import correlation_of
from oracle_celery.payload import cut_text, encode_arguments, error_message, identifier, type_name
from oracle_celery.redaction import Redaction
from oracle_celery.trace_context import trace_of_message

__all__ = ["describe_error", "describe_message", "describe_rejection"]


def describe_message(headers: Any, args: Any, kwargs: Any, limit: int, redaction: Redaction) -> dict[str, Any]:
    """All but name, owner and queue, whichever run it is; `limit` is that of the arguments, in bytes."""
    parent_id = identifier(headers.get("parent_id"))
    if parent_id == identifier(headers.get("id")):
        parent_id = None  # a task that retries itself sends the message again, and Celery names the sender the parent
    return {
        "arguments": encode_arguments(args, kwargs, limit, redaction),
        **trace_of_message(headers),
        "correlation_id": correlation_of(headers),
        "eta": message.seconds_since_epoch(headers.get("eta")),
        "expires": message.seconds_since_epoch(headers.get("expires")),
        "root_id": identifier(headers.get("root_id")),
        "parent_id": parent_id,
        "group_id": identifier(headers.get("group")),
    }


def describe_error(exception: Any, einfo: Any, limit: int, redaction: Redaction) -> dict[str, Any]:
    """Type, words and traceback; `einfo` is Celery's, with the traceback as text."""
    traceback = getattr(einfo, "traceback", None)
    traceback = traceback if type(traceback) is str else None
    fields = {"traceback": None if traceback is None else cut_text(traceback, limit, redaction)}
    if isinstance(exception, BaseException):
        fields["error_type"] = type_name(type(exception))
        fields["error_message"] = error_message(exception, traceback, limit, redaction)
    return fields


def describe_rejection(rejection: Any, limit: int, redaction: Redaction) -> dict[str, Any]:
    """What Celery's `Reject` was given: an exception, or words."""
    cause = getattr(rejection, "reason", None)
    fields = describe_error(cause if isinstance(cause, BaseException) else rejection, None, limit, redaction)
    if type(cause) is str:
        fields["error_message"] = cut_text(cause, limit, redaction)
    return fields
