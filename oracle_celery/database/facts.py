"""What readers are given: tasks, their history, their log lines and the numbers of the header, as the API tells them.

Points in time are ISO-8601 texts in UTC with microseconds and "Z"; durations are seconds. JSON that tasks were given or
returned is passed on as it is, byte by byte: a large integer stays exact.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from oracle_celery.states import Status

__all__ = [
    "Change",
    "HistoryEntry",
    "Instant",
    "LogLines",
    "LogPage",
    "LogRun",
    "ProgressList",
    "StatusWord",
    "Summary",
    "Task",
    "TaskDetail",
    "TaskDetails",
    "TaskLogLine",
    "TaskPage",
    "TaskProgress",
    "Transition",
    "TransitionEvent",
]


#: A point in time as everything that is answered tells it.
Instant = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
StatusWord = Annotated[str, msgspec.Meta(extra_json_schema={"enum": [status.word for status in Status]})]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a task as lists and streams show it."""

    task_id: str
    name: str | None
    status: StatusWord
    reason: str | None
    user_id: str | None
    queue: str | None
    worker: str | None
    retries: int
    created_at: Instant
    received_at: Instant | None
    started_at: Instant | None
    finished_at: Instant | None
    runtime: float | None
    eta: Instant | None
    expires: Instant | None
    trace_id: str | None  # of the run's span where it is known, else of the message
    span_id: str | None  # likewise
    trace_sampled: bool | None  # null: not known
    parent_trace_id: str | None  # of the message, where the run has a trace of its own
    correlation_id: str | None
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    error_type: str | None
    version: tuple[int, int, int]  # retries, run_at in microseconds (0: no run), rank: larger is newer


class TaskDetails(Task, frozen=True, kw_only=True):
    """Everything that is known about one task."""

    arguments: msgspec.Raw | None
    result_payload: msgspec.Raw | None
    error_message: str | None
    traceback: str | None
    origin: str | None
    payloads_withheld: bool = False  # the four above and the history's error messages: the viewer may not see them


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One fact about a task."""

    history_id: int
    status: StatusWord
    reason: str | None
    at: Instant
    retries: int
    run_id: str | None
    worker: str | None
    origin: str | None
    duration: float | None  # until the next entry
    error_type: str | None
    error_message: str | None
    trace_id: str | None = None  # of the run's span, where it is known
    span_id: str | None = None


class TaskDetail(msgspec.Struct, frozen=True, kw_only=True):
    task: TaskDetails
    history: list[HistoryEntry]  # as it happened
    history_deleted_until: Instant | None = None  # what was told before may be missing (retention); null: nothing is
    cursor: str


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    tasks: list[Task]
    next_page: str | None
    cursor: str


class TaskLogLine(msgspec.Struct, frozen=True, kw_only=True):
    line_id: int
    at: Instant
    level: int
    logger: str | None  # where there is no message: the setting that says why lines are missing
    message: str | None  # None: no line, but a word about lines before it that were not kept
    run_id: str | None
    number: int  # within its run, from 0: lines that were not kept have taken theirs, too
    span_id: str | None = None  # in which it was logged


class LogRun(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of one run's log."""

    run_id: str
    attempt: int  # from 1; a run that was delivered again is the same attempt
    lines: int
    not_kept: int  # lines that were logged and are not there
    reasons: list[str]  # the settings by which that is so, as far as the run could say
    trace_id: str | None = None  # of the run's span, where it is known
    span_id: str | None = None


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    lines: list[TaskLogLine]
    next: int | None  # asked for with `after`: from where the following page goes on
    previous: int | None  # asked for with `before`: up to where the page before it goes
    runs: list[LogRun]  # that have begun
    cursor: str  # what comes later is told from here on
    payloads_withheld: bool = False  # there may be lines, which the viewer may not see
    lines_deleted_until: Instant | None = None  # lines of before may be missing (retention); null: none are


class TaskProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a running task says that it is."""

    task_id: str
    run_id: str | None
    state: str | None  # the task's own word, as for update_state
    meta: msgspec.Raw | None  # whatever it told
    at: Instant


class ProgressList(msgspec.Struct, frozen=True, kw_only=True):
    tasks: list[TaskProgress]  # that run now and have told it, the newest word first
    payloads_withheld: bool = False


class LogLines(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream tells of a task's log."""

    task_id: str
    lines: list[TaskLogLine]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The header's numbers, of the tasks that a viewer may see."""

    queued: int
    active: int
    failure_percent_24h: float | None  # of finished_24h
    mean_runtime_24h: float | None
    finished_24h: int  # completed or failed: a cancelled task is neither a success nor a failure
    failed_24h: int
    completed_minute: int  # since the minute of as_of began
    failed_minute: int
    workers: int
    slots: int | None  # tasks that living workers can run at once; null for whoever may not see everything
    dropped: int  # records that living workers had no room for, and
    quarantined: int  # that PostgreSQL refused; nought for whoever may not see everything
    as_of: Instant


class TransitionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream tells of one transition."""

    history_id: int
    task_id: str
    new_status: StatusWord
    reason: str | None
    timestamp: Instant
    task: Task  # as it was when the transition was read


class Change(TransitionEvent, frozen=True, kw_only=True):
    """The same for a program that watches; from the cursor on it misses nothing that comes after this."""

    cursor: str


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """A transition for the broadcaster: who may see it, and where it stands."""

    txid: int
    user_id: str | None
    public: TransitionEvent
