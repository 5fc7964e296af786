"""A program: what `send(2)` alone costs here, to as many clients as a sidecar has. Prints microseconds of CPU.

``python -m tests.benchmarks.bare_sender <clients> <bytes> <sends a second> <seconds>``

The least that a write to a client can cost on this machine: no Python around it but a loop, nothing decided, nothing
encoded. On the loopback a send includes what the kernel does to receive it and to wake its reader.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time

#: Between two bursts: the sidecar writes what one read of the database brought.
BURST_SECONDS = 0.05
RECEIVED_BYTES = 64 * 1024


def main(clients: int, size: int, rate: float, seconds: float) -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=4_096)
    reader = os.fork()
    if reader == 0:
        _read(listening.getsockname(), clients)
    try:
        accepted = [listening.accept()[0] for _ in range(clients)]
        for one in accepted:
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(_send(accepted, bytes(size), int(rate * BURST_SECONDS), seconds) * 1e6, flush=True)
    finally:
        os.kill(reader, signal.SIGKILL)
        os.waitpid(reader, 0)


def _send(accepted: list[socket.socket], piece: bytes, burst: int, seconds: float) -> float:
    sent, spent, ends_at = 0, 0.0, time.monotonic() + seconds
    while time.monotonic() < ends_at:
        began = time.process_time()
        for _ in range(burst):
            accepted[sent % len(accepted)].send(piece)
            sent += 1
        spent += time.process_time() - began
        time.sleep(BURST_SECONDS)
    return spent / sent


def _read(address: tuple[str, int], clients: int) -> None:
    epoll, buffer = select.epoll(), bytearray(RECEIVED_BYTES)
    by_file = {}
    for _ in range(clients):
        one = socket.create_connection(address)
        one.setblocking(False)
        by_file[one.fileno()] = one
        epoll.register(one.fileno(), select.EPOLLIN)
    while True:
        for file, _ in epoll.poll():
            by_file[file].recv_into(buffer)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
