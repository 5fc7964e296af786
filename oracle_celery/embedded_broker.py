"""A broker that needs no server: messages are files. For the demo and the tests, on one machine.

`address(folder)` is its URL (``oraclefs://localhost/a/folder``). Importing this module makes kombu know it, so every
process that uses it imports this module first. Control commands and their replies work.

It is kombu's filesystem transport with three things changed: a message and an exchange's table appear whole or not at
all (written aside, then renamed: the stock one lets a worker read half a message, which ends the worker); a message is
claimed by a rename, so it has one taker; every queue has its own folder, so a backlog in one slows no other.

What bites:

- Not durable: messages that a worker had prefetched die with it on kill -9. Crash tests need RabbitMQ.
- It has no event loop: set ``worker_pool_putlocks = False``, or a busy pool keeps control commands waiting.
- No priorities, no expiry, order only about right between several publishers.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from queue import Empty
from typing import Any
from urllib.parse import quote

from kombu.exceptions import ChannelError
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps, loads

__all__ = ["SCHEME", "Channel", "Transport", "address"]

SCHEME = "oraclefs"
POLLING_INTERVAL_SECONDS = 0.01

_sequence = itertools.count()


def address(folder: Path) -> str:
    """The broker URL of a folder."""
    return f"{SCHEME}://localhost{quote(str(folder.absolute()))}"


class Channel(filesystem.Channel):
    """Queues are folders, messages are files in them, exchanges are files of bindings."""

    def __init__(self, connection: Any, **options: Any) -> None:
        super().__init__(connection, **options)
        #: Names of messages seen in the last listing and not tried yet: one listing serves many gets.
        self._listed: defaultdict[str, deque[str]] = defaultdict(deque)

    @cached_property
    def root(self) -> Path:
        """The folder of this broker: the path of its address."""
        path: str | None = self.connection.client.virtual_host
        if not path or path == "/":
            raise ChannelError(f"{SCHEME}:// needs a folder, like {SCHEME}://localhost/home/me/broker")
        root = Path("/") / path
        for folder in (root / "queues", root / "exchanges", root / "aside"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return root

    def _exchange_file(self, exchange: str) -> Path:
        return self.root / "exchanges" / f"{quote(exchange, safe='')}.exchange"

    # -- queues -----------------------------------------------------------------------------------------------------

    def _queue_path(self, queue: str) -> Path:
        return self.root / "queues" / f"{quote(queue, safe='@')}.queue"

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return self._queue_path(queue).is_dir()

    def _new_queue(self, queue: str, **_: Any) -> None:
        self._queue_path(queue).mkdir(exist_ok=True)

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]  # its parents disagree
        self._write_whole(self._queue_path(queue) / f"{time.time_ns():020d}-{_unique()}", payload)

    def _put_fanout(self, exchange: str, payload: Any, routing_key: str, **kwargs: Any) -> None:
        for binding in self.get_table(exchange):
            if self._has_queue(binding.queue):
                self._put(binding.queue, payload)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        folder = self._queue_path(queue)
        listed = self._listed[queue]
        if not listed:
            listed.extend(sorted(_names(folder)))
        while listed:
            payload = self._claim(folder / listed.popleft())
            if payload is not None:
                return loads(payload)
        raise Empty

    def _claim(self, path: Path) -> bytes | None:
        """The message, if nobody else took it first."""
        claimed = self.root / "aside" / f"claimed-{path.name}"
        try:
            path.rename(claimed)
        except FileNotFoundError:
            return None
        payload = claimed.read_bytes()
        claimed.unlink()
        return payload

    def _size(self, queue: str) -> int:
        return len(_names(self._queue_path(queue)))

    def _purge(self, queue: str) -> int:
        folder = self._queue_path(queue)
        return sum(self._claim(folder / name) is not None for name in _names(folder))

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **options: Any) -> None:
        """Forgets the queue's bindings and drops its messages."""
        if if_empty and self._size(queue):
            return
        super().queue_delete(queue, if_unused, if_empty, **options)
        shutil.rmtree(self._queue_path(queue), ignore_errors=True)

    def _write_whole(self, path: Path, content: Any) -> None:
        aside = self.root / "aside" / f"new-{_unique()}"
        aside.write_text(dumps(content))
        try:
            aside.rename(path)
        except FileNotFoundError:  # a queue that nobody declared yet
            path.parent.mkdir(exist_ok=True)
            aside.rename(path)

    # -- exchanges --------------------------------------------------------------------------------------------------

    def get_table(self, exchange: str) -> list[Any]:
        """The exchange's bindings. A table is replaced, never rewritten, so a reader needs no lock."""
        try:
            rows = loads(self._exchange_file(exchange).read_bytes())
        except FileNotFoundError:
            return []
        return [filesystem.exchange_queue_t(*row) for row in rows]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._exchange_lock():
            table = self.get_table(exchange)
            if binding not in table:
                self._write_whole(self._exchange_file(exchange), [binding, *table])

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *_: Any, **__: Any) -> None:
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._exchange_lock():
            table = self.get_table(exchange)
            if binding in table:
                self._write_whole(self._exchange_file(exchange), [row for row in table if row != binding])

    @contextlib.contextmanager
    def _exchange_lock(self) -> Iterator[None]:
        """Two processes that bind at once must not lose one of the bindings."""
        with (self.root / "exchanges.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class Transport(filesystem.Transport):
    """What `SCHEME` stands for."""

    Channel = Channel
    polling_interval = POLLING_INTERVAL_SECONDS
    driver_type = SCHEME
    driver_name = SCHEME


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  # names are enough, and asked for 100 times a second
    except FileNotFoundError:
        return []


def _unique() -> str:
    return f"{os.getpid()}-{next(_sequence)}"


TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
