"""Celery's remote control over a connection of our own: a broker that falls silent costs a bounded time.

Guarantee: each answer of the broker is waited for no longer than `PATIENCE_SECONDS`, and nothing is sent twice. That
no node has answered is said only where the broker itself still did, afterwards: its silence is an error.

What bites: Celery publishes such commands over its pool of producers, whichever connection it is given, and over
connections that wait for a broker for ever and, once broken, are made anew for ever. And where the broker does not
answer when a consumer is taken off, kombu says nothing of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["PATIENCE_SECONDS", "answering", "roll_call", "tell"]

#: For a connection, and for each answer of the broker.
PATIENCE_SECONDS = 2.0

#: What bounds the time of an answer, by driver. Other drivers have no such option, or refuse unknown ones.
_BOUNDS: dict[str, dict[str, Any]] = {
    "py-amqp": {
        "confirm_publish": False,
        "read_timeout": PATIENCE_SECONDS,
        "write_timeout": PATIENCE_SECONDS,
    },
    "redis": {
        "socket_connect_timeout": PATIENCE_SECONDS,
        "socket_timeout": PATIENCE_SECONDS,
        "retry_on_timeout": False,
    },
}


def tell(app: Any, command: str) -> None:
    """Every worker, and asks nothing. Raises whatever the broker's client raises."""
    with _connected(app) as connection:
        _mailbox(app, connection).abcast(command)


def answering(app: Any, nodes: Collection[str], seconds: float) -> set[str]:
    """Those of `nodes` that answer a ping. A node that does not exist costs all of `seconds`, which is how long the
    next answer is waited for. Raises whatever the broker's client raises where the broker cannot be asked."""
    with _connected(app) as connection:
        found = _alive(_mailbox(app, connection).call(sorted(nodes), "ping", timeout=seconds))
        if not found.issuperset(nodes):
            connection.channel().close()  # every transport asks its broker for that
        return found


def roll_call(app: Any, seconds: float) -> set[str]:
    """Every node that answers a ping within that time, whether it has Oracle or not. Raises as `answering` does."""
    with _connected(app) as connection:
        found = _alive(_mailbox(app, connection).multi_call("ping", timeout=seconds))
        if not found:
            connection.channel().close()
        return found


@contextmanager
def _connected(app: Any) -> Iterator[Any]:
    connection = app.connection_for_write(connect_timeout=PATIENCE_SECONDS)
    connection.transport_options.update(_BOUNDS.get(connection.transport.driver_name, {}))
    try:
        connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=PATIENCE_SECONDS)
        yield connection
    except BaseException:
        with contextlib.suppress(Exception):
            connection.collect()  # without a goodbye, which nobody may be there to answer
        raise
    with contextlib.suppress(Exception):  # what was asked has been answered
        connection.release()


def _alive(replies: list[dict[str, Any]] | None) -> set[str]:
    return {node for reply in replies or [] for node, answer in reply.items() if answer.get("ok") == "pong"}


def _mailbox(app: Any, connection: Any) -> Any:
    mailbox = app.control.mailbox(connection)  # a copy, which is ours
    mailbox.producer_pool = _Once(connection)
    return mailbox


class _Once:
    """In place of a pool of producers: one, on our connection, which does not try again by itself."""

    def __init__(self, connection: Any) -> None:
        self._producer = connection.Producer(auto_declare=False)

    @contextmanager
    def acquire(self) -> Iterator[_Once]:
        yield self

    def publish(self, body: Any, **options: Any) -> None:
        self._producer.publish(body, **options | {"retry": False})
