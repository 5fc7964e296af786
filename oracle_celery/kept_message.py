"""The message of a task that failed or was cancelled, kept as a worker received it, so that it can be sent again.

Guarantee: `MessageKeeper.keep` never raises and runs nothing of the user's: the body stays the bytes that came from the
broker, and only what Celery has decoded already is looked at. What is too large, or opted out, leaves a record that
says so. With ``oracle_message_key`` an envelope is encrypted before it reaches the disk.

What will bite: Celery hands bodies over decompressed, so the header ``compression`` speaks of what was, and whoever
sends the message again compresses it again. A message that RabbitMQ delayed carries the exchange and routing key of the
delay; an envelope has those that its sender meant.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import hashlib
import time
from typing import TYPE_CHECKING, Any

import msgspec

from oracle_celery import message
from oracle_celery.errors import NotAllowed
from oracle_celery.payload import identifier
from oracle_celery.records import KeptMessage, encode_line
from oracle_celery.run import HIDDEN_TASKS
from oracle_celery.settings import Settings

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["OPTED_OUT", "TOO_LARGE", "UNREADABLE", "Envelope", "MessageKeeper", "decode_envelope", "encode_envelope"]

#: Why a task has no message.
TOO_LARGE = "too_large"
OPTED_OUT = "opted_out"
UNREADABLE = "unreadable"  # a header holds an object that came from no broker

#: A task class with this attribute set to False is opted out.
OPT_OUT_ATTRIBUTE = "oracle_store_message"
#: Attribute of a worker's request whose message is kept.
KEPT = "oracle_kept"

#: What a message's properties say of how it travels; the others name the message itself, its time, or its delivery.
KEPT_PROPERTIES = frozenset({"priority", "delivery_mode", "reply_to", "type", "app_id", "MessageGroupId"})

#: Levels of nesting of a header.
HEADER_DEPTH_LIMIT = 32
#: Hex digits of a key's fingerprint.
KEY_ID_LENGTH = 16


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message, and where its sender sent it."""

    body: bytes  # not compressed
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    exchange: str = ""
    routing_key: str = ""
    queue: str | None = None  # where a worker took it from


class MessageKeeper:
    """Journals the messages of one worker's tasks; in its main process, where Celery has them."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle

    def keep(self, request: Any, queue: str | None = None) -> None:
        """Keeps the message of a `celery.worker.request.Request`, once a run. `queue`: where it came from."""
        try:
            if self.oracle.is_recording and not getattr(request, KEPT, False):
                setattr(request, KEPT, True)
                self._keep(request, queue)
        except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
            self.oracle.guest.count_failure()

    def _keep(self, request: Any, queue: str | None) -> None:
        task_id = identifier(request.id)
        if task_id is None or request.task.name in HIDDEN_TASKS:
            return
        missing, data, key_id = self._pack(request, queue)
        record = KeptMessage(
            task_id=task_id,
            at=time.monotonic_ns(),
            is_chord_member=_is_chord_member(request),
            missing=missing,
            key_id=key_id,
            envelope=data,
        )
        self.oracle.message_journal.append(encode_line(record))

    def _pack(self, request: Any, queue: str | None) -> tuple[str | None, bytes | None, str | None]:
        """(why there is no envelope, envelope, id of the key that encrypts it)."""
        settings = self.oracle.settings
        if not settings.store_message or getattr(request.task, OPT_OUT_ATTRIBUTE, True) is False:
            return OPTED_OUT, None, None
        body = request.message.body
        if body is not None and len(body) > settings.message_limit:
            return TOO_LARGE, None, None
        try:
            envelope = _envelope(self.oracle.app, request.message, queue)
            data, key_id = encode_envelope(envelope, settings)
        except (_NotPortable, UnicodeEncodeError):
            return UNREADABLE, None, None
        if len(data) > settings.message_limit:
            return TOO_LARGE, None, None
        return None, data, key_id


def encode_envelope(envelope: Envelope, settings: Settings) -> tuple[bytes, str | None]:
    """The envelope as bytes, encrypted by the newest key where there is one, and that key's id."""
    data = _encode(envelope)
    if not settings.message_key:
        return data, None
    newest = settings.message_key[0]
    # a token is base64 for the sake of URLs; as bytes it is a quarter smaller
    return base64.urlsafe_b64decode(_fernet(newest).encrypt(data)), _key_id(newest)


def decode_envelope(data: bytes, key_id: str | None, settings: Settings) -> Envelope:
    """Raises NotAllowed: "no_key" where it cannot be decrypted here, "unreadable" where it is damaged."""
    if key_id is not None:
        data = _decrypt(data, key_id, settings.message_key or ())
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _unreadable() from error


