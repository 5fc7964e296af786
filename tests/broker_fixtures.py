"""Real brokers for the tests: a private RabbitMQ node and a private Redis, one clean corner of them for every test.

They run as plain processes from the installed packages, with no service manager and no change to the machine; where
there is no package but a Docker engine, in containers. The header of the run says which. A test that needs a broker
that cannot be had fails and says how to get it: nothing is skipped in silence.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from tests.docker_engine import finds_docker
from tests.local_processes import LocalProcess, LocalSidecar, LocalWorker
from tests.ports import free_port

__all__ = ["LocalSidecar", "LocalWorker", "RabbitServer", "RedisServer"]

START_SECONDS = 120
POLL_SECONDS = 0.05
#: rabbitmqctl's exit code where the node had no time for it, or is not there: EX_UNAVAILABLE of sysexits.h.
NODE_NOT_REACHED = 69
#: Virtual hosts made by the first call of rabbitmqctl, which takes a second whatever it does; each further one makes
#: twice as many.
FIRST_VIRTUAL_HOSTS = 4
REDIS_DATABASES = 256

#: One scheduler, and nobody who waits does so busily.
FRUGAL = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"

RABBITMQ_IMAGE = "rabbitmq:3"
REDIS_IMAGE = "redis:7"


class RabbitServer:
    """A RabbitMQ of our own: it leaves nothing behind, not even the port mapper that Erlang starts."""

    def __init__(self) -> None:
        self.port = free_port()
        self.base = Path(tempfile.mkdtemp(prefix="oracle-rabbit-"))
        self._server: LocalProcess
        self._virtual_hosts: list[str] = []
        self._next_virtual_hosts = FIRST_VIRTUAL_HOSTS
        self._numbers = itertools.count()
        programs = _rabbitmq_programs()
        self._mapper_port = free_port()
        if programs is not None:
            self._node = f"oracle{os.getpid()}-{self.port}@localhost"
            self._control = [str(programs / "rabbitmqctl"), "--node", self._node]
            self._environment = self._node_environment()
            self._server = LocalProcess(
                [str(programs / "rabbitmq-server")], self.base / "node.log", env=self._environment
            )
        else:
            name = f"oracle-rabbit-{os.getpid()}-{self.port}"
            self._control = [*_docker(), "exec", name, "rabbitmqctl"]
            self._environment = {}
            ports = ["-p", f"127.0.0.1:{self.port}:5672"]
            command = [*_docker(), "run", "--rm", "--name", name, *ports, RABBITMQ_IMAGE]
            self._server = LocalProcess(command, self.base / "node.log")

    def _node_environment(self) -> dict[str, str]:
        nothing = self.base / "none"
        return {
            "HOME": str(self.base),  # its cookie stays out of the user's home
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.base / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.base / "log"),
            "RABBITMQ_PID_FILE": str(self.base / "node.pid"),
            "RABBITMQ_CONFIG_FILE": str(nothing),
            "RABBITMQ_CONF_ENV_FILE": str(nothing),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(nothing),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": FRUGAL,
        }

    def start(self) -> None:
        """Returns when it answers AMQP."""
        self._server.start(wait=False)
        self._server.wait_until(lambda: _connects(self.url("/")), "it answers", START_SECONDS)

    def url(self, virtual_host: str) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{virtual_host}"

    def new_url(self) -> str:
        """The address of a virtual host that nobody has used."""
        if not self._virtual_hosts:
            self._virtual_hosts = [f"test{next(self._numbers)}" for _ in range(self._next_virtual_hosts)]
            self._next_virtual_hosts *= 2
            lines = [
                f'rabbit_vhost:add(<<"{name}">>, <<"guest">>),'
                f' rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>,'
                ' <<".*">>, <<".*">>, <<".*">>, <<"guest">>)'
                for name in self._virtual_hosts
            ]
            self.control("eval", ", ".join(lines) + ".")
        return self.url(self._virtual_hosts.pop(0))

    def control(self, *arguments: str) -> str:
        """Runs rabbitmqctl; again where it has not reached the node, so has done nothing yet."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            done = subprocess.run(
                [*self._control, *arguments],
                env=os.environ | self._environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != NODE_NOT_REACHED or time.monotonic() > deadline:
                break
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close_connections(self) -> None:
        """What a broker's restart looks like to its clients."""
        self.control("close_all_connections", "--global", "a test")

    def restart(self) -> None:
        """Stops as a supervisor stops it, and comes back with its durable queues and their persistent messages."""
        assert self._environment, "a container's data goes with the container: install rabbitmq-server"
        os.killpg(self._server.pid, signal.SIGTERM)
        self._server.wait()
        self.start()

    def kill(self) -> None:
        """SIGKILL, as a machine that dies; `start` finds what was durable and confirmed."""
        assert self._environment, "a container's data goes with the container: install rabbitmq-server"
        self._server.kill_whole()

    def freeze(self) -> None:
        """It neither answers nor refuses, until `thaw`."""
        assert self._environment, "a container is not ours to stop: install rabbitmq-server"
        os.killpg(self._server.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self._server.pid, signal.SIGCONT)

    def dispose(self) -> None:
        if self._environment:
            if self._server.is_alive:
                self._server.kill_whole()  # its data is thrown away: no need to be kind
            self._server.stop()
            self._kill_port_mapper()
        self._server.stop()
        shutil.rmtree(self.base, ignore_errors=True)

    def _kill_port_mapper(self) -> None:
        """It refuses until it has noticed that the node is gone."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            said = subprocess.run(
                ["epmd", "-port", str(self._mapper_port), "-kill"],
                env=os.environ | self._environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if "living nodes" not in said.stdout + said.stderr:
                return
            time.sleep(POLL_SECONDS)


class RedisServer:
    """A Redis of our own, in memory only unless it is to be `durable`; a test gets a database number."""

    def __init__(self, *, durable: bool = False) -> None:
        self.port = free_port()
        self.base = Path(tempfile.mkdtemp(prefix="oracle-redis-"))
        self._numbers = itertools.count()
        self._durable = durable
        # what was answered is on the disk
        appends = ["yes", "--appendfsync", "always"] if durable else ["no"]
        options = ["--save", "", "--appendonly", *appends, "--databases", str(REDIS_DATABASES)]
        program = shutil.which("redis-server")
        if program:
            command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.base), *options]
        else:
            ports = ["-p", f"127.0.0.1:{self.port}:6379"]
            command = [*_docker(), "run", "--rm", *ports, REDIS_IMAGE, "redis-server", *options]
        self._server = LocalProcess(command, self.base / "server.log")

    def start(self) -> None:
        """Returns when it answers."""
        self._server.start(wait=False)
        self._server.wait_until(lambda: _connects(self.url(0)), "it answers", START_SECONDS)

    def url(self, number: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{number}"

    def new_url(self) -> str:
        """The address of an empty database; numbers come round again after `REDIS_DATABASES` tests."""
        import redis

        url = self.url(next(self._numbers) % REDIS_DATABASES)
        client = redis.Redis.from_url(url)
        client.flushdb()
        client.close()
        return url

    def restart(self) -> None:
        """Stops as a supervisor stops it, and comes back with what it held."""
        assert self._durable, "it would come back empty"
        self._server.terminate()
        self.start()

    def kill(self) -> None:
        """SIGKILL; `start` finds what it had answered."""
        assert self._durable, "it would come back empty"
        self._server.kill_whole()

    def freeze(self) -> None:
        """It neither answers nor refuses, until `thaw`."""
        os.killpg(self._server.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self._server.pid, signal.SIGCONT)

    def dispose(self) -> None:
        self._server.stop()
        shutil.rmtree(self.base, ignore_errors=True)


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitServer]:
    """The session's RabbitMQ, running. Tests that kill a broker start a `RabbitServer` of their own."""
    yield from served(RabbitServer())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The session's Redis, running."""
    yield from served(RedisServer())


