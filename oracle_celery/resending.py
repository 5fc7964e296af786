"""Sending a kept message again, so that it is known whether the broker has it.

Guarantee: when `Resender.resend` returns, the broker has taken the message and, on RabbitMQ, a queue has it. It raises
`PublishFailed` only where nothing was sent for certain, and `PublishUnknown` where that cannot be told. It never sends
twice by itself, and waits for bounded times only.

What will bite: this goes past ``app.send_task`` on purpose. A retry is no new call: routing, default options and the
signals of publishing, Oracle's own among them, have had their say when the task was sent first. And a transport whose
exchanges exist only in its clients (Redis) must be told an exchange's type before it can route.
"""

from __future__ import annotations

import contextlib
from typing import Any, Self

import msgspec
from amqp.exceptions import MessageNacked
from kombu import compression
from kombu.messaging import Producer

from oracle_celery.database.control_facts import RetryChanges
from oracle_celery.errors import BrokerUnavailable, PublishFailed, PublishUnknown
from oracle_celery.kept_message import Envelope, decode_envelope
from oracle_celery.owner_signature import Signatures
from oracle_celery.retried_message import retried_message
from oracle_celery.settings import Settings
from oracle_celery.trace_context import trace_of_message

__all__ = ["Resender", "resend"]

#: Seconds in which a broker must have taken a connection.
CONNECT_TIMEOUT = 3
#: Seconds in which it must have answered to a message.
CONFIRM_TIMEOUT = 5

#: By the kind of transport: what makes publishing an exchange of question and answer, once, in bounded time.
TRANSPORT_OPTIONS: dict[str, dict[str, Any]] = {
    "amqp": {"confirm_publish": True},
    "redis": {
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_timeout": CONFIRM_TIMEOUT,
        "retry_on_timeout": False,
    },
}


def resend(
    app: Any, settings: Settings, envelope: bytes, key_id: str | None, new_id: str, changes: RetryChanges | None = None
) -> None:
    """One message; see `Resender.resend`."""
    with Resender(app, settings) as resender:
        resender.resend(envelope, key_id, new_id, changes)


