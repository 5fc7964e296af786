"""A program: sends tasks of every kind at a steady rate, as a web process would. ``python -m tests.soak.load``

Takes a line of JSON at a time, ``{"rate": tasks a second}``, and answers with how many it has sent until then.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Celery

from oracle_celery import owner
from tests.acceptance import signal_app

__all__ = ["Load"]

TICK_SECONDS = 0.1
OWNERS = [f"owner-{number}" for number in range(20)]
#: Names with arguments, each as often as it stands here.
KINDS: list[tuple[str, tuple[Any, ...]]] = [
    *[("succeed", ({"order": 17, "lines": ["tea", "sugar"]},))] * 8,
    *[("log_lines", (5,))] * 3,
    *[("sleep", (0.02,))] * 2,
    ("fail", ("out of stock",)),
    ("retry_in_vain", ()),
    ("spawn", (1,)),
    ("run_eagerly", (2,)),
    ("reject", ()),
    ("ignore", ()),
]


class Sender(threading.Thread):
    def __init__(self, app: Celery) -> None:
        super().__init__(name="sender", daemon=True)
        self.rate = 0.0
        self.sent = 0
        self._app = app
        self._dice = random.Random(17)

    def run(self) -> None:
        due = 0.0
        while True:
            time.sleep(TICK_SECONDS)
            due += self.rate * TICK_SECONDS
            while due >= 1 and self.rate:
                due -= 1
                name, arguments = self._dice.choice(KINDS)
                with owner(self._dice.choice(OWNERS)):
                    self._app.tasks[f"signals.{name}"].apply_async(arguments)
                self.sent += 1


def main() -> None:
    variables = os.environ
    app = signal_app.make_app(
        variables["SIGNALS_BROKER_URL"], variables["SIGNALS_DATABASE_URL"], variables["SIGNALS_STATE_DIR"]
    )
    app.set_current()
    sender = Sender(app)
    sender.start()
    for line in sys.stdin:
        sender.rate = float(json.loads(line)["rate"])
        time.sleep(3 * TICK_SECONDS)  # what was on its way is counted
        print(json.dumps({"sent": sender.sent}), flush=True)


class Load:
    """The program, from outside."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, **environment},
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def set_rate(self, rate: float) -> int:
        """Tasks a second from now on; how many were sent until now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"rate": rate}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the sender has ended")
        return int(json.loads(answer)["sent"])

    def stop(self) -> None:
        """Safe twice."""
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                end.close()


if __name__ == "__main__":
    main()
