"""The proxies of docs/operating.md, as they are printed but for addresses: streams come through as they are told."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest

from oracle_celery.settings import Settings
from oracle_celery.sidecar.server import Sidecar
from tests.factories import Feeder, transition
from tests.pages import block
from tests.polling import eventually
from tests.ports import free_port
from tests.sidecar_fixtures import Client
from tests.tokens import TOKEN_SETTINGS, bearer

NAME = "oracle.example.org"
NGINX = """
{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    gzip on; gzip_types *;
    {server}
}}
"""


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: process.poll() is not None or _answers(port), "the proxy is there")
        assert process.poll() is None, "the proxy ended at once"
        yield
    finally:
        process.kill()
        process.wait(30)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def nginx(sidecar: str, port: int, folder: Path) -> list[str]:
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={NAME}"
    files = ["-keyout", str(folder / "oracle.key"), "-out", str(folder / "oracle.crt")]
    subprocess.run([*command.split(), *files], check=True, stderr=subprocess.DEVNULL)
    server = block("operating.md", "nginx", "nginx").replace("listen 443", f"listen {port}")
    server = server.replace("/etc/ssl", str(folder)).replace("127.0.0.1:5556", sidecar)
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, server=server, user="user root;" if os.geteuid() == 0 else ""))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "make test installs nginx"
    return [program, "-p", str(folder), "-c", str(path)]


def caddy(sidecar: str, port: int, folder: Path) -> list[str]:
    text = block("operating.md", "caddyfile", "caddy").replace("127.0.0.1:5556", sidecar)
    path = folder / "Caddyfile"
    site = text.replace(NAME, f"http://{NAME}:{port}")  # here nobody gives it a certificate
    path.write_text(f"{{\n\tadmin off\n}}\n{site}")
    return ["caddy", "run", "--config", str(path), "--adapter", "caddyfile"]


@asynccontextmanager
async def through(proxy: str, database: str, folder: Path) -> AsyncIterator[Client]:
    settings = {"oracle_url": database, "oracle_public_url": f"https://{NAME}", **TOKEN_SETTINGS}
    sidecar = Sidecar(Settings.from_mapping(settings), port=0)
    await sidecar.start()
    port = free_port()
    address = sidecar.address.removeprefix("http://").rstrip("/")
    command = {"nginx": nginx, "caddy": caddy}[proxy](address, port, folder)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    scheme = "https" if proxy == "nginx" else "http"
    headers = {**bearer(role="admin"), "Host": NAME}
    try:
        with running(command, port):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
                yield Client(session, f"{scheme}://127.0.0.1:{port}", headers)
    finally:
        await sidecar.stop()


@pytest.mark.parametrize("proxy", ["nginx", "caddy"])
async def test_streams_come_through_a_proxy(proxy: str, database: str, tmp_path: Path) -> None:
    """Each event by itself, while the answer is open; a body of a bulk's size; a page's file."""
    async with through(proxy, database, tmp_path) as client:
        cursor = (await client.ok("/api/tasks"))["cursor"]
        async with client.subscribe(after=cursor) as stream:
            with Feeder(database) as feeder:
                for task_id in ("one", "two", "three"):  # the next is told when the last has arrived
                    await asyncio.to_thread(feeder.tell, transition(task_id))
                    [event] = await stream.tasks(1)
                    assert event.data["task_id"] == task_id
        ids = [f"{number:036d}" for number in range(30_000)]
        body = io.BytesIO(json.dumps({"action": "cancel", "ids": ids, "dry_run": True}).encode())
        kind = {"Content-Type": "application/json"}
        async with client.raw("/api/tasks/bulk", "POST", headers=kind, data=body) as response:
            assert response.status == 200, await response.text()
        async with client.raw("/") as response:
            assert response.status == 200