class Resender:
    """One connection for any number of messages; made when it is needed, and again after an error. One thread."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self._connection: Any = None
        self._channel: Any = None
        self._returned: list[Exception] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception), _bounded(connection, CONFIRM_TIMEOUT):
                connection.release()

    def resend(
        self, envelope: bytes, key_id: str | None, new_id: str, changes: RetryChanges | None = None
    ) -> dict[str, str]:
        """Returns which trace the message is of, as fields of a `records.Transition`. Raises NotAllowed where this
        message cannot be sent from here, PublishFailed or PublishUnknown."""
        kept = decode_envelope(envelope, key_id, self.settings)
        message = retried_message(kept, self.app, new_id, changes, Signatures(self.settings))
        oracle = getattr(self.app, "oracle", None)
        if oracle is not None:
            headers = oracle.instrumentation.resent(dict(message.headers), new_id)
            message = msgspec.structs.replace(message, headers=headers)
        self.connect()
        self._require_route(message)
        self._publish(message, _compression(kept))
        return trace_of_message(message.headers)

    def connect(self) -> None:
        """Connects unless connected. Raises BrokerUnavailable."""
        if self._connection is not None and _is_alive(self._connection):
            return
        self._drop()
        try:
            self._connection = self._open_connection()
            with _bounded(self._connection, CONNECT_TIMEOUT):
                self._channel = self._connection.channel()
        except Exception as error:
            self._drop()
            raise BrokerUnavailable(detail=_words(error)) from error
        if _is_amqp(self._connection):
            self._channel.events["basic_return"].add(lambda error, *_: self._returned.append(error))

    def _open_connection(self) -> Any:
        connection = self.app.connection_for_write(connect_timeout=CONNECT_TIMEOUT, heartbeat=0)
        connection.transport_options.update(TRANSPORT_OPTIONS.get(connection.transport.driver_type, {}))
        other_brokers = len(connection.alt) - 1 if connection.alt else 0
        return connection.ensure_connection(
            max_retries=max(0, other_brokers), interval_start=0, interval_step=0, timeout=CONNECT_TIMEOUT
        )

    def _require_route(self, message: Envelope) -> None:
        """A broker of kombu's own drops a message with no way to a queue, in silence; RabbitMQ returns it."""
        channel, exchange = self._channel, message.exchange
        if not exchange or not hasattr(channel, "typeof"):
            return
        try:
            for queue in self.app.amqp.queues.values():
                if queue.exchange and queue.exchange.name == exchange:
                    queue.exchange(channel).declare()
                    break
            kind = channel.typeof(exchange)
            found = kind.type == "fanout" or kind.lookup(
                channel.get_table(exchange), exchange, message.routing_key, channel.deadletter_queue
            )
        except Exception as error:
            self._drop()
            raise BrokerUnavailable(detail=_words(error)) from error
        if not found:
            raise PublishFailed(detail=_no_route(message))

    def _publish(self, message: Envelope, method: str | None) -> None:
        self._returned.clear()
        connection = self._connection
        try:
            with _bounded(connection, CONFIRM_TIMEOUT):
                Producer(self._channel, auto_declare=False).publish(
                    message.body,
                    content_type=message.content_type,
                    content_encoding=message.content_encoding,
                    compression=method,
                    headers=dict(message.headers),
                    exchange=message.exchange,
                    routing_key=message.routing_key,
                    mandatory=_is_amqp(connection),
                    timeout=CONFIRM_TIMEOUT,
                    confirm_timeout=CONFIRM_TIMEOUT,
                    **{"priority": None} | message.properties,  # kombu's default is 0: a message with a priority
                )
        except Exception as error:
            self._drop()
            if isinstance(error, _refusals(connection)):
                raise PublishFailed(detail=f"{_words(error)}, sending to {_place(message)}") from error
            raise PublishUnknown(detail=_words(error)) from error
        if self._returned:
            raise PublishFailed(detail=_no_route(message)) from self._returned[0]

    def _drop(self) -> None:
        """Without a goodbye: nobody may be there to answer it, and a late answer must not be taken for another's."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect(CONFIRM_TIMEOUT)


def _compression(kept: Envelope) -> str | None:
    """As its sender compressed it; not at all where this Python cannot."""
    method = kept.headers.get("compression")
    return method if method in compression.encoders() else None


def _refusals(connection: Any) -> tuple[type[Exception], ...]:
    """Errors that mean that the broker has said no, or that Python has before anything was written."""
    refusals: tuple[type[Exception], ...] = (MessageNacked, *connection.channel_errors)
    return refusals if _is_amqp(connection) else (TypeError, UnicodeError, *refusals)  # the others write JSON first


def _is_amqp(connection: Any) -> bool:
    return bool(connection.transport.driver_type == "amqp")


def _is_alive(connection: Any) -> bool:
    """Reads what the broker has said since: that it closes the connection, for example."""
    if not _is_amqp(connection):
        return bool(connection.connected)
    try:
        connection.drain_events(timeout=0)
    except TimeoutError:  # nothing
        return bool(connection.connected)
    except Exception:  # noqa: BLE001  # whatever it is, a new connection has not got it
        return False
    return bool(connection.connected)


def _bounded(connection: Any, seconds: float) -> contextlib.AbstractContextManager[Any]:
    """AMQP's client waits for ever for most answers; other transports have their own limits."""
    if _is_amqp(connection) and connection.connected:
        bounded: contextlib.AbstractContextManager[Any] = connection.connection.transport.having_timeout(seconds)
        return bounded
    return contextlib.nullcontext()


def _no_route(message: Envelope) -> str:
    return f"there is no {_place(message)} any more"


def _place(message: Envelope) -> str:
    if not message.exchange:
        return f"queue {message.routing_key!r}"
    return f"queue behind exchange {message.exchange!r} for routing key {message.routing_key!r}"


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
