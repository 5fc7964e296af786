"""What every route takes, answers and refuses: the table that the API's document is made of.

It names the types that handlers read and answer with, and the limits that they check; nothing is said twice. What holds
for every route of a kind (who may call it, what a body must be, how often one may act) is not here: `openapi` adds it
from the route's method and rule. A route that is missing here fails a test, and so does a status that some test of the
sidecar gets and the document does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from oracle_celery.control import Cancelled, QueuesAnswer, Retried
from oracle_celery.database.control_facts import AuditPage, Bulk, BulkItemPage, BulkPreview
from oracle_celery.database.facts import (
    LogLines,
    LogPage,
    ProgressList,
    Summary,
    TaskPage,
    TaskProgress,
    TransitionEvent,
)
from oracle_celery.database.failure_facts import FailureDetail, FailureList
from oracle_celery.database.failures import FAILURE_ORDERS, FAILURE_RANGES
from oracle_celery.database.fleet_facts import QueueList, WorkerList
from oracle_celery.database.queries import SORT_KEYS
from oracle_celery.database.query_fields import FIELDS
from oracle_celery.database.retention import RetentionPreview
from oracle_celery.database.schedule_facts import Schedule
from oracle_celery.database.trend_facts import QueueTrends, Statistics, TaskTypes
from oracle_celery.database.trends import RANGES
from oracle_celery.database.values import VALUE_FIELDS, FieldValues, StatusCounts
from oracle_celery.sidecar import api, commands, examples, failures, log_api, statistics, values
from oracle_celery.sidecar.api import TaskAnswer
from oracle_celery.sidecar.bodies import IDS_LIMIT, BulkBody, CancelBody, PauseBody, ResumeBody, RetryBody, SessionBody
from oracle_celery.sidecar.commands import BulkList
from oracle_celery.sidecar.health import Alive, Readiness
from oracle_celery.sidecar.listener import ListenerStatus
from oracle_celery.sidecar.operation import Answer, Operation, Parameter, alternatives, answer, number, text
from oracle_celery.sidecar.parameters import ALTERNATIVES_LIMIT, LAST_BIGINT
from oracle_celery.sidecar.session import SessionFacts

__all__ = ["EVENTS", "LOG_EVENTS", "NO_API", "OPERATIONS"]

#: Routes that are no API: the page and its files.
NO_API = frozenset({"page", "asset"})


_STATUS = Parameter(
    name="status",
    description="Repeated, or separated by commas: any of them.",
    schema={
        "type": "array",
        "items": {"type": "string", "enum": list(api.STATUS_WORDS)},
        "maxItems": ALTERNATIVES_LIMIT,
    },
    example=["failed"],
)
_SORT = Parameter(
    name="sort",
    description="A minus puts the largest first. By anything but created_at and task_id, the newest "
    "10,000 that match are sorted.",
    schema={
        "type": "string",
        "enum": [sign + key for key in SORT_KEYS for sign in ("", "-")],
        "default": api.DEFAULT_SORT,
    },
    example="-finished_at",
)
_QUERY = text(
    "q",
    "In the query language, which narrows the other parameters down. A word is a field, a colon and a "
    "value, or a bare value: the beginning of an id or a part of a name. Fields: "
    + ", ".join(name for name in FIELDS if name)
    + ". Commas separate alternatives, a minus in front excludes, an asterisk stands for any characters, quotes hold a "
    "value together. A word that is not understood is a 400 that names it.",
    "status:failed name:billing.* -queue:low runtime:>30s since:2h",
)
_VALUE_FIELD = Parameter(
    name="field",
    description="Of the query language.",
    schema={"type": "string", "enum": list(VALUE_FIELDS), "default": VALUE_FIELDS[0]},
    example="name",
)
_TASK_ID = Parameter(
    name="task_id",
    description="Any characters; a slash comes as %2F.",
    schema={"type": "string", "minLength": 1},
    example=examples.TASK_ID,
    place="path",
)
_RANGE = Parameter(
    name="range",
    description="How far back; it begins with a slot of five minutes.",
    schema={"type": "string", "enum": list(FAILURE_RANGES), "default": failures.DEFAULT_RANGE},
    example=failures.DEFAULT_RANGE,
)
_FINGERPRINT = Parameter(
    name="fingerprint",
    description="As the list of groups names it.",
    schema={"type": "string", "minLength": 1},
    example=examples.FINGERPRINT,
    place="path",
)
_BULK_ID = Parameter(
    name="bulk_id",
    description="As the bulk's own answer named it.",
    schema={"type": "string", "minLength": 1},
    example=examples.BULK_ID,
    place="path",
)
_RUN_ID = text("run", "Only of this run, by its `run_id`.", examples.RUN_ID)
_LAST_EVENT_ID = Parameter(
    name="Last-Event-ID",
    description="As `after`, and stronger: what a browser sends by itself when it reconnects.",
    schema={"type": "string"},
    example=examples.CURSOR,
    place="header",
)


_STREAM = """\
Server-sent events, until the client leaves. Each has a name and JSON data, whose type `x-events` tells.

