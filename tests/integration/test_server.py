"""The sidecar as a server: its door, its headers, its start and its end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from oracle_celery.errors import ConfigurationError, SchemaMissing
from oracle_celery.settings import Settings
from oracle_celery.sidecar.headers import CONTENT_SECURITY_POLICY
from oracle_celery.sidecar.server import Sidecar
from tests.factories import Feeder, transition
from tests.ports import free_port
from tests.postgresql_fixtures import PostgresServer
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client
from tests.tokens import KEY, TOKEN_SETTINGS

#: More than the sidecar promises, because machines are busy; far less than a stream would hold it open.
STOP_DEADLINE_SECONDS = 20.0


def _settings(url: str) -> Settings:
    return Settings.from_mapping({"oracle_url": url, **TOKEN_SETTINGS})


@pytest.mark.parametrize("path", ["/", "/api/tasks", "/api/tasks/none", "/nowhere", "/healthz", "/api/tasks?x=1"])
async def test_every_answer_carries_the_headers(client: Client, path: str) -> None:
    """Pages, data and errors alike."""
    async with client.raw(path) as response:
        assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert response.headers["Cache-Control"] == ("no-cache" if path == "/" else "no-store")
        assert "Server" not in response.headers


async def test_its_own_names_are_served(client: Client) -> None:
    """Whatever the port: a tunnel may end on any."""
    for host in ("localhost", "127.0.0.1:5556", "[::1]:80", "LOCALHOST:1"):
        async with client.raw("/healthz", headers={"Host": host}) as response:
            assert response.status == 200, host


async def test_other_names_are_refused(client: Client) -> None:
    """A page whose name was rebound to loopback gets nothing at all."""
    strange = ("evil.example", "127.0.0.1.evil.example", "localhost.evil:5556", "", "[::1", "localhost:", "a@localhost")
    for host in strange:
        for path in ("/", "/api/tasks", "/api/tasks/subscribe", "/healthz"):
            async with client.raw(path, headers={"Host": host}) as response:
                assert response.status == 421, (host, path)
                assert (await response.json())["error"]["code"] == "wrong_host"


async def test_a_wrong_method_is_a_json_error(client: Client) -> None:
    """Nothing answers in HTML."""
    async with client.raw("/api/tasks", "POST") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET,HEAD"
        assert (await response.json())["error"]["code"] == "method_not_allowed"


async def test_readiness_names_its_parts(client: Client) -> None:
    """Ready once the database, the schema and the stream are there."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (answer := await client.get("/readyz"))[0] != 200 or answer[1]["listener"] != "hearing":
            await asyncio.sleep(0.01)
    assert answer == (200, {"status": "ok", "database": "ok", "listener": "hearing", "schema": "ok"})


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])
def test_it_refuses_to_be_reachable(host: str) -> None:
    """As long as it has no key by which to tell who asks."""
    with pytest.raises(ConfigurationError, match="loopback"):
        Sidecar(Settings.from_mapping({"oracle_url": "postgresql://"}), host=host)


async def test_a_taken_port_is_said(client: Client, sidecar: Sidecar, database: str) -> None:
    """Not a traceback of asyncio's."""
    port = int(sidecar.address.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConfigurationError, match="--port"):
        await Sidecar(_settings(database), port=port).start()


async def test_it_migrates_unless_told_not_to(empty_database: str) -> None:
    """--no-migrate is for those who migrate by hand."""
    with pytest.raises(SchemaMissing):
        await Sidecar(_settings(empty_database), port=0, migrates=False).start()
    sidecar = Sidecar(_settings(empty_database), port=0)
    await sidecar.start()
    await sidecar.stop()
    await sidecar.stop()


