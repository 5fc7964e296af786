"""A thousand connections that send as slowly as they can, to a real sidecar with its real deadlines."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.faults.scale import scaled
from tests.local_processes import LocalProcess

SLOW_CONNECTIONS = 1_000
#: The bars, of a machine that does nothing else; where other tests run beside, the short form's tell apart who waits
#: for the slow ones: not one request, which may meet a moment in which nobody runs, but many.
ANSWER_SECONDS = scaled(5, 1)
LATE_PERCENT = scaled(5, 0)
CLOSED_SECONDS = scaled(30, 15)
FILES_NEEDED = SLOW_CONNECTIONS + 200


class Sidecar(LocalProcess):
    """``celery -A shop oracle`` on a free port."""

    def is_ready(self) -> bool:
        return "Oracle is at http" in self.log

    @property
    def port(self) -> int:
        return int(self.log.partition("Oracle is at http://127.0.0.1:")[2].partition("/")[0])


@pytest.fixture
def sidecar(tmp_path: Path, database: str) -> Iterator[Sidecar]:
    (tmp_path / "shop.py").write_text(
        "from celery import Celery\n"
        "app = Celery('shop', broker='memory://')\n"
        f"app.conf.oracle_url = {database!r}\n"
        f"app.conf.oracle_state_dir = {str(tmp_path)!r}\n"
    )
    command = [sys.executable, "-m", "celery", "-A", "shop", "oracle", "--port", "0"]
    environment = {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    process = Sidecar(command, tmp_path / "sidecar.log", env=environment).start()
    yield process
    process.stop()


@pytest.fixture(autouse=True)
def _enough_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES_NEEDED:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FILES_NEEDED), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_thousand_slow_connections_slow_nobody_down(sidecar: Sidecar) -> None:
    """Each request of somebody else is answered in time, and the slow ones are gone in time."""
    await _answer_seconds(sidecar.port)
    slow = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.slow_clients", str(sidecar.port), str(SLOW_CONNECTIONS)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert slow.stdout is not None
    ending = asyncio.create_task(slow.wait())
    answered: list[float] = []
    while not ending.done():
        answered.append(await _answer_seconds(sidecar.port))
        await asyncio.sleep(0.1)
    assert await slow.stdout.readline() == b"connected\n"
    lived: list[float] = json.loads(await slow.stdout.read())
    print(
        f"{SLOW_CONNECTIONS} slow connections: cut off after {min(lived):.1f} to {max(lived):.1f} s; "
        f"{len(answered)} other requests, the slowest took {max(answered) * 1e3:.0f} ms"
    )
    assert len(lived) == SLOW_CONNECTIONS
    assert max(lived) < CLOSED_SECONDS
    assert len(answered) > 10
    late = [seconds for seconds in answered if seconds >= ANSWER_SECONDS]
    assert 100 * len(late) <= LATE_PERCENT * len(answered), late
    assert "Traceback" not in sidecar.log


async def _answer_seconds(port: int) -> float:
    """Of one request over a connection of its own."""
    began = time.monotonic()
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
        assert response.status == 200
        await response.read()
    return time.monotonic() - began