| event | data | |
| --- | --- | --- |
| `task` | TransitionEvent | A task has changed. |
| `summary` | Summary | The numbers have changed. |
| `bulk` | Bulk | A bulk action has got on: to its actor and to those who see everything. |
| `progress` | TaskProgress | A running task says how far it is. |
| `queues` | `{}` | Something about queues is new: read /api/queues. |
| `heartbeat` | `{}` | Nothing happens, and the stream lives. |
| `resync` | `{"reason"}` | Something may have been missed: read the list again; the stream itself goes on. |
| `bye` | `{"reason"}` | The stream ends, and why: `token_expired`. |

An event with an `id` is a place to resume from: send it as `Last-Event-ID` or `?after=` and nothing is missed, nothing
comes twice. The `cursor` of a list or a task is such a place as well. New fields and new events may come: pass over
what you do not know."""

_LOG_STREAM = """\
Server-sent events, until the client leaves: a stream does not end with its task, whose last lines may be on their way.

| event | data | |
| --- | --- | --- |
| `log` | LogLines | Lines have arrived. Those of a run come in the order of their `number`. |
| `heartbeat` | `{}` | Nothing happens, and the stream lives. |
| `resync` | `{"reason"}` | The stream cannot go on and ends: read the log again and follow it from there. |
| `bye` | `{"reason"}` | The stream ends, and why: `token_expired`, `payloads_withheld`. |

