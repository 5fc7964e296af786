"""What is journalled: typed, frozen structs, one JSON object a line.

Keys are short because PostgreSQL parses every line and never Python: the recorder hands the lines of a segment to
`oracle.ingest` as they are. Times of facts are readings of the host's monotonic clock in nanoseconds; the segment's
header says which boot they belong to, and the recorder turns them into database time, so that a clock that is set
while a worker runs reorders nothing. Points in time that a user chose (eta, expires) are seconds since the epoch.
"""

from __future__ import annotations

import msgspec

__all__ = ["KeptMessage", "LogLine", "Progress", "SegmentHeader", "Transition", "encode_line"]


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """First line of every journal segment: whose facts these are and how to read their clock."""

    file_id: str  # UUID, the segment's name in the database's fence
    kind: str  # "transitions", "messages" or "logs"
    boot_id: str  # the host's boot: monotonic readings of different boots do not compare
    monotonic_ns: int  # both clocks, read together when the segment was opened
    wall_ns: int
    origin: str  # "pid@host" of the writing process
    node: str | None = None  # Celery's node name, for a worker's processes
    worker_id: str | None = None  # UUID of that worker's incarnation
    format: int = 1


class Transition(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    rename={
        "task_id": "i",
        "status": "s",
        "rank": "k",
        "at": "m",
        "reason": "e",
        "retries": "r",
        "run_id": "v",
        "run_at": "u",
        "name": "n",
        "queue": "q",
        "user_id": "o",
        "arguments": "a",
        "result_payload": "p",
        "error_type": "g",
        "error_message": "f",
        "traceback": "b",
        "trace_id": "t",
        "span": "w",
        "correlation_id": "co",
        "runtime": "d",
        "eta": "h",
        "expires": "x",
        "root_id": "ro",
        "parent_id": "pa",
        "group_id": "gr",
    },
):
    """One fact about one task."""

    task_id: str
    status: int  # states.Status
    rank: int  # states.Rank
    at: int  # monotonic ns
    reason: str | None = None
    retries: int = 0
    run_id: str | None = None
    run_at: int | None = None  # monotonic ns at which the run was minted; None sorts before every run
    name: str | None = None
    queue: str | None = None
    user_id: str | None = None
    arguments: msgspec.Raw | None = None  # JSON {"args": [...], "kwargs": {...}}
    result_payload: msgspec.Raw | None = None  # JSON
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    trace_id: str | None = None  # 32 hex digits
    span: str | None = None  # and where in the trace: trace_context.TraceContext
    correlation_id: str | None = None
    runtime: float | None = None  # seconds
    eta: float | None = None  # seconds since the epoch
    expires: float | None = None  # seconds since the epoch
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None


class LogLine(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    rename={
        "task_id": "i",
        "run_id": "v",
        "at": "m",
        "number": "z",
        "level": "l",
        "logger": "g",
        "message": "f",
        "span_id": "si",
    },
):
    """One line that a running task logged; without a message, that as many lines were not kept as numbers are missing
    up to its own, and in the logger's place the setting that says why."""

    task_id: str
    run_id: str | None = None
    at: int  # monotonic ns
    number: int = 0  # of the line within its run, kept or not: a number that is missing is a line that was not kept
    level: int  # logging's number
    logger: str
    message: str | None = None
    span_id: str | None = None  # 16 hex digits: the span in which it was logged


class Progress(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    rename={"task_id": "i", "run_id": "v", "at": "m", "state": "s", "meta": "p"},
):
    """How far a running task says that it is; the newest one counts. It travels with log lines."""

    task_id: str
    run_id: str | None = None
    at: int  # monotonic ns
    state: str | None = None  # the word that the task chose
    meta: msgspec.Raw  # JSON


class KeptMessage(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    rename={"task_id": "i", "at": "m", "is_chord_member": "c", "missing": "w", "key_id": "y", "envelope": "b"},
):
    """The message of a task that somebody may want to run again, or why there is none."""

    task_id: str
    at: int  # monotonic ns
    is_chord_member: bool = False
    missing: str | None = None  # kept_message's word for why it is not kept
    key_id: str | None = None
    envelope: bytes | None = None  # base64 in JSON


_encoder = msgspec.json.Encoder()


def encode_line(record: Transition | LogLine | Progress | KeptMessage | SegmentHeader) -> bytes:
    """One record as one line; JSON escapes every line break inside."""
    return _encoder.encode(record) + b"\n"
