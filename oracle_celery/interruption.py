"""A running task is interrupted in its own process: `TaskCancelled` is raised where its code is just then.

Guarantee: only the run that was named is hit. The worker's main process writes down which run it means and sends
`INTERRUPT`; the handler here compares it with the run whose code it has interrupted, read off the stack, and answers in
a file. Not yet in the task's code, no longer in it, or in the middle of Oracle's own: then it says so and does nothing.
A request has a number and is answered once, however often it is sent.

What will bite: the signal must be nobody else's. SIGUSR1 is billiard's soft time limit: a handler of ours before it
would be one more line in every traceback that it causes.
"""

from __future__ import annotations

import contextlib
import dis
import os
import signal
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import msgspec
from celery.app import trace

from oracle_celery.run import CANCEL_RAISED, RUN_ID
from oracle_celery.task_cancelled import TaskCancelled

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = [
    "FOREIGN",
    "INTERRUPT",
    "LATER",
    "NESTED",
    "PARK",
    "PARKED",
    "RAISE",
    "RAISED",
    "Answer",
    "InterruptRequest",
    "Interruption",
    "answer_path",
    "is_interruptible",
    "request_path",
    "write_atomically",
]

#: A real-time signal away from the first ones, which other libraries take; where there are none (macOS), SIGUSR2.
INTERRUPT = signal.SIGRTMIN + 11 if hasattr(signal, "SIGRTMIN") else getattr(signal, "SIGUSR2", 0)

#: What is asked for: raise `TaskCancelled`; stay where you are until you are killed.
RAISE = "raise"
PARK = "park"
#: And what came of it.
RAISED = "raised"
NESTED = "nested"  # raised in a task that the named one runs eagerly, which may have swallowed it: ask again
PARKED = "parked"
LATER = "later"  # the run is this one, but not at a place where it can be interrupted
FOREIGN = "foreign"  # another run, or none

#: Seconds a parked child waits for its end before it brings it about.
PARK_LIMIT = 30.0
PARK_POLL_SECONDS = 0.05

OWN_MODULES = "oracle_celery."


class InterruptRequest(msgspec.Struct, frozen=True):
    number: int
    run_id: str
    action: str


class Answer(msgspec.Struct, frozen=True):
    number: int
    answer: str


def request_path(folder: Path, pid: int) -> Path:
    return folder / f"interrupt.{pid}.request"


def answer_path(folder: Path, pid: int) -> Path:
    return folder / f"interrupt.{pid}.answer"


def write_atomically(path: Path, said: InterruptRequest | Answer) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(msgspec.json.encode(said))
    draft.replace(path)


class Interruption:
    """In a child of a prefork pool: answers the main process."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        folder = oracle.folder.absolute()  # a task may go elsewhere
        self._request_path = request_path(folder, os.getpid())
        self._answer_path = answer_path(folder, os.getpid())
        self._answered: int | None = None
        self._asked_run: str | None = None

    def install(self) -> None:
        """In ``worker_process_init``: Celery has reset the signals that it resets. Also where there is no folder:
        one that is mended later brings requests, and their signal would end a child that does not know it."""
        for path in (self._request_path, self._answer_path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)  # of an earlier process with this number
        signal.signal(INTERRUPT, self.on_signal)

    def is_asked(self, frame: FrameType | None) -> bool:
        """Whether the run below `frame` was asked to end."""
        if self._asked_run is None:
            return False
        run, _ = _outermost_run(frame)
        return run is not None and _run_id(run) == self._asked_run

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        is_hit = False
        try:
            request = self._read()
            is_hit = request is not None and request.number != self._answered and self._handle(request, frame)
        except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
            self._oracle.guest.count_failure()
        if is_hit:
            raise TaskCancelled

    def _read(self) -> InterruptRequest | None:
        try:
            return msgspec.json.decode(self._request_path.read_bytes(), type=InterruptRequest)
        except FileNotFoundError:
            return None

    def _handle(self, request: InterruptRequest, frame: FrameType | None) -> bool:
        """Whether `TaskCancelled` is to be raised now."""
        run, is_nested = _outermost_run(frame)
        if run is None or _run_id(run) != request.run_id:
            self._answer(request, FOREIGN)
            return False
        if request.action == PARK:
            if run.f_lineno > BODY_LINE:
                self._answer(request, LATER)  # its outcome is known and being stored
            else:
                self._answer(request, PARKED)
                _await_death()
            return False
        self._asked_run = request.run_id
        if run.f_lineno != BODY_LINE or _is_our_own(frame, run):
            self._answer(request, LATER)
            return False
        run.f_locals["task_request"].__dict__[CANCEL_RAISED] = True
        self._answer(request, NESTED if is_nested else RAISED)
        return True

    def _answer(self, request: InterruptRequest, answer: str) -> None:
        self._answered = request.number
        write_atomically(self._answer_path, Answer(request.number, answer))


def _await_death() -> None:
    """Comes from the main process, within moments; should that have trouble, from ourselves: we must not go on."""
    deadline = time.monotonic() + PARK_LIMIT
    while time.monotonic() < deadline:
        time.sleep(PARK_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _outermost_run(frame: FrameType | None) -> tuple[FrameType | None, bool]:
    """The frame in which Celery runs the task that the pool was given, and whether it runs another one within."""
    found, count = None, 0
    while frame is not None:
        if frame.f_code is TRACE_CODE or frame.f_code == TRACE_CODE:
            found, count = frame, count + 1
        frame = frame.f_back
    return found, count > 1


def _run_id(run: FrameType) -> Any:
    request = run.f_locals.get("request")
    return request.get(RUN_ID) if isinstance(request, dict) else None


def _is_our_own(frame: FrameType | None, run: FrameType) -> bool:
    """Whether Oracle itself was interrupted, on behalf of the task: it may be in the middle of a line."""
    while frame is not None and frame is not run:
        if str(frame.f_globals.get("__name__")).startswith(OWN_MODULES):
            return True
        frame = frame.f_back
    return False


def _trace_code() -> CodeType | None:
    """Of the function that Celery builds for each task, around its code."""
    constants = trace.build_tracer.__code__.co_consts
    return next((item for item in constants if isinstance(item, CodeType) and item.co_name == "trace_task"), None)


def _body_line() -> int | None:
    """The line in it on which the task's own code runs: what stands before is not yet it, what follows no longer."""
    with contextlib.suppress(AttributeError):
        for instruction in dis.get_instructions(TRACE_CODE):  # type: ignore[arg-type]
            if instruction.argval == "fun" and instruction.positions is not None:
                return instruction.positions.lineno
    return None


def is_interruptible(worker: Any) -> bool:
    """Whether a task that this worker runs can be interrupted."""
    return (
        worker.pool_cls.__module__ == "celery.concurrency.prefork"
        and getattr(worker, "pool_start_method", "fork") == "fork"  # else children know nothing of this
        and INTERRUPT > 0
        and BODY_LINE > 0
    )


TRACE_CODE = _trace_code()
BODY_LINE = (_body_line() or 0) if TRACE_CODE is not None else 0
