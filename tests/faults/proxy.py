"""A TCP proxy before PostgreSQL that cuts connections at the worst moment: the query is through, its answer is not."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from typing import Self

__all__ = ["CuttingProxy"]

BLOCK = 65_536
#: SO_LINGER with no time: closing sends RST, as a crashed middlebox does.
RESET = struct.pack("ii", 1, 0)


class CuttingProxy:
    """While `is_cutting`, a message that holds `marker` is its connection's last one with a probability of `share`."""

    def __init__(self, host: str, port: int, *, marker: bytes, seed: int, share: float = 0.5) -> None:
        self._server = (host, port)
        self._random = random.Random(seed)
        self._share = share
        self._marker = marker
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.is_cutting = False
        self.cuts = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := client.recv(BLOCK):
                is_last = self.is_cutting and self._marker in block and self._random.random() < self._share
                if is_last:
                    self.cuts += 1
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    server.sendall(block)
                    # the answer finds nobody; the server learns of it only after it has done what it was told
                    client.close()
                    break
                server.sendall(block)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while block := server.recv(BLOCK):
                client.sendall(block)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.close()
