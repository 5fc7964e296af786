"""What the bodies of commands may hold, and how they are read: strictly, and bounded."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from aiohttp import web

from oracle_celery.database.listing import TaskFilter
from oracle_celery.database.query_language import QUERY_LIMIT, parse_query
from oracle_celery.errors import BadBody
from oracle_celery.states import Status

__all__ = [
    "BODY_LIMIT_BYTES",
    "IDS_LIMIT",
    "BulkBody",
    "CancelBody",
    "PauseBody",
    "ResumeBody",
    "RetryBody",
    "SessionBody",
    "body_of",
]

#: The ids of IDS_LIMIT tasks, or a large task's changed arguments.
BODY_LIMIT_BYTES = 8 * 1024 * 1024
#: Tasks that a bulk names by their ids; a filter finds any number.
IDS_LIMIT = 100_000
#: Around them and all else in a bulk's body: one that has more is not decoded. That would keep the event loop waiting,
#: in a thread too, because msgspec does not let go of the interpreter meanwhile.
MOST_QUOTES = 2 * (IDS_LIMIT + 1_000)

# PostgreSQL's texts hold no NUL. The class takes line breaks too, so that `$` is the end, in JSON Schema as here.
NAME_PATTERN = r"^[^\x00]+$"
TEXT_PATTERN = r"^[^\x00]*$"

Reason = Annotated[str, msgspec.Meta(max_length=2_000, pattern=TEXT_PATTERN)]
Queue = Annotated[str, msgspec.Meta(max_length=255, pattern=NAME_PATTERN)]  # as AMQP has it
#: The same. msgspec 0.22 frees what it should not where a text with a pattern may also be a list, and the process that
#: has read such a body ends with a segmentation fault: the pattern is told to readers and checked by hand.
OneQueue = Annotated[str, msgspec.Meta(min_length=1, max_length=255, extra_json_schema={"pattern": NAME_PATTERN})]
#: One of many: a pattern would be looked for in each of them, so it is told to readers and checked for all at once.
TaskId = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000, extra_json_schema={"pattern": NAME_PATTERN})]
FilterValue = Annotated[str, msgspec.Meta(max_length=2_048, pattern=NAME_PATTERN)]
FilterValues = Annotated[list[FilterValue], msgspec.Meta(max_length=50)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class CancelBody(msgspec.Struct, forbid_unknown_fields=True):
    reason: Reason | None = None


class RetryBody(msgspec.Struct, forbid_unknown_fields=True):
    reason: Reason | None = None
    include_cancelled: bool = False
    force: bool = False
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    queue: Queue | None = None


class ResumeBody(msgspec.Struct, forbid_unknown_fields=True):
    queue: OneQueue | Annotated[list[Queue], msgspec.Meta(min_length=1)] | None = None
    reason: Reason | None = None

    def __post_init__(self) -> None:
        if isinstance(self.queue, str) and "\x00" in self.queue:
            raise ValueError("A queue's name holds no NUL - at `$.queue`")


class PauseBody(ResumeBody, forbid_unknown_fields=True):
    until: Moment | None = None


class FilterBody(msgspec.Struct, forbid_unknown_fields=True):
    """As the parameters of the list of tasks. Raises BadTerm when it is read as a TaskFilter."""

    status: list[Literal["pending", "in_progress", "completed", "failed", "cancelled"]] = []
    name: FilterValues = []
    user: FilterValues = []
    queue: FilterValues = []
    worker: FilterValues = []
    id: FilterValues = []
    #: In the query language; narrows the others down.
    q: Annotated[str, msgspec.Meta(max_length=QUERY_LIMIT, pattern=TEXT_PATTERN)] = ""

    def as_task_filter(self) -> TaskFilter:
        return TaskFilter(
            status=tuple(Status.from_word(word) for word in self.status),
            name=tuple(self.name),
            user=tuple(self.user),
            queue=tuple(self.queue),
            worker=tuple(self.worker),
            id=tuple(self.id),
            q=parse_query(self.q),
        )


class BulkBody(msgspec.Struct, forbid_unknown_fields=True):
    action: Literal["cancel", "retry"]
    ids: Annotated[list[TaskId], msgspec.Meta(min_length=1, max_length=IDS_LIMIT)] | None = None
    filter: FilterBody | None = None
    dry_run: bool = False
    reason: Reason | None = None
    include_cancelled: bool = False
    force: bool = False
    #: Of a filter: none of its tasks that was created later.
    created_until: Moment | None = None

    def __post_init__(self) -> None:
        if self.ids is not None and any("\x00" in task_id for task_id in self.ids):
            raise ValueError("A task's id holds no NUL - at `$.ids[...]`")


class SessionBody(msgspec.Struct, forbid_unknown_fields=True):
    #: A JSON Web Token, or the one of the link that the sidecar printed.
    token: Annotated[str, msgspec.Meta(min_length=1, max_length=4 * 1024)]


Body = TypeVar("Body")


async def body_of(request: web.Request, kind: type[Body]) -> Body:
    """The body, or what an empty one stands for. Raises BadBody."""
    data = await request.read()  # bounded by the application's client_max_size
    if kind is BulkBody and data.count(b'"') - data.count(b"\\") > MOST_QUOTES:
        raise BadBody(detail=f"Expected `array` of length <= {IDS_LIMIT} - at `$.ids`")
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBody(detail=str(error)) from error
    except RecursionError as error:
        raise BadBody(detail="it is nested too deeply") from error
