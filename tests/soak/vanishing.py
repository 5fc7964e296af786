"""A program: clients of a sidecar's stream that go away as clients do. ``python -m tests.soak.vanishing <host> <port>``

Takes a line of JSON at a time and answers each with how many streams are open: `open` (with a file of tokens, one a
line: so many more, answered when each has been told its first summary), `abort` (so many of them are reset), `count`.
They read whatever comes, as browsers do. The rest goes with the program, or, where its network has gone before
(`Desert`), without a word.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self, cast

__all__ = ["Clients", "Desert", "has_deserts"]

SUMMARY = b"event: summary\n"
PATIENCE_SECONDS = 60.0
#: SO_LINGER with no time: closing sends a reset.
RESET = struct.pack("ii", 1, 0)


def main(host: str, port: int) -> None:
    streams: list[socket.socket] = []
    chosen = selectors.DefaultSelector()
    chosen.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in chosen.select():
            if key.fileobj is not sys.stdin:
                stream = cast("socket.socket", key.fileobj)
                if not _takes(stream):
                    chosen.unregister(stream)
                    streams.remove(stream)
                continue
            line = sys.stdin.readline()
            if not line:
                return
            order = json.loads(line)
            if order["do"] == "open":
                for token in Path(order["tokens"]).read_text().split():
                    streams.append(_stream(host, port, token))
                    chosen.register(streams[-1], selectors.EVENT_READ)
            elif order["do"] == "abort":
                for _ in range(order["count"]):
                    gone = streams.pop()
                    chosen.unregister(gone)
                    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    gone.close()
            print(json.dumps({"open": len(streams)}), flush=True)


def _takes(stream: socket.socket) -> bool:
    """Reads what has come and throws it away; False where the stream has ended."""
    try:
        return bool(stream.recv(65_536))
    except OSError:
        return False


def _stream(host: str, port: int, token: str) -> socket.socket:
    stream = socket.create_connection((host, port), timeout=PATIENCE_SECONDS)
    stream.sendall(
        f"GET /api/tasks/subscribe HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    told = b""
    while SUMMARY not in told:
        piece = stream.recv(65_536)
        if not piece:
            raise SystemExit(f"a stream was refused: {told!r}")
        told += piece
    return stream


class Clients:
    """The program, from outside; `within` is a command that runs it somewhere else."""

    def __init__(self, host: str, port: int, *, within: tuple[str, ...] = ()) -> None:
        command = [*within, sys.executable, "-m", "tests.soak.vanishing", host, str(port)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            start_new_session=True,
        )

    def ask(self, **order: Any) -> int:
        """How many are open."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the clients have ended")
        return int(json.loads(answer)["open"])

    def stop(self) -> None:
        """SIGKILL; safe twice."""
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                end.close()


class Desert:
    """A network of its own, with one way to this machine that can be cut without anybody being told. Needs root."""

    #: Two addresses that nobody else has, nor another run on this machine (RFC 5737 is for documentation; 198.18/15 is
    #: for tests of networks, of which tests/faults/black_hole.py has the first half).
    HERE, THERE = (f"198.19.{os.getpid() // 64 % 256}.{os.getpid() % 64 * 4 + end}" for end in (1, 2))

    def __init__(self) -> None:
        self.name = f"oracle-{os.getpid()}"
        self._link = f"osoak{os.getpid() % 100_000}"

    @property
    def within(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            _ip("netns", "add", self.name)
            stack.callback(self._remove)
            _ip("link", "add", self._link, "type", "veth", "peer", "name", "there", "netns", self.name)
            _ip("address", "add", f"{self.HERE}/30", "dev", self._link)
            _ip("link", "set", self._link, "up")
            _ip("-n", self.name, "address", "add", f"{self.THERE}/30", "dev", "there")
            _ip("-n", self.name, "link", "set", "there", "up")
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def swallow(self) -> None:
        """From now on nothing comes out of it, not even that something has ended."""
        _ip("-n", self.name, "route", "replace", "blackhole", f"{self.HERE}/32")

    def open_again(self) -> None:
        _ip("-n", self.name, "route", "delete", "blackhole", f"{self.HERE}/32")

    def _remove(self) -> None:
        _ip("netns", "delete", self.name, check=False)
        _ip("link", "delete", self._link, check=False)


def has_deserts() -> bool:
    """Whether this user may make one."""
    name = f"oracle-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    _ip("netns", "delete", name)
    return True


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