An event with an `id` is a place to resume from: nothing is missed, and what comes again has the `line_id` it had."""

#: The types of the events' data.
EVENTS: Mapping[str, Any] = {"task": TransitionEvent, "summary": Summary, "bulk": Bulk, "progress": TaskProgress}
#: The same of a log's stream.
LOG_EVENTS: Mapping[str, Any] = {"log": LogLines}


def _range(description: str, words: tuple[str, ...]) -> Parameter:
    return Parameter(
        name="range",
        description=description,
        schema={"type": "string", "enum": list(words), "default": statistics.DEFAULT_RANGE},
        example="1h",
    )


def _stream_example() -> str:
    data = msgspec.json.encode(examples.TRANSITION).decode()
    return f"retry: 4711\n\nid: {examples.CURSOR}\nevent: task\ndata: {data}\n\n"


def _log_example() -> str:
    data = msgspec.json.encode(examples.LOG_LINES).decode()
    return f"retry: 4711\n\nid: {examples.CURSOR}\nevent: log\ndata: {data}\n\n"


def _readiness(*, is_online: bool) -> Readiness:
    return Readiness(
        status="ok" if is_online else "unavailable",
        database="ok" if is_online else "unavailable",
        listener=ListenerStatus.HEARING if is_online else ListenerStatus.STARTING,
        schema="ok" if is_online else "unknown",
    )


# -- the table ----------------------------------------------------------------------------------------------------

_RETRY_REFUSALS = (
    "not_failed",
    "already_retried",
    "no_message",
    "cancelled",
    "chord_member",
    "no_key",
    "cannot_change",
)

_EITHER_IDS_OR_FILTER = {
    "oneOf": [
        {
            "required": ["ids"],
            "properties": {"ids": {"type": "array"}, "filter": {"type": "null"}, "created_until": {"type": "null"}},
        },
        {"required": ["filter"], "properties": {"filter": {"type": "object"}, "ids": {"type": "null"}}},
    ]
}

#: By the route's name.
OPERATIONS: Mapping[str, Operation] = {
    "tasks": Operation(
        tag="tasks",
        summary="List tasks",
        description="Of those that you may see. Pages go by key: a page begins where the one before ended, whatever "
        "has come in since. The cursor is where a stream goes on from this list without a gap.",
        parameters=(
            _STATUS,
            alternatives("name", "The task's name; an asterisk stands for any characters.", "shop.*"),
            alternatives("user", "The owner's user_id.", "ann"),
            alternatives("queue", "The queue's name; an asterisk stands for any characters.", "mail"),
            alternatives("worker", "The node's name; an asterisk stands for any characters.", examples.NODE),
            alternatives("id", "The beginning of the task's id.", examples.TASK_ID[:8]),
            _QUERY,
            _SORT,
            number("limit", "Tasks of one page.", 1, api.TASKS_LIMIT, api.TASKS_DEFAULT),
            text("page", "`next_page` of the page before, with the same sort."),
        ),
        answers={200: answer(TaskPage, examples.TASK_PAGE, "One page; `next_page` is null on the last one.")},
    ),
    "subscribe": Operation(
        tag="tasks",
        summary="Subscribe to changes",
        description=_STREAM,
        parameters=(
            text("after", "A cursor, or the id of an event: the stream begins with what came after it."),
            _LAST_EVENT_ID,
        ),
        answers={
            200: Answer(
                description="The stream.",
                kind={"type": "string"},
                example=_stream_example(),
                media_type="text/event-stream",
            )
        },
        refusals={429: ("too_many_streams",), 503: ("too_many_streams",)},
    ),
    "task": Operation(
        tag="tasks",
        summary="Read a task",
        description="With its history, its family, what may be done with it, who did what to it, and, while it is "
        "pending, why it waits.",
        parameters=(_TASK_ID,),
        answers={200: answer(TaskAnswer, examples.TASK_ANSWER, "The task.")},
        refusals={404: ("task_not_found",)},
    ),
    "logs": Operation(
        tag="tasks",
        summary="Read what a task has logged",
        parameters=(
            _TASK_ID,
            number("after", "`next` of the page before. Not with `before`.", 0, LAST_BIGINT, 0),
            number(
                "before",
                f"`previous` of the page after; {LAST_BIGINT}: the last lines. Not with `after`.",
                *(0, LAST_BIGINT, None),
            ),
            _RUN_ID,
            number("level", "Only lines of this level of Python's logging, or above.", 0, log_api.LEVEL_LIMIT, 0),
            number("limit", "Lines of one page.", 1, log_api.LINES_LIMIT, log_api.LINES_DEFAULT),
        ),
        answers={200: answer(LogPage, examples.LOG_PAGE, "Lines, the oldest first.")},
        refusals={404: ("task_not_found",)},
    ),
    "follow_logs": Operation(
        tag="tasks",
        summary="Follow what a task logs",
        description=_LOG_STREAM,
        parameters=(
            _TASK_ID,
            text("after", "A cursor: of a page of the log, or an event's id. Without: from now on.", examples.CURSOR),
            _LAST_EVENT_ID,
        ),
        answers={
            200: Answer(
                description="The stream.",
                kind={"type": "string"},
                example=_log_example(),
                media_type="text/event-stream",
            )
        },
        refusals={404: ("task_not_found",), 429: ("too_many_streams",), 503: ("too_many_streams",)},
    ),
    "progress": Operation(
        tag="tasks",
        summary="Read how far running tasks are",
        description="What they told by Celery's `update_state` or by `oracle_celery.progress`.",
        answers={200: answer(ProgressList, examples.PROGRESS_LIST, "The newest word of each.")},
    ),
    "download_logs": Operation(
        tag="tasks",
        summary="Download what a task has logged",
        parameters=(_TASK_ID, _RUN_ID),
        answers={
            200: Answer(
                description="All lines, as a file.",
                kind={"type": "string"},
                example="2026-03-14T15:09:27.101883Z WARNING shop: the bank is slow\n",
                media_type="text/plain",
            )
        },
        refusals={404: ("task_not_found",)},
    ),
    "summary": Operation(
        tag="tasks",
        summary="Read the numbers",
        description="Of the tasks that you may see.",
        answers={200: answer(Summary, examples.SUMMARY, "The numbers as of now.")},
    ),
    "failures": Operation(
        tag="tasks",
        summary="List failures in groups",
        description="Failures of one task's name with the same error and a message that differs in numbers, ids and "
        "the like only. A failure is an event: it counts, whatever became of its task later. Of the tasks that you "
        "may see, which all of it is made of: counts, first and last time.",
        parameters=(
            _RANGE,
            Parameter(
                name="sort",
                description="The largest or latest first.",
                schema={"type": "string", "enum": list(FAILURE_ORDERS), "default": failures.DEFAULT_ORDER},
                example=failures.DEFAULT_ORDER,
            ),
            number("limit", "Groups told.", 1, failures.GROUPS_LIMIT, failures.GROUPS_DEFAULT),
        ),
        answers={200: answer(FailureList, examples.FAILURE_LIST, "The groups with a failure in the range.")},
    ),
    "failure": Operation(
        tag="tasks",
        summary="Read a group of failures",
        parameters=(_FINGERPRINT, _RANGE),
        answers={200: answer(FailureDetail, examples.FAILURE_DETAIL, "The group, and its newest tasks.")},
        refusals={404: ("group_not_found",)},
    ),
    "values": Operation(
        tag="tasks",
        summary="List values of a field",
        description="Of the tasks of the last day that you may see; for completing what somebody types.",
        parameters=(
            _VALUE_FIELD,
            text("part", "Only values with this in them; a user's begin with it.", "billing"),
            number("limit", "Values at most.", 1, values.VALUES_LIMIT, values.VALUES_DEFAULT),
        ),
        answers={200: answer(FieldValues, examples.FIELD_VALUES, "The most frequent first; users by name.")},
    ),
    "counts": Operation(
        tag="tasks",
        summary="Count tasks by status",
        description="Of those that you may see and that match. A query's own words about the status are left out: that "
        "is how many there would be under each. What cannot be counted soon is null; `is_more`: there are more.",
        parameters=(_QUERY,),
        answers={200: answer(StatusCounts, examples.STATUS_COUNTS, "The counts.")},
    ),
    "statistics": Operation(
        tag="tasks",
        summary="Read the numbers over time",
        description="Of the tasks that you may see: how many finished in each part of a range, how long they took, and "
        "how many waited and ran. Late facts and corrections count where their tasks finished.",
        parameters=(_range("How far back.", tuple(RANGES)),),
        answers={200: answer(Statistics, examples.STATISTICS, "One value for each bucket, the oldest first.")},
    ),
    "task_types": Operation(
        tag="tasks",
        summary="List task types",
        description="The names of the tasks that you may see, with what became of them in the last 24 hours, how long "
        "they ran and how long they waited for it.",
        answers={200: answer(TaskTypes, examples.TASK_TYPES, "Those with most tasks first.")},
    ),
    "cancel": Operation(
        tag="control",
        summary="Cancel a task",
        description="A pending task never runs. The end of a running one is requested: its worker has the last word, "
        "and what came of it is told in the task's audit.",
        parameters=(_TASK_ID,),
        body=CancelBody,
        body_example={"reason": "wrong month"},
        answers={
            200: answer(Cancelled, examples.CANCELLED, "It was pending and will not run."),
            202: answer(Cancelled, examples.CANCEL_REQUESTED, "It runs; its worker is asked to end it."),
        },
        refusals={404: ("task_not_found",), 409: ("not_active", "already_requested")},
    ),
    "retry": Operation(
        tag="control",
        summary="Send a task again",
        description="The same message under a new id, once: the next retry is one of the new task. `args`, `kwargs` "
        "and `queue` are taken in place of the old ones.",
        parameters=(_TASK_ID,),
        body=RetryBody,
        body_example={"reason": "the bank is back"},
        answers={201: answer(Retried, examples.RETRIED, "The broker has confirmed the new message.")},
        refusals={
            404: ("task_not_found",),
            409: _RETRY_REFUSALS,
            502: ("broker_unavailable", "publish_failed", "publish_unknown"),
        },
    ),
    "bulk": Operation(
        tag="control",
        summary="Cancel or retry many tasks",
        description=f"Chosen by {IDS_LIMIT:,} `ids` at most, or by a `filter`, as the list has it ({{}} is all that "
        "you may see). The choice is made at once and the work done behind: its progress comes over the stream. With "
        "`dry_run` nothing is done; the answer's `created_until`, sent along with the command, keeps out what was "
        "created after the preview.",
        body=BulkBody,
        body_rule=_EITHER_IDS_OR_FILTER,
        body_example={"action": "cancel", "filter": {"q": "status:pending name:shop.*"}, "dry_run": True},
        answers={
            200: answer(BulkPreview, examples.BULK_PREVIEW, "What it would do now (`dry_run`)."),
            202: answer(Bulk, examples.BULK, "It is under way."),
        },
        refusals={400: ("bad_query",)},  # of the filter's `q`
    ),
    "bulks": Operation(
        tag="control",
        summary="List bulk actions",
        description="Your own; all of them for those who see everything.",
        parameters=(number("limit", "Bulk actions told.", 1, commands.BULKS_LIMIT, commands.BULKS_DEFAULT),),
        answers={200: answer(BulkList, examples.BULK_LIST, "The newest first.")},
    ),
    "one_bulk": Operation(
        tag="control",
        summary="Read how far a bulk action is",
        parameters=(_BULK_ID,),
        answers={200: answer(Bulk, examples.BULK, "The bulk action.")},
        refusals={404: ("bulk_not_found",)},
    ),
    "bulk_items": Operation(
        tag="control",
        summary="List what became of each task of a bulk action",
        parameters=(
            _BULK_ID,
            number("after", "`next` of the page before.", 0, LAST_BIGINT, 0),
            number("limit", "Tasks of one page.", 1, commands.ITEMS_LIMIT, commands.ITEMS_DEFAULT),
            text("outcome", "Only tasks of which this became.", "not_active"),
        ),
        answers={200: answer(BulkItemPage, examples.BULK_ITEMS, "In the order in which they are done.")},
        refusals={404: ("bulk_not_found",)},
    ),
    "workers": Operation(
        tag="fleet",
        summary="List workers",
        description="Each with the tasks that it runs, the longest first; a task of somebody else is not among them "
        "for an owner, to whom no worker's load is told either.",
        answers={200: answer(WorkerList, examples.WORKER_LIST, "Living ones, and those gone for less than a day.")},
    ),
    "queues": Operation(
        tag="fleet",
        summary="List queues",
        description="`flow` is a minute's, averaged over the last five whole ones.",
        answers={200: answer(QueueList, examples.QUEUE_LIST, "What waits, who consumes, what is paused.")},
    ),
    "schedule": Operation(
        tag="fleet",
        summary="Read celery beat's schedule",
        description="What it is to send, what it has sent of late, and due times that passed without a run. A beat "
        "that has fallen silent is told as such: nothing comes next then.",
        answers={200: answer(Schedule, examples.SCHEDULE, "Entries, and the beats that tell of them.")},
    ),
    "queue_statistics": Operation(
        tag="fleet",
        summary="Read how queues filled and emptied",
        parameters=(_range("How far back.", statistics.QUEUE_RANGES),),
        answers={200: answer(QueueTrends, examples.QUEUE_TRENDS, "One value for each bucket, the oldest first.")},
    ),
    "pause": Operation(
        tag="admin",
        summary="Pause queues",
        description="Workers stop consuming at once and after every restart. Without `queue` it is the app's default "
        'one; "*" is all of them. Waits up to three seconds for what the workers say.',
        body=PauseBody,
        body_example={"queue": "mail", "reason": "provider is down", "until": "2999-12-31T18:00:00Z"},
        answers={200: answer(QueuesAnswer, examples.PAUSED, "It holds; `workers` is what each has said so far.")},
        refusals={400: ("bad_query",)},  # an `until` in the past
    ),
    "resume": Operation(
        tag="admin",
        summary="Resume queues",
        body=ResumeBody,
        body_example={"queue": "mail"},
        answers={200: answer(QueuesAnswer, examples.RESUMED, "It holds; `workers` is what each has said so far.")},
        refusals={400: ("bad_query",), 409: ("not_paused",)},
    ),
    "audit": Operation(
        tag="admin",
        summary="Read who did what",
        parameters=(
            number("limit", "Entries of one page.", 1, commands.AUDIT_LIMIT, commands.AUDIT_DEFAULT),
            number("before", "`next` of the page before.", 1, LAST_BIGINT, None),
            text("actor", "Only what this user did.", "ann"),
            text("action", "Only this action: cancel, retry, pause, resume, bulk_cancel, bulk_retry.", "retry"),
            text("task_id", "Only what was done to this task.", examples.TASK_ID),
        ),
        answers={200: answer(AuditPage, examples.AUDIT_PAGE, "Entries, the newest first.")},
    ),
    "retention": Operation(
        tag="admin",
        summary="Read what is kept and what would go",
        description="By kind: how long it is kept (`oracle_retention_*`), how much there is, and how much is old "
        "enough to be deleted now. Rows and bytes are PostgreSQL's estimates; nothing is counted and nothing deleted. "
        "The sidecar that leads deletes once an hour.",
        answers={200: answer(RetentionPreview, examples.RETENTION, "One entry for each kind.")},
    ),
    "begin_session": Operation(
        tag="session",
        summary="Log a browser in",
        description="Trades a token for a cookie that no script can read. Programs send the token itself instead.",
        body=SessionBody,
        body_example={"token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"},
        answers={200: answer(SessionFacts, examples.SESSION, "Who you are; the cookie is set.")},
        refusals={400: ("bad_query",), 401: ("not_authenticated",), 429: ("too_many_failures",)},
        reads_database=False,
    ),
    "session": Operation(
        tag="session",
        summary="Ask who you are",
        answers={200: answer(SessionFacts, examples.SESSION, "What your token makes of you.")},
        reads_database=False,
    ),
    "end_session": Operation(
        tag="session",
        summary="Log a browser out",
        description="Removes the cookie, if there is one.",
        answers={200: answer({"type": "object", "maxProperties": 0}, {}, "The cookie is removed.")},
        refusals={400: ("bad_query",)},
        reads_database=False,
    ),
    "openapi": Operation(
        tag="service",
        summary="Read this document",
        answers={200: Answer(description="OpenAPI 3.1.", kind={"type": "object"}, example={"openapi": "3.1.0"})},
        reads_database=False,
    ),
    "healthz": Operation(
        tag="service",
        summary="Ask whether the process lives",
        answers={200: answer(Alive, Alive(), "It does.")},
        reads_database=False,
    ),
    "metrics": Operation(
        tag="service",
        summary="Read the sidecar's metrics",
        answers={
            200: Answer(
                description="In Prometheus' text format, or in OpenMetrics where `Accept` asks for it. What cannot be "
                "read is missing, and `oracle_metrics_part_up` says so. `oracle_metrics_token` is taken in a token's "
                "place.",
                kind={"type": "string"},
                example='# TYPE oracle_tasks gauge\noracle_tasks{status="pending"} 12\n',
                media_type="text/plain",
            )
        },
        reads_database=False,
    ),
    "readyz": Operation(
        tag="service",
        summary="Ask whether it can serve",
        answers={
            200: answer(Readiness, _readiness(is_online=True), "It can."),
            503: answer(Readiness, _readiness(is_online=False), "It cannot; the body says what is missing."),
        },
        reads_database=False,
    ),
}
