"""The demo as a user runs it: it opens, shows life, stops as one and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from oracle_celery.embedded import EmbeddedPostgres
from tests.local_processes import REPOSITORY, LocalProcess
from tests.ports import free_port

LIFE_SECONDS = 60
ANSWER_SECONDS = 60
POLL_SECONDS = 0.2


class Demo(LocalProcess):
    """``demo.py`` in a folder of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder / "demo"
        command = [sys.executable, str(REPOSITORY / "examples" / "quickstart" / "demo.py")]
        super().__init__([*command, "--folder", str(self.folder), "--port", str(port)], folder / "demo.log")

    def is_ready(self) -> bool:
        return "Ctrl-C stops everything" in self.log

    @property
    def link(self) -> str:
        found = re.search(r"http://\S+", self.log)
        assert found, self.log
        return found[0]

    def parts(self) -> dict[str, int]:
        """Process ids of the programs that it started, by name."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        found = {}
        for pid in children:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            for name, word in {"sidecar": "oracle", "worker": "worker", "beat": "beat"}.items():
                if word in words:
                    found[name] = int(pid)
            if any(word.endswith("traffic.py") for word in words):
                found["traffic"] = int(pid)
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo that runs; it is stopped whatever happens."""
    demo = Demo(tmp_path, free_port())
    demo.start()
    yield demo
    demo.stop()
    EmbeddedPostgres(demo.folder / "postgres").remove()


def _log_in(link: str) -> urllib.request.OpenerDirector:
    """As the page does that the link opens: what is behind the # buys a cookie, once."""
    address, _, token = link.partition("#/login/")
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    body = json.dumps({"token": token}).encode()
    request = urllib.request.Request(f"{address}api/session", body, {"Content-Type": "application/json"})
    with browser.open(request, timeout=ANSWER_SECONDS) as answer:
        assert json.load(answer)["role"] == "admin"
    return browser


def _statuses(browser: urllib.request.OpenerDirector, link: str) -> set[str]:
    with browser.open(f"{link.partition('#')[0]}api/tasks?limit=200", timeout=ANSWER_SECONDS) as answer:
        return {task["status"] for task in json.load(answer)["tasks"]}


def _assert_nothing_is_left(demo: Demo, parts: dict[str, int]) -> None:
    assert not [name for name, pid in parts.items() if Path(f"/proc/{pid}").exists()]
    assert not demo.folder.exists()
    assert not EmbeddedPostgres(demo.folder / "postgres").home.exists()


def test_shows_tasks_of_every_kind_and_stops_with_one_interrupt(demo: Demo) -> None:
    """Its dashboard tells of tasks that succeeded and failed; one Ctrl-C ends every process and removes every file."""
    wanted = {"completed", "failed", "pending"}
    seen: set[str] = set()
    browser = _log_in(demo.link)
    deadline = time.monotonic() + LIFE_SECONDS
    while not wanted <= seen:
        assert time.monotonic() < deadline, f"only {seen} after {LIFE_SECONDS} s:\n{demo.log}"
        time.sleep(POLL_SECONDS)
        seen |= _statuses(browser, demo.link)
    parts = demo.parts()
    assert set(parts) == {"sidecar", "worker", "beat", "traffic"}
    demo.send_signal(signal.SIGINT)
    assert demo.wait() == 0, demo.log
    _assert_nothing_is_left(demo, parts)


def test_a_part_that_dies_is_named_and_ends_the_rest(demo: Demo) -> None:
    """When the worker is killed the demo says so, with the worker's last lines, and stops all the others."""
    parts = demo.parts()
    os.kill(parts["worker"], signal.SIGKILL)
    assert demo.wait() == 1
    _, told, lines = demo.log.partition("The worker ended with exit code -9. Its last lines:")
    assert told
    # that it is ready, or what it has done since
    assert re.search(r"^    \[[^]]+: \w+/(MainProcess|ForkPoolWorker-\d+)\]", lines, re.MULTILINE), lines
    _assert_nothing_is_left(demo, parts)


def test_a_taken_port_is_replaced(tmp_path: Path) -> None:
    """Another program on the port is left alone: the demo says that it takes another one."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        demo = Demo(tmp_path, port)
        try:
            demo.start()
            assert f"Port {port} is taken" in demo.log
            assert f":{port}" not in demo.link
            assert demo.terminate() == 0
        finally:
            demo.stop()
