"""A newcomer's first minutes: the README and docs/getting-started.md are followed block by block, in an empty folder.

What they say to write is written, what they say to type is typed, with the addresses of the test's own servers. Only
installing is left out: the environment is that of the tests, and tests/acceptance/test_package.py installs the wheel.
``make faults-full`` walks every way with both brokers.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.scale import is_full
from tests.local_processes import LocalProcess
from tests.pages import every_block
from tests.polling import eventually
from tests.ports import free_port
from tests.walkthroughs import Block, blocks

STARTED = "docs/getting-started.md"
PROJECTS = ("## A plain Celery project", "## A Django project")
#: What the walker has done already.
INSTALLING = re.compile(r"^(pip install|python3 -m venv|\. \.venv/)")
#: What goes on until it is stopped.
LASTING = re.compile(r"^celery -A \w+ (worker\b.*|oracle)$")
COMMAND_SECONDS = 120
#: That a browser waits for an answer.
ANSWER_SECONDS = 60


class Walker:
    """Somebody in an empty folder, with two servers and a page to follow."""

    def __init__(self, folder: Path, broker: str, database: str) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self.addresses = {
            "amqp://guest:guest@localhost//": broker,
            "postgresql://user:password@localhost/shop": database,
        }
        self.env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "XDG_STATE_HOME": str(folder.parent / "state"),
            "CELERY_ORACLE_PORT": self.url.rpartition(":")[2],
            "C_FORCE_ROOT": "1",
        }
        self.lasting: list[LocalProcess] = []
        self._browser: httpx.Client | None = None

    def follow(self, page: str, heading: str) -> None:
        for block in blocks(page, heading):
            if block.language == "python" and block.file is not None:
                self.write(block)
            elif block.language == "sh":
                for line in block.text.splitlines():
                    if not INSTALLING.match(line):
                        self.type(line)

    def write(self, block: Block) -> None:
        assert block.file is not None
        path = self.folder / block.file
        text = block.text
        for said, real in self.addresses.items():
            text = text.replace(said, real)
        before = path.read_text() if block.is_appended else ""
        path.parent.mkdir(exist_ok=True)
        path.write_text(before + text)

    def type(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        if LASTING.match(line):
            program = LocalProcess(words, self.folder.parent / f"{words[3]}.log", env=self.env, cwd=self.folder)
            self.lasting.append(program.start(wait=False))
            return
        self.tasks()  # who types on has seen the dashboard come up
        done = subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    def tasks(self) -> dict[str, dict[str, Any]]:
        """What the dashboard shows, by the name of the function."""
        dashboard = next((part for part in self.lasting if "oracle" in part.command), None)
        if dashboard is None:
            return {}
        if self._browser is None:
            dashboard.wait_for_log("/#/login/")
            link = re.search(r"http://\S+/#/login/(\S+)", dashboard.log)
            assert link is not None
            self._browser = httpx.Client(base_url=self.url, timeout=ANSWER_SECONDS)
            self._browser.post("/api/session", json={"token": link[1]}).raise_for_status()
        answer = self._browser.get("/api/tasks").raise_for_status().json()
        return {task["name"].rpartition(".")[2]: task for task in answer["tasks"]}

    def sees(self, **statuses: str) -> None:
        def are_so() -> bool:
            found = self.tasks()
            return {name: found[name]["status"] for name in statuses if name in found} == statuses

        try:
            eventually(are_so, f"the page shows {statuses}")
        finally:
            if not are_so():
                print(*(part.log for part in self.lasting))

    def log_of(self, name: str) -> str:
        assert self._browser is not None
        return self._browser.get(f"/api/tasks/{self.tasks()[name]['task_id']}/logs").text

    def leave(self) -> None:
        if self._browser is not None:
            self._browser.close()
        for part in self.lasting:
            part.stop()


@pytest.fixture
def walker(request: pytest.FixtureRequest, tmp_path: Path, empty_database: str) -> Iterator[Walker]:
    """With the broker that the test's parameter names."""
    folder = tmp_path / "project"
    folder.mkdir()
    walker = Walker(folder, request.getfixturevalue(f"{request.param}_url"), empty_database)
    yield walker
    walker.leave()


def test_every_file_of_the_page_is_walked_through() -> None:
    """What it says to write belongs to one of the two projects."""
    walked = {each.text for heading in PROJECTS for each in blocks(STARTED, heading) if each.file is not None}
    assert {each.text for each in every_block("getting-started.md") if each.name} == walked


both = pytest.mark.parametrize("walker", ["rabbitmq", "redis"], indirect=True)


@pytest.mark.parametrize("walker", ["rabbitmq"], indirect=True)
def test_the_readme(walker: Walker) -> None:
    """Its three steps lead to a task on the page, and what the task has printed is beside it."""
    walker.follow("README.md", "## Put it into your project")
    walker.sees(greet="completed")
    eventually(lambda: "hello world" in walker.log_of("greet"), "its line is there")


if is_full():

    @both
    def test_a_plain_celery_project(walker: Walker) -> None:
        """From an empty folder to a task that is completed and one that failed."""
        walker.follow(STARTED, PROJECTS[0])
        walker.sees(add="completed", divide="failed")

    @both
    def test_a_django_project(walker: Walker) -> None:
        """By the settings alone, from `startproject` on."""
        walker.follow(STARTED, PROJECTS[1])
        walker.sees(settle="completed", refund="failed")
