"""Networks that swallow what is sent, and say nothing: no reset, no refusal, no error, on neither side.

`DroppedPackets` is a real one: the server lives in a network namespace of its own behind a virtual cable, and the
packets of chosen connections, or of all, are sent to a machine that is not there. The kernel's own timers run as they
do on any broken network. It takes root and `ip`.

`StalledProxy` is the other way to fall silent: something in between that acknowledges everything and passes nothing on.
No keepalive notices that. It takes nothing, so it also stands in where namespaces are not permitted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg.conninfo import make_conninfo

from tests.postgresql_fixtures import PostgresServer

__all__ = ["BlackHole", "DroppedPackets", "StalledProxy", "lacks_for_namespaces", "ports_of"]

BLOCK = 65_536
CLONE_NEWNET = 0x40000000
#: Of the range that is set aside for such tests.
NETWORK = "198.18.{}.{}"
#: Nobody's hardware address.
NOWHERE = "02:00:00:00:00:99"
#: Routing rules: of single connections, and of all.
SOME, ALL = "100", "101"


class BlackHole(Protocol):
    """Between clients and a server of PostgreSQL; `server.socket_dsn()` leads around it."""

    server: PostgresServer
    dsn: str

    def swallow(self, ports: Collection[int]) -> None:
        """From now on nothing comes through on the connections with these client's ports; new ones work."""

    def shut(self) -> None:
        """Nothing comes through at all, until `open`."""

    def open(self) -> None: ...

    def close(self) -> None: ...


def lacks_for_namespaces() -> str | None:
    """What is missing for `DroppedPackets`."""
    if os.geteuid() != 0:
        return "the rights of root"
    if shutil.which("ip") is None:
        return "the program ip (package iproute2)"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"the right to make a network namespace ({tried.stderr.strip()})"


class DroppedPackets:
    """What is lost is really sent, and lost."""

    def __init__(self) -> None:
        number = os.getpid() % 250
        self._name = f"oracle{os.getpid()}"
        self._here, self._there = f"ora{os.getpid()}", f"orb{os.getpid()}"
        self._table = str(10_000 + os.getpid() % 20_000)
        client, address, nobody = (NETWORK.format(number, host) for host in (1, 2, 9))
        self._client, self._address = client, address
        self._rules: list[list[str]] = []
        inside = ["netns", "exec", self._name, "ip"]
        self._sides = [([], address, "sport"), (inside, client, "dport")]
        _ip("netns", "add", self._name)
        try:
            _ip("link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self._name)
            _ip(*inside, "link", "set", "lo", "up")
            for prefix, link, own, peer in (([], self._here, client, address), (inside, self._there, address, client)):
                _ip(*prefix, "address", "add", f"{own}/24", "dev", link)
                _ip(*prefix, "link", "set", link, "up")
                _ip(*prefix, "neighbour", "replace", nobody, "lladdr", NOWHERE, "dev", link, "nud", "permanent")
                _ip(*prefix, "route", "add", f"{peer}/32", "dev", link, "via", nobody, "table", self._table)
            self.server = PostgresServer(settings={"listen_addresses": "'*'"})
            with (self.server.data / "pg_hba.conf").open("a") as rights:
                rights.write("host all all 198.18.0.0/15 trust\n")
            with self._entered():
                self.server.start()
        except BaseException:
            self.close()
            raise
        self.dsn = make_conninfo(self.server.dsn(), host=address)

    def swallow(self, ports: Collection[int]) -> None:
        for port in ports:
            for prefix, peer, end in self._sides:
                self._rule(prefix, SOME, "to", peer, "ipproto", "tcp", end, str(port))

    def shut(self) -> None:
        for prefix, peer, _ in self._sides:
            self._rule(prefix, ALL, "to", peer)

    def open(self) -> None:
        for rule in [rule for rule in self._rules if ALL in rule]:
            self._rules.remove(rule)
            _ip(*rule)

    def close(self) -> None:
        if hasattr(self, "server"):
            self.server.dispose()
        for rule in self._rules:
            _ip(*rule)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "delete", self._here)
        _ip("netns", "delete", self._name)

    def _rule(self, prefix: list[str], preference: str, *what: str) -> None:
        rule = [*what, "lookup", self._table, "preference", preference]
        _ip(*prefix, "rule", "add", *rule)
        self._rules.append([*prefix, "rule", "delete", *rule])

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """What this thread starts meanwhile lives in the namespace."""
        change = ctypes.CDLL(None, use_errno=True).setns
        with Path("/proc/thread-self/ns/net").open() as home, Path("/var/run/netns", self._name).open() as away:
            assert change(away.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert change(home.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


class StalledProxy:
    """It reads on, and forgets what it has read."""

    def __init__(self) -> None:
        self.server = PostgresServer()
        self.server.start()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = make_conninfo(self.server.dsn(), port=self._listener.getsockname()[1])
        self._silent: set[int] = set()  # ports of the proxy's own connections to the server
        self._is_shut = False
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def swallow(self, ports: Collection[int]) -> None:
        self._silent |= set(ports)

    def shut(self) -> None:
        self._is_shut = True

    def open(self) -> None:
        self._is_shut = False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # its thread ends, which still holds it
            end.close()
        self.server.dispose()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._ends.append(client)
                server = socket.create_connection(("127.0.0.1", self.server.port))
                self._ends.append(server)
                port = server.getsockname()[1]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(*ends, port), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, port: int) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(BLOCK):
                if self._is_shut:
                    self._silent.add(port)  # what was swallowed once is a hole in what follows
                if port not in self._silent:
                    target.sendall(block)
        if port not in self._silent:
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.close()


def ports_of(hole: BlackHole, name: str = "oracle-%") -> set[int]:
    """The client's ports of the sessions of that application name, as the server sees them."""
    with psycopg.connect(hole.server.socket_dsn(), autocommit=True) as connection:
        found = connection.execute(
            "SELECT client_port FROM pg_stat_activity WHERE application_name LIKE %s AND client_port > 0", (name,)
        )
        return {port for (port,) in found}


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, ["ip", *arguments], done.stdout, done.stderr)
