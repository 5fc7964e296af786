"""The message of a retry: that of the old task under a new id, and, where somebody asks for it, with other arguments.

Guarantee: without changes the body stays what it is, byte for byte, whatever is in it. With changes it is taken apart
only where that runs no code: JSON, MessagePack and YAML. A pickle is never loaded. Callbacks, the rest of a chain and
the chord, which travel in the body, stay.

A signed owner is signed anew for the new id, if the old signature is right.

What will bite: `task_protocol = 1` has the task's id in the body, which must be taken apart even without changes.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from celery.utils.saferepr import saferepr
from kombu import serialization

from oracle_celery.database.control_facts import RetryChanges
from oracle_celery.errors import NotAllowed
from oracle_celery.kept_message import Envelope
from oracle_celery.owner_signature import Signatures
from oracle_celery.run import OF_A_RUN, RETRY_OF, SENT_BY_ORACLE

__all__ = ["retried_message"]

#: Serializers that make nothing but plain values, by their content type.
PLAIN_SERIALIZERS = {"application/json": "json", "application/x-msgpack": "msgpack", "application/x-yaml": "yaml"}

#: What speaks of the old message alone: of its run, of its delivery, of how its body was packed. RabbitMQ drops a
#: message whose x-death shows a circle.
NOT_SENT_AGAIN = OF_A_RUN | {SENT_BY_ORACLE, "compression", "x-death", "x-delivery-count", "x-acquired-count"}
NOT_SENT_AGAIN_PREFIXES = ("x-first-death-", "x-last-death-")

#: A retry starts at once, for the first time, and does not expire.
FRESH = {"retries": 0, "eta": None, "expires": None}


def retried_message(
    envelope: Envelope,
    app: Any,
    new_id: str,
    changes: RetryChanges | None = None,
    signatures: Signatures | None = None,
) -> Envelope:
    """Raises NotAllowed, with the code "cannot_change", where its body cannot be taken apart, and must be."""
    changes = changes or RetryChanges()
    headers = {
        name: value
        for name, value in envelope.headers.items()
        if name not in NOT_SENT_AGAIN and not name.startswith(NOT_SENT_AGAIN_PREFIXES)
    }
    has_task = "task" in headers  # protocol 2: all that must change is in the headers
    if has_task:
        headers |= FRESH | {"id": new_id, RETRY_OF: headers.get("id")}
        headers |= _descriptions(changes, app)
    body, old_id = envelope.body, envelope.headers.get("id")
    if not has_task or changes.args is not None or changes.kwargs is not None:
        plain = _taken_apart(envelope)
        if isinstance(plain, dict):
            old_id = plain.get("id")
            headers.setdefault(RETRY_OF, old_id)
            plain |= FRESH | {"id": new_id}
        body = _put_together(envelope, _changed(plain, changes))
    if signatures is not None:
        signatures.sign_anew(headers, old_id, new_id)
    exchange, routing_key, queue = envelope.exchange, envelope.routing_key, envelope.queue
    if changes.queue is not None:
        exchange, routing_key = _address(app, changes.queue)
        queue = changes.queue
    return msgspec.structs.replace(
        envelope,
        body=body,
        headers=headers,
        properties=envelope.properties | {"correlation_id": new_id},
        exchange=exchange,
        routing_key=routing_key,
        queue=queue,
    )


def _descriptions(changes: RetryChanges, app: Any) -> dict[str, str]:
    """What Celery shows of arguments, of those that are new."""
    described = {}
    if changes.args is not None:
        described["argsrepr"] = saferepr(changes.args, app.amqp.argsrepr_maxsize)
    if changes.kwargs is not None:
        described["kwargsrepr"] = saferepr(changes.kwargs, app.amqp.kwargsrepr_maxsize)
    return described


def _address(app: Any, queue: str) -> tuple[str, str]:
    """Exchange and routing key that lead to a queue, as Celery chooses them."""
    known = app.amqp.queues.get(queue)  # an index would make a queue of that name
    if known is None or not known.exchange or not known.exchange.name or known.exchange.type == "direct":
        return "", queue
    return known.exchange.name, known.routing_key


# -- bodies ----------------------------------------------------------------------------------------------------------


def _taken_apart(envelope: Envelope) -> Any:
    content_type, encoding = envelope.content_type, envelope.content_encoding
    if content_type not in PLAIN_SERIALIZERS:
        raise _cannot_change(f"Its arguments are written as {content_type}, which Oracle does not open")
    try:
        if content_type == "application/json":
            return json.loads(envelope.body)  # not kombu's: it would make objects of what must stay as it is
        return serialization.loads(envelope.body, content_type, encoding, accept={content_type})
    except Exception as error:
        raise _cannot_change("Its body cannot be read here") from error


def _changed(plain: Any, changes: RetryChanges) -> Any:
    if isinstance(plain, dict):  # protocol 1
        given = {"args": changes.args, "kwargs": changes.kwargs}
        return plain | {name: value for name, value in given.items() if value is not None}
    if not isinstance(plain, (list, tuple)) or len(plain) < 2:  # args, kwargs, embed
        raise _cannot_change("Its body has not the form of a task's")
    args, kwargs, *embed = plain
    return [
        args if changes.args is None else changes.args,
        kwargs if changes.kwargs is None else changes.kwargs,
        *embed,
    ]


def _put_together(envelope: Envelope, plain: Any) -> bytes:
    serializer = PLAIN_SERIALIZERS[envelope.content_type]
    try:
        _, encoding, written = serialization.dumps(plain, serializer=serializer)
    except Exception as error:
        raise _cannot_change(f"These arguments cannot be written as {serializer}") from error
    return written.encode(encoding) if isinstance(written, str) else bytes(written)


def _cannot_change(why: str) -> NotAllowed:
    return NotAllowed(
        code="cannot_change",
        status=None,
        explanation=f"{why}. Retry it without other arguments, or send it from your application.",
    )
