"""What the broker says of queues: how many messages are ready in each, and how many consumers it has.

Guarantee: never raises for a broker that is away, slow or refuses: the answers say what is wrong, and never a password.
One connection is kept between calls and made again when it is needed again; any thread may ask.

What bites: messages that a worker holds, running or prefetched or waiting for their eta, are not counted: the broker
counts what it could still hand out. Only AMQP brokers know their consumers. Redis and file brokers know no empty
queue, so theirs is empty and never missing.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from kombu.exceptions import ChannelError

from oracle_celery.database.fleet_facts import QueueFacts, QueueList
from oracle_celery.viewer import Viewer

__all__ = ["MISSING", "BrokerQueues", "Depth", "depths", "measured"]

CONNECT_TIMEOUT_SECONDS = 2.0
#: For one answer of a broker that is connected.
READ_TIMEOUT_SECONDS = 2.0
#: For all queues of one call.
CALL_TIMEOUT_SECONDS = 4.0
#: Characters of the broker's own words that are told.
ERROR_LIMIT = 200

#: The error of a queue that AMQP does not know.
MISSING = "does not exist"
NOT_FOUND = 404

#: What bounds the time of an answer, by driver. Other drivers have no such option, or refuse unknown ones.
_TIMEOUTS = {
    "py-amqp": {"read_timeout": READ_TIMEOUT_SECONDS, "write_timeout": READ_TIMEOUT_SECONDS},
    "redis": {"socket_connect_timeout": CONNECT_TIMEOUT_SECONDS, "socket_timeout": READ_TIMEOUT_SECONDS},
}


_USER_INFO = re.compile(r"://\S*@")


class Depth(msgspec.Struct, frozen=True, kw_only=True):
    """One queue, as its broker sees it."""

    messages: int | None = None  # ready to be handed out; None: not known
    consumers: int | None = None  # None: not known, or this kind of broker does not count them
    error: str | None = None  # why something is not known; MISSING stands with no messages


class BrokerQueues:
    """The broker of one app. One thread asks at a time, others wait for their turn."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._connection: Any = None
        self._channel: Any = None

    def depths(self, names: Iterable[str]) -> dict[str, Depth]:
        """One answer for each name. Blocks for a few seconds at most."""
        asked = list(dict.fromkeys(names))
        with self._lock:
            if self._connection is not None:
                try:
                    return self._ask(asked)
                except Exception:  # noqa: BLE001  # each transport raises its own
                    self._disconnect()  # closed while nobody asked, perhaps: that says nothing about the broker of now
            try:
                return self._ask(asked)
            except Exception as error:  # noqa: BLE001
                answer = Depth(error=_told(error))
                self._disconnect()
                return dict.fromkeys(asked, answer)

    def close(self) -> None:
        """May be called twice; a later call of `depths` connects again."""
        with self._lock:
            self._disconnect()

    def _ask(self, names: list[str]) -> dict[str, Depth]:
        deadline = time.monotonic() + CALL_TIMEOUT_SECONDS
        found: dict[str, Depth] = {}
        for name in names:
            if time.monotonic() > deadline:
                found[name] = Depth(error="was not asked for: the broker is slow")
            else:
                channel = self._open_channel()
                is_amqp = self._connection.transport.driver_type == "amqp"
                found[name] = self._declared(channel, name) if is_amqp else self._sized(channel, name)
        return found

    def _declared(self, channel: Any, name: str) -> Depth:
        try:
            declared = channel.queue_declare(queue=name, passive=True)
        except ChannelError as error:
            self._channel = None  # the broker closes the channel of whoever asks for what it cannot have
            if error.reply_code == NOT_FOUND:
                return Depth(messages=0, consumers=0, error=MISSING)
            return Depth(error=_told(error))
        return Depth(messages=declared.message_count, consumers=declared.consumer_count)

    def _sized(self, channel: Any, name: str) -> Depth:
        """Of queues that kombu makes itself. It has no public word for it that is right: a passive declare of a Redis
        queue forgets the key prefix. Priorities are kombu's own business here."""
        return Depth(messages=channel._size(name))  # noqa: SLF001

    def _open_channel(self) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        if self._channel is None:
            self._channel = self._connection.channel()
        return self._channel

    def _connect(self) -> Any:
        driver = self._app.connection_for_read().get_transport_cls().driver_name
        connection = self._app.connection_for_read(
            connect_timeout=CONNECT_TIMEOUT_SECONDS, heartbeat=0, transport_options=_TIMEOUTS.get(driver, {})
        )
        try:
            # every address once
            connection.ensure_connection(
                max_retries=max(0, len(connection.alt) - 1),
                interval_start=0,
                interval_step=0,
                timeout=CONNECT_TIMEOUT_SECONDS,
            )
        except BaseException:
            connection.release()
            raise
        return connection

    def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.release()  # swallows what a dead connection raises


def depths(app: Any, names: Iterable[str]) -> dict[str, Depth]:
    """Asks once, over a connection of its own: for programs and the command line."""
    broker = BrokerQueues(app)
    try:
        return broker.depths(names)
    finally:
        broker.close()


def measured(listed: QueueList, found: Mapping[str, Depth], viewer: Viewer) -> QueueList:
    """The queues with what the broker says of them: of messages, and where it is, to those alone who may see it all."""
    queues = [_measured(queue, found.get(queue.name, Depth()), viewer) for queue in listed.queues]
    return msgspec.structs.replace(listed, queues=queues)


def _measured(queue: QueueFacts, depth: Depth, viewer: Viewer) -> QueueFacts:
    consumers = queue.consumers if depth.consumers is None else depth.consumers
    backlog = max(queue.waiting, (depth.messages or 0) if viewer.sees_everything else 0)
    return msgspec.structs.replace(
        queue,
        depth=depth.messages if viewer.sees_everything else None,
        depth_error=depth.error if viewer.sees_everything else None,
        consumers=consumers,
        is_stranded=backlog > 0 and consumers == 0 and queue.paused is None,
    )


def _told(error: Exception) -> str:
    """One line, without user and password should a client quote its address."""
    text = " ".join(str(error).split()) or type(error).__name__
    return _USER_INFO.sub("://", text)[:ERROR_LIMIT]
