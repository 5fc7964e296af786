"""A plain TCP proxy before several sidecars: each connection goes to the next one that can be reached."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Sequence
from typing import Self

__all__ = ["RoundRobin"]

BLOCK = 65_536


class RoundRobin:
    """`connections` counts those that each port got."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.connections = dict.fromkeys(ports, 0)
        self._turns = itertools.cycle(ports)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="round-robin", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = self._next_server()
                if server is None:
                    client.close()
                    continue
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=_copy, args=(source, target), daemon=True).start()

    def _next_server(self) -> socket.socket | None:
        for _ in self.connections:
            port = next(self._turns)
            with contextlib.suppress(OSError):
                server = socket.create_connection(("127.0.0.1", port))
                self.connections[port] += 1
                return server
        return None


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until one end closes; then both are closed for good, so that the other direction ends too."""
    with contextlib.suppress(OSError):
        while block := source.recv(BLOCK):
            target.sendall(block)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