def _decrypt(data: bytes, key_id: str, keys: tuple[str, ...]) -> bytes:
    key = next((key for key in keys if _key_id(key) == key_id), None)
    if key is None:
        raise NotAllowed(
            code="no_key",
            status=None,
            explanation=f"The message of this task is encrypted by the key {key_id}, which is not in "
            "oracle_message_key here. Add that key to the end of the list.",
        )
    from cryptography.fernet import InvalidToken

    try:
        decrypted: bytes = _fernet(key).decrypt(base64.urlsafe_b64encode(data))
    except InvalidToken as error:
        raise _unreadable() from error
    return decrypted


def _unreadable() -> NotAllowed:
    return NotAllowed(
        code=UNREADABLE,
        status=None,
        explanation="The stored message of this task is damaged or was written by a newer Oracle. "
        "Send the task again from your application.",
    )


def _fernet(key: str) -> Any:
    from cryptography.fernet import Fernet  # only where a key is set: it takes a worker's memory and time to load

    return Fernet(key)


def _key_id(key: str) -> str:
    """A fingerprint: tells keys apart, and nothing of a random key."""
    return hashlib.sha256(base64.urlsafe_b64decode(key)).hexdigest()[:KEY_ID_LENGTH]


# -- what a worker has in its hands ----------------------------------------------------------------------------------


def _envelope(app: Any, received: Any, queue: str | None) -> Envelope:
    content_encoding = _text(received.content_encoding) or "utf-8"
    exchange, routing_key = _destination(app, received.delivery_info or {}, queue)
    properties = received.properties or {}
    return Envelope(
        body=_body(received.body, content_encoding),
        content_type=_text(received.content_type) or "application/data",  # as kombu takes it where nothing is said
        content_encoding=content_encoding,
        headers=_portable(received.headers or {}, 0),
        properties={name: _portable(properties[name], 0) for name in KEPT_PROPERTIES.intersection(properties)},
        exchange=exchange,
        routing_key=routing_key,
        queue=identifier(queue) or message.queue_name(app, exchange, routing_key),
    )


def _body(body: Any, content_encoding: str) -> bytes:
    """The bytes that were sent: AMQP's client has decoded them where it could."""
    if type(body) is str:
        return body.encode(content_encoding)
    return b"" if body is None else bytes(body)


def _destination(app: Any, delivery: dict[str, Any], queue: str | None) -> tuple[str, str]:
    """Exchange and routing key as the sender meant them."""
    exchange, routing_key = _text(delivery.get("exchange")), _text(delivery.get("routing_key"))
    if not message.was_delayed(exchange):
        return exchange, routing_key
    routing_key = message.DELAYED_PREFIX.sub("", routing_key)
    queues = app.amqp.queues
    own = queues.get(queue)  # an index would make a queue of that name
    for candidate in [own] if own is not None else list(queues.values()):
        if candidate.exchange and candidate.exchange.name and (own is not None or candidate.routing_key == routing_key):
            return candidate.exchange.name, routing_key
    return "", queue or routing_key


def _is_chord_member(request: Any) -> bool:
    """Its outcome, or that of a chain that goes on after it, is counted by a chord, under the id that it has."""
    try:
        embed = request._payload[2]  # noqa: SLF001  # what Celery has decoded; its property `chord` tells less
        if embed.get("chord"):
            return True
        return any(dict.get(dict.get(step, "options") or {}, "chord") for step in embed.get("chain") or ())
    except Exception:  # noqa: BLE001  # a body of any shape
        return False


def _text(value: Any) -> str:
    return value if type(value) is str else ""


# -- headers ---------------------------------------------------------------------------------------------------------


class _NotPortable(Exception):
    """No broker carries such a header."""


DATETIME, DECIMAL, INTEGER = range(3)  # MessagePack's application types for what JSON or AMQP hold and it does not


def _portable(value: Any, depth: int) -> Any:
    """Exactly the types that headers have behind a broker; nothing of another one is asked."""
    cls = type(value)
    if value is None or cls is str or cls is bool or cls is float or cls is bytes:
        return value
    if cls is int:
        return value if -(2**63) <= value < 2**64 else msgspec.msgpack.Ext(INTEGER, b"%x" % value)
    if depth < HEADER_DEPTH_LIMIT:
        if cls is list or cls is tuple:
            return [_portable(item, depth + 1) for item in value]
        if issubclass(cls, dict):
            return {_key(key): _portable(item, depth + 1) for key, item in dict.items(value)}
    if cls is datetime.datetime and (value.tzinfo is None or type(value.tzinfo) is datetime.timezone):
        return msgspec.msgpack.Ext(DATETIME, value.isoformat().encode())
    if cls is decimal.Decimal:
        return msgspec.msgpack.Ext(DECIMAL, str(value).encode())
    raise _NotPortable


def _key(key: Any) -> str:
    if type(key) is not str:
        raise _NotPortable
    return key


def _restored(code: int, data: memoryview) -> Any:
    text = bytes(data).decode()
    if code == DATETIME:
        return datetime.datetime.fromisoformat(text)
    return decimal.Decimal(text) if code == DECIMAL else int(text, 16)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Envelope, ext_hook=_restored).decode