@pytest.fixture
def rabbitmq_url(rabbitmq_server: RabbitServer) -> str:
    """A virtual host of this test alone."""
    return rabbitmq_server.new_url()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty database of this test alone."""
    return redis_server.new_url()


@pytest.fixture(params=["rabbitmq", "redis"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """The test runs once on RabbitMQ and once on Redis."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., LocalWorker]]:
    """Starts a `LocalWorker(module, **options)`, waits until it is ready, and ends it with the test."""
    yield from _starter(LocalWorker, tmp_path)


@pytest.fixture
def start_sidecar(tmp_path: Path) -> Iterator[Callable[..., LocalSidecar]]:
    """Starts a `LocalSidecar(module, **options)`, waits until it is ready, and ends it with the test."""
    yield from _starter(LocalSidecar, tmp_path)


def pytest_report_header() -> list[str]:
    """Says where the brokers come from."""
    rabbitmq = _rabbitmq_programs()
    redis = shutil.which("redis-server")
    container = "a Docker container" if finds_docker() else "missing"
    return [
        f"RabbitMQ: {f'local process, {rabbitmq}' if rabbitmq else container}",
        f"Redis: {f'local process, {redis}' if redis else container}",
    ]


def served(server: Any) -> Iterator[Any]:
    """For a fixture: a server that runs until the test is over."""
    try:
        server.start()
        yield server
    finally:
        server.dispose()


def _starter(kind: Any, folder: Path) -> Iterator[Callable[..., Any]]:
    started: list[LocalProcess] = []

    def start(module: str, **options: Any) -> Any:
        process = kind(module, folder / f"{kind.__name__}{len(started)}.log", **{"warm": True} | options)
        started.append(process)
        return process.start()

    yield start
    for process in reversed(started):
        process.stop()


def _connects(url: str) -> bool:
    try:
        with Connection(url, connect_timeout=1, heartbeat=0) as connection:
            connection.connect()
    except Exception:
        time.sleep(POLL_SECONDS)
        return False
    return True


def _rabbitmq_programs() -> Path | None:
    """Debian's commands on PATH change the user first; the real ones stand beside the library."""
    debian = Path("/usr/lib/rabbitmq/bin")
    if (debian / "rabbitmq-server").exists():
        return debian
    found = shutil.which("rabbitmq-server")
    return Path(found).parent if found else None


def _docker() -> list[str]:
    if not finds_docker():
        pytest.fail("This test needs RabbitMQ and Redis. Install rabbitmq-server and redis-server, or start Docker.")
    return ["docker"]
