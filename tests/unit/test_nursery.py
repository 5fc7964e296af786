"""What the tests' own nursery brings forth is a program like any other: `tests.nursery`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import celery

from tests.local_processes import REPOSITORY
from tests.nursery import nursery

PATIENCE_SECONDS = 60.0
APP = """
import os, signal, sys, time
from celery import Celery
app = Celery("child", broker="memory://")
print(os.environ["WORD"], "HOME" in os.environ, os.getsid(0) == os.getpid(), os.getcwd(), flush=True)
if os.environ["WORD"] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_is_a_program_of_its_own(tmp_path: Path) -> None:
    """With the environment, session, folder and log that it was given, and with an exit code or the signal that ended
    it; it leaves nothing for the next one."""
    (tmp_path / "child_app.py").write_text(APP)
    log = tmp_path / "log"

    def run(word: str, *arguments: str, cwd: Path = tmp_path) -> int:
        env = {"WORD": word, "PATH": os.environ["PATH"]}
        return nursery("beat").start(arguments, log, env=env, cwd=cwd).wait(PATIENCE_SECONDS)

    assert run("one", "--version", cwd=REPOSITORY) == 0
    assert log.read_text().startswith(celery.__version__)
    assert run("two", "--workdir", str(tmp_path), "-A", "child_app", "report") == 0
    assert f"two False True {tmp_path}" in log.read_text()
    assert run("kill", "--workdir", str(tmp_path), "-A", "child_app", "report") == -signal.SIGKILL
    assert run("four", "-A", "child_app_that_is_not_there", "report") == 2
    assert run("five", "--no-such-option") == 2