async def test_a_database_that_is_away_is_waited_for(private_postgres: PostgresServer) -> None:
    """From the start, and again later: clients are kept, nothing is lost, and /readyz tells."""
    private_postgres.stop()
    sidecar = Sidecar(_settings(private_postgres.dsn()), port=0)
    await sidecar.start()
    try:
        async with aiohttp.ClientSession() as session:
            client = Client(session, sidecar.address)
            status, body = await client.get("/readyz")
            assert (status, body["database"]) == (503, "unavailable")
            status, body = await client.get("/api/tasks")
            assert (status, body["error"]["code"]) == (503, "database_unavailable")
            await asyncio.to_thread(private_postgres.start)
            await _ready(client, 200)

            cursor = (await client.ok("/api/tasks"))["cursor"]
            async with client.subscribe(after=cursor) as stream:
                await stream.until("summary")
                await asyncio.to_thread(private_postgres.kill)
                await _ready(client, 503)
                async with client.subscribe(after=cursor) as meanwhile:
                    await asyncio.to_thread(private_postgres.start)
                    with Feeder(private_postgres.dsn()) as feeder:
                        await asyncio.to_thread(feeder.tell, transition("t"))
                    assert (await stream.until("task")).data["task_id"] == "t"
                    assert (await meanwhile.until("task")).data["task_id"] == "t"
    finally:
        await sidecar.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_with_streams_open(tmp_path: Path, database: str, number: int) -> None:
    """`celery -A app oracle` says where it is, closes open streams, exits 0."""
    async with _command(tmp_path, database) as (process, address), aiohttp.ClientSession() as session:
        async with Client(session, address).subscribe() as stream:
            await stream.until("summary")
            process.send_signal(number)
            with pytest.raises(EOFError):
                await stream.until("the end of the stream")
        async with asyncio.timeout(STOP_DEADLINE_SECONDS):
            _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert "Traceback" not in errors.decode()
    assert "Task was destroyed" not in errors.decode()


async def test_without_a_schema_the_command_fails_in_words(tmp_path: Path, empty_database: str) -> None:
    """Exit code 1 and what to run, no traceback; after running it, it starts."""
    _, refused = await _finished(tmp_path, empty_database, "--no-migrate")
    assert "celery -A shop oracle migrate" in refused
    assert "Traceback" not in refused
    planned, _ = await _finished(tmp_path, empty_database, "migrate", "--dry-run", code=0)
    assert "Would apply migration 1" in planned
    applied, _ = await _finished(tmp_path, empty_database, "migrate", code=0)
    assert "Applied migration 1" in applied
    again, _ = await _finished(tmp_path, empty_database, "migrate", code=0)
    assert "Nothing to do" in again
    async with _command(tmp_path, empty_database, "--no-migrate") as (process, _):
        process.terminate()
        await process.communicate()


def _environment(folder: Path, database: str) -> dict[str, str]:
    (folder / "shop.py").write_text(
        "import os\nfrom celery import Celery\n"
        "app = Celery('shop', broker='memory://')\n"
        "app.conf.oracle_url = os.environ['SHOP_DATABASE']\n"
        f"app.conf.oracle_jwt_key = {KEY!r}\n"
    )
    return {**os.environ, "SHOP_DATABASE": database, "PYTHONPATH": str(Path.cwd())}


async def _spawn(folder: Path, database: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "celery", "-A", "shop", "oracle", *arguments),
        cwd=folder,
        env=_environment(folder, database),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _finished(folder: Path, database: str, *arguments: str, code: int = 1) -> tuple[str, str]:
    process = await _spawn(folder, database, *arguments)
    async with asyncio.timeout(DEADLINE_SECONDS):
        output, errors = await process.communicate()
    assert process.returncode == code, errors.decode()
    return output.decode(), errors.decode()


@asynccontextmanager
async def _command(
    folder: Path, database: str, *arguments: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await _spawn(folder, database, "--port", str(free_port()), *arguments)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            line = (await process.stdout.readline()).decode()
        match = re.fullmatch(r"Oracle is at (http://127\.0\.0\.1:\d+/)\n", line)
        assert match is not None, line
        yield process, match[1]
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def _ready(client: Client, status: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await client.get("/readyz"))[0] != status:
            await asyncio.sleep(0.05)
