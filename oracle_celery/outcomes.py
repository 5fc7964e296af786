"""Ends of runs that no span tells: of a killed child, by a hard time limit, by a revocation. Told by the main process.

Guarantee: one span ``oracle.outcome`` for each, a child of the span that sent the task's message, and no exporter in
the main process: a short-lived process of its own sends them, many at a time (see `tracing`). Telling never blocks.
What bites: starting that process costs a third of a second of a core, so outcomes are gathered first.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import subprocess
import sys
import threading
import time
from typing import Any

import msgspec

__all__ = ["Outcome", "OutcomeSender"]

logger = logging.getLogger(__name__)

#: Seconds in which outcomes are gathered, and how many one process sends.
GATHER_SECONDS = 0.5
BATCH_LIMIT = 500
#: Outcomes that wait at most; more are not told.
WAITING_LIMIT = 10_000
#: Seconds after which a sending process is given up.
SEND_LIMIT = 20.0
#: Seconds that a stopping worker waits for the last ones.
STOP_LIMIT = 3.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the span will say."""

    traceparent: str
    start_ns: int  # of the wall's clock, as end_ns
    end_ns: int
    description: str
    attributes: dict[str, str]


class OutcomeSender:
    """Its thread begins with the first outcome."""

    def __init__(self, app_name: str, node: str | None) -> None:
        self._command = [sys.executable, "-m", "oracle_celery.tracing", app_name, node or ""]
        self._waiting: queue.Queue[Outcome | None] = queue.Queue(WAITING_LIMIT)
        self._thread: threading.Thread | None = None
        self._has_failed = False

    def tell(self, outcome: Outcome) -> None:
        try:
            self._waiting.put_nowait(outcome)
        except queue.Full:
            self._complain(f"more than {WAITING_LIMIT} wait")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="oracle-outcomes", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            with contextlib.suppress(queue.Full):  # of what could not be sent: nobody waits for it
                self._waiting.put_nowait(None)
                self._thread.join(STOP_LIMIT)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            batch = [self._waiting.get()]
            deadline = time.monotonic() + GATHER_SECONDS
            while batch[-1] is not None and len(batch) < BATCH_LIMIT:
                try:
                    batch.append(self._waiting.get(timeout=max(0.0, deadline - time.monotonic())))
                except queue.Empty:
                    break
            is_last = batch[-1] is None
            try:
                self._send([outcome for outcome in batch if outcome is not None])
            except Exception as error:  # noqa: BLE001  # the next ones are told all the same
                self._complain(str(error))

    def _send(self, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return
        lines = b"".join(msgspec.json.encode(outcome) + b"\n" for outcome in outcomes)
        options: dict[str, Any] = {"input": lines, "capture_output": True, "timeout": SEND_LIMIT, "check": True}
        options["start_new_session"] = True  # Ctrl-C is the worker's, which waits for this one
        try:
            said = subprocess.run(self._command, **options).stderr  # noqa: S603  # our own
        except subprocess.CalledProcessError as error:
            said = error.stderr
        except (OSError, subprocess.SubprocessError) as error:
            said = str(error).encode()
        if said.strip():  # exporters log what they cannot send
            self._complain(said.decode(errors="replace").strip().rpartition("\n")[2])

    def _complain(self, detail: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            logger.warning(
                "Oracle could not export spans of tasks that were ended from outside: %s. Told once.", detail
            )
