"""The programs of docs/ are run: those of the event stream, the channel, HTTP and the app object, as they are printed,
and the commands of the pages that operators read.

The page's address becomes the test's own sidecar, and TOKEN is an admin's; nothing else is changed.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from oracle_celery import Oracle, cli
from oracle_celery.sidecar.server import Sidecar
from oracle_celery.states import Status
from tests.browser.narrator import Narrator
from tests.factories import Feeder, transition
from tests.pages import PAGES, block, blocks, every_block
from tests.sidecar_fixtures import DEADLINE_SECONDS, Client
from tests.tokens import token

#: Ends a line for Python's splitlines, and for no stream of ours.
ODD_NAME = "shop.pay\u2028twice"
PAGE_ADDRESS = "http://127.0.0.1:5556"
#: What blocks say to type, but for the dashboard itself.
COMMANDS = sorted(
    {
        tuple(shlex.split(found[1], comments=True))
        for page in PAGES
        for each in blocks(page)
        if each.language in ("", "sh")
        for line in each.text.splitlines()
        if (found := re.match(r"celery -A shop oracle ([a-z].*)", line))
    }
)


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database) as opened:
        yield opened


@pytest.fixture
def narrator(database: str) -> Iterator[Narrator]:
    narrator = Narrator(database)
    yield narrator
    narrator.close()


@asynccontextmanager
async def running(*command: str, folder: Path, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, cwd=folder, env={**os.environ, "PYTHONUNBUFFERED": "1", **env}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_with(process: asyncio.subprocess.Process, word: str) -> str:
    """The next line of its output in which that is."""
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            line = (await process.stdout.readline()).decode()
            assert line, f"it ended before it said {word!r}"
            if word in line:
                return line


@pytest.mark.parametrize("name", ["aiohttp", "httpx"])
async def test_the_python_clients_of_the_stream(
    sidecar: Sidecar, client: Client, feeder: Feeder, tmp_path: Path, name: str
) -> None:
    """What happens is printed, and what happened while the program was away when it runs again."""
    program = {
        "aiohttp": block("event-stream.md", "python", "aiohttp"),
        "httpx": block("event-stream.md", "python", "httpx"),
    }
    command = (sys.executable, "-c", program[name])
    env = {"ORACLE": sidecar.address.rstrip("/"), "TOKEN": token(role="admin")}
    async with running(*command, folder=tmp_path, **env) as process:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (tmp_path / "place").exists():  # it is there
                await asyncio.sleep(0.02)
        await asyncio.to_thread(feeder.tell, transition("first", name=ODD_NAME))
        assert await line_with(process, "first") == "first pending\n"
        await asyncio.to_thread(feeder.tell, transition("second", Status.FAILED))
        assert await line_with(process, "second") == "second failed\n"
        place = (tmp_path / "place").read_text()
    await asyncio.to_thread(feeder.tell, transition("missed", Status.COMPLETED))
    (tmp_path / "place").write_text(place)
    async with running(*command, folder=tmp_path, **env) as process:
        await line_with(process, "missed completed")
    (tmp_path / "place").write_text("1.2.3.4.")  # of another database
    async with running(*command, folder=tmp_path, **env) as process:
        await line_with(process, "read the list again: other_database")


async def test_curl_and_the_stream(sidecar: Sidecar, client: Client, feeder: Feeder, tmp_path: Path) -> None:
    """The first command of the page."""
    command = block("event-stream.md", "sh", "curl").replace(PAGE_ADDRESS, sidecar.address.rstrip("/"))
    async with running("sh", "-c", f"exec {command}", folder=tmp_path, TOKEN=token(role="admin")) as process:
        await line_with(process, "event: heartbeat")
        await asyncio.to_thread(feeder.tell, transition("one"))
        await line_with(process, "event: task")
        assert '"task_id":"one"' in await line_with(process, "data:")


async def test_curl_and_commands(sidecar: Sidecar, client: Client, feeder: Feeder, tmp_path: Path) -> None:
    """docs/http.md: asking, cancelling one, and a bulk that is only counted."""
    await asyncio.to_thread(
        feeder.tell, transition("6d2c7a43-59f5-4ab0-9a47-0f1f6f2a8d11", name="shop.pay"), transition("b", name="shop.x")
    )
    token_line, *questions = block("http.md", "sh", "begin").splitlines()
    assert token_line.startswith("TOKEN=$(celery")  # tests/unit/test_cli.py makes one
    commands = "\n".join([*questions, block("http.md", "sh", "commands")])
    script = f"set -e\n{commands}".replace(PAGE_ADDRESS, sidecar.address.rstrip("/"))
    async with running("sh", "-c", script, folder=tmp_path, TOKEN=token(role="admin")) as process:
        assert process.stdout is not None
        said = (await process.stdout.read()).decode()
    assert '"openapi":"3.1' in said
    assert '"tasks":[]' in said  # nothing has failed
    assert '"outcome":"cancelled"' in said
    assert '"eligible":1' in said


async def test_listening_in_psql(database: str, feeder: Feeder, tmp_path: Path) -> None:
    """What it prints is what the page shows."""
    script = block("channel.md", "sql", "psql")
    async with running("psql", "-X", "-d", database, "-c", "SELECT 1", "-f", "-", folder=tmp_path) as process:
        await process.wait()
    process = await asyncio.create_subprocess_exec(
        "psql", "-X", "-a", "-d", database, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdin is not None
    process.stdin.write(script.encode())
    await process.stdin.drain()
    await line_with(process, "pg_sleep")
    await asyncio.to_thread(feeder.tell, transition("one", Status.FAILED))
    process.stdin.write(b"SELECT 1;\n")  # psql tells after a statement: here is another one, if the last was too early
    process.stdin.close()
    said = await line_with(process, "Asynchronous notification")
    await process.wait()
    assert '"oracle_channel" with payload "{"task_id":"one","new_status":"failed","timestamp":"20' in said


async def test_listening_in_python(database: str, feeder: Feeder, tmp_path: Path) -> None:
    """What is heard is there to be read."""
    program = block("channel.md", "python", "listen")
    server = conninfo_to_dict(database)
    url = f"postgresql://{server['user']}@{server['host']}:{server['port']}/{server['dbname']}"
    async with running(sys.executable, "-c", program, folder=tmp_path, DATABASE_URL=url) as process:
        await line_with(process, "listening")
        await asyncio.to_thread(feeder.tell, transition("one", Status.FAILED, name="shop.pay"))
        assert await line_with(process, "one") == "failed one shop.pay failed\n"


def test_the_app_object(database: str, redis_url: str, tmp_path: Path, narrator: Narrator) -> None:
    """Each block of its page, and docs/control.md's, one after the other, as a reader would type them."""
    for task_id in ("failed-1", "failed-2", "failed-3"):
        narrator.sent(task_id, "billing.charge")
        narrator.kept(task_id, "billing.charge")
        narrator.started(task_id)
        narrator.logged(task_id, "charging")
        narrator.failed(task_id)
    narrator.sent("waiting-1")
    narrator.sent("waiting-2")
    app = Celery("shop", broker=redis_url, set_as_current=False)
    app.conf.update(oracle_url=database, oracle_state_dir=str(tmp_path))
    oracle = Oracle(app)
    names = {"app": app, "waiting_id": "waiting-1", "failed_id": "failed-1"}
    try:
        for each in every_block("app-object.md"):
            exec(compile(each.text, str(each), "exec"), names)
        names |= {"task_id": "failed-3"}
        oracle.pause("emails")
        text = block("control.md", "python", "from_code").replace("timeout=60", "timeout=0.1")
        for number, line in enumerate(text.splitlines()[:4]):
            names["task_id"] = "waiting-2" if number == 0 else "failed-3"
            exec(line, names)
        exec("\n".join(text.splitlines()[4:]), names)
        statuses = {task.task_id: task.status for task in oracle.tasks().tasks}
    finally:
        oracle.stop()
        app.close()
    assert statuses["waiting-1"] == statuses["waiting-2"] == "cancelled"
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM oracle.retry").fetchone() == (2,)


def test_commands(database: str, redis_url: str, feeder: Feeder) -> None:
    """Each does what it says, and finds nothing wrong."""
    feeder.tell(transition("one", Status.FAILED, name="billing.charge"))
    assert {name for name, *_ in COMMANDS} >= {"tasks", "doctor", "retention", "migrate"}
    app = Celery("shop", broker=redis_url, set_as_current=False)
    app.conf.oracle_url = database
    context = CLIContext(app=app, no_color=True, workdir=None)
    try:
        for command in COMMANDS:
            done = CliRunner().invoke(cli.oracle, command, obj=context, catch_exceptions=False)
            assert done.exit_code == 0, f"{command}\n{done.output}"
    finally:
        app.close()
