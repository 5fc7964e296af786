"""A program: thousands of clients of one sidecar's stream, in one process and one thread, as cheap as they can be.

``python -m tests.benchmarks.crowd <port> <file of tokens, one a line>``

Takes one JSON order a line and answers each with one: `open` (so many clients, answered when each has been served its
first summary; the admins come first), `hang_up` (the last so many), `come_back` (all that hung up, at once, each with
the last id it was given; who is refused tries again, as a browser does), `stall` (from the second on so many read no
more), `go_on` (they read again), `report` (what has come since the last report).
Only some clients look at what they get: the others take it from the socket and throw it away, except for the last id.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BUFFER_BYTES = 256 * 1024
#: One client in so many looks at its events.
WATCHER_OF = 20
#: A watching client looks at one event of so many in a piece: an admin's pieces hold hundreds.
EVENT_OF = 10
#: Connections that are being made at once where nobody asks for a storm.
GENTLY = 100
#: Seconds after which somebody who was refused or cut off tries again: what the sidecar tells browsers, at least.
RETRY_SECONDS = 2.0
#: Seconds until an order must have been carried out.
PATIENCE_SECONDS = 60.0

TIMESTAMP = b'"timestamp":"'
TASK_EVENT = b"event: task\n"
ID = b"id: "
SUMMARY = b"event: summary\n"
OK = b"HTTP/1.1 200 "


class Client:
    __slots__ = ("asked_at", "last_id", "number", "served_at", "socket", "tail", "token", "tries_at")

    def __init__(self, number: int, token: str) -> None:
        self.number = number
        self.token = token
        self.socket: socket.socket | None = None
        self.last_id = b""
        self.tail = b""
        self.asked_at = 0.0
        self.served_at = 0.0
        self.tries_at = 0.0


class Crowd:
    def __init__(self, port: int, tokens: list[str]) -> None:
        self._address = ("127.0.0.1", port)
        self._tokens = tokens
        self._clients: list[Client] = []
        self._by_file: dict[int, Client] = {}
        self._epoll = select.epoll()
        self._buffer = bytearray(BUFFER_BYTES)
        self._waiting: set[Client] = set()
        self._refused: deque[Client] = deque()
        self._tries = 0
        self._ages: list[float] = []
        self._pieces = 0
        self._events = 0
        self._bytes = 0
        self._resyncs = 0
        self._lost = 0

    def run(self) -> None:
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        while True:
            if self._turn(None):
                line = sys.stdin.readline()
                if not line:
                    return
                order = json.loads(line)
                answer = getattr(self, order.pop("do"))(**order)
                print(json.dumps(answer), flush=True)

    def open(self, count: int) -> dict[str, Any]:
        """A few at a time."""
        began = time.monotonic()
        fresh = [Client(n, self._tokens[n]) for n in range(len(self._clients), len(self._clients) + count)]
        self._clients += fresh
        return self._serve(fresh, GENTLY) | {"seconds": time.monotonic() - began}

    def hang_up(self, count: int) -> dict[str, Any]:
        for client in self._clients[len(self._clients) - count :]:
            self._close(client)
        return {}

    def come_back(self) -> dict[str, Any]:
        """All at once."""
        began = time.monotonic()
        gone = [client for client in self._clients if client.socket is None]
        return self._serve(gone, len(gone)) | {"seconds": time.monotonic() - began}

    def stall(self, count: int) -> dict[str, Any]:
        for client in self._clients[1 : count + 1]:
            assert client.socket is not None
            self._epoll.unregister(client.socket.fileno())
        return {}

    def go_on(self, count: int) -> dict[str, Any]:
        for client in self._clients[1 : count + 1]:
            assert client.socket is not None
            self._epoll.register(client.socket.fileno(), select.EPOLLIN)
        return {}

    def report(self) -> dict[str, Any]:
        told = {
            "ages": self._ages,
            "pieces": self._pieces,
            "events": self._events,
            "bytes": self._bytes,
            "resyncs": self._resyncs,
            "lost": self._lost,
        }
        self._ages = []
        self._pieces = self._events = self._bytes = self._resyncs = self._lost = 0
        return told

    def _serve(self, clients: list[Client], at_once: int) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        to_come = list(reversed(clients))
        while to_come or self._waiting or self._refused:
            while to_come and len(self._waiting) < at_once:
                self._connect(to_come.pop())
            self._turn(0.1)
            while self._refused and self._refused[0].tries_at <= time.monotonic():
                self._connect(self._refused.popleft())
            if time.monotonic() > deadline:
                break
        served = sorted(client.served_at - client.asked_at for client in clients if client.served_at)
        unserved = len(clients) - len(served)
        self._waiting.clear()
        self._refused.clear()
        tries, self._tries = self._tries, 0
        return {"served": len(served), "unserved": unserved, "waits": served, "again": tries}

    def _connect(self, client: Client) -> None:
        client.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.socket.setblocking(False)
        client.socket.connect_ex(self._address)
        client.asked_at = client.asked_at or time.monotonic()
        client.tail = b""
        self._by_file[client.socket.fileno()] = client
        self._waiting.add(client)
        self._epoll.register(client.socket.fileno(), select.EPOLLOUT)

    def _ask(self, client: Client) -> None:
        assert client.socket is not None
        resumed = b"Last-Event-ID: " + client.last_id + b"\r\n" if client.last_id else b""
        client.socket.send(
            b"GET /api/tasks/subscribe HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            b"Authorization: Bearer " + client.token.encode() + b"\r\n" + resumed + b"\r\n"
        )
        self._epoll.modify(client.socket.fileno(), select.EPOLLIN)

    def _close(self, client: Client) -> None:
        client.asked_at = client.served_at = 0.0
        self._hang_up(client)

    def _hang_up(self, client: Client) -> None:
        if client.socket is not None:
            self._by_file.pop(client.socket.fileno(), None)
            client.socket.close()
            client.socket = None

    def _turn(self, timeout: float | None) -> bool:
        """Whether there is an order to read."""
        is_ordered = False
        for file, what in self._epoll.poll(timeout):
            client = self._by_file.get(file)
            if client is None:
                is_ordered = True
            elif what & select.EPOLLOUT:
                try:
                    self._ask(client)
                except OSError:
                    self._drop(client)
            else:
                self._read(client)
        return is_ordered

    def _drop(self, client: Client) -> None:
        if client not in self._waiting:
            self._lost += 1
            self._close(client)
            return
        self._waiting.discard(client)
        self._hang_up(client)
        client.tries_at = time.monotonic() + RETRY_SECONDS
        self._refused.append(client)
        self._tries += 1

    def _read(self, client: Client) -> None:
        assert client.socket is not None
        try:
            size = client.socket.recv_into(self._buffer)
        except OSError:
            size = 0
        if not size:
            self._drop(client)
            return
        self._pieces += 1
        self._bytes += size
        piece = bytes(memoryview(self._buffer)[:size])
        at = piece.rfind(ID)
        if at >= 0:
            end = piece.find(b"\n", at)
            if end > 0:
                client.last_id = piece[at + len(ID) : end]
        if client in self._waiting:
            client.tail += piece
            if not client.tail.startswith(OK[: len(client.tail)]):
                self._drop(client)
            elif SUMMARY in client.tail:
                client.served_at = time.monotonic()
                self._waiting.discard(client)
                client.tail = b""
        if b"event: resync" in piece:
            self._resyncs += 1
        if client.number % WATCHER_OF == 0:
            self._look(piece)

    def _look(self, piece: bytes) -> None:
        now = time.time()
        found = piece.split(TIMESTAMP)
        self._events += len(found) - 1
        for part in found[1::EVENT_OF]:
            text, quote, _ = part.partition(b'"')
            if quote:
                moment = datetime.fromisoformat(text.decode()).replace(tzinfo=UTC)
                self._ages.append((now - moment.timestamp()) * 1e3)


if __name__ == "__main__":
    Crowd(int(sys.argv[1]), Path(sys.argv[2]).read_text().split()).run()
