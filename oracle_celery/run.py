"""One run of a task: the marks by which its facts are told apart from those of other runs.

They travel in ``request.request_dict`` from the worker's main process to the pool child, and are attributes of
``task.request`` there. The same task id may run twice at once after a broker reconnect, so nothing is keyed by the
task id alone.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Mapping
from typing import Any

__all__ = [
    "CANCEL_RAISED",
    "FAILED_OUTSIDE",
    "HIDDEN_TASKS",
    "OF_A_RUN",
    "REPLACED",
    "RETRY_OF",
    "RUN_AT",
    "RUN_ID",
    "SENT_BY_ORACLE",
    "SPAN_TOLD",
    "STARTED_AT",
    "RunMint",
    "retries_of",
    "run_fields",
]

#: The run's id, and the monotonic ns at which it was minted: when a worker received the message.
RUN_ID = "oracle_run_id"
RUN_AT = "oracle_run_at"
#: Monotonic ns at which its code began.
STARTED_AT = "oracle_started_at"
#: Its task has sent a message under its own id: ignoring the run then is no end.
REPLACED = "oracle_replaced"
#: Celery itself failed around its code, and that has been told.
FAILED_OUTSIDE = "oracle_failed_outside"
#: It was told that it has been cancelled.
CANCEL_RAISED = "oracle_cancel_raised"
#: A fact of it has said in which span it runs.
SPAN_TOLD = "oracle_span_told"
OF_A_RUN = frozenset({RUN_ID, RUN_AT, STARTED_AT, REPLACED, FAILED_OUTSIDE, CANCEL_RAISED, SPAN_TOLD})

#: Of them those that are not given with the run's id, and that a message must not bring along.
_LATER = OF_A_RUN - {RUN_ID, RUN_AT}

#: PostgreSQL's largest integer.
RETRIES_LIMIT = 2**31 - 1

#: Header of a message whose sender has recorded what it says: receivers need not tell it again.
SENT_BY_ORACLE = "oracle_sent"

#: Header of a message that somebody sent again: the id of the task that it was before.
RETRY_OF = "oracle_retry_of"

#: Celery's own bookkeeping: polls for a chord's header, in the user's queues and by the hundred.
HIDDEN_TASKS = frozenset({"celery.chord_unlock"})


class RunMint:
    """Gives runs their ids; one a process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """After a fork: parent and child must not give the same ids."""
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count()

    def mint(self, fields: dict[str, Any]) -> int:
        """Marks `fields` as a new run's; returns its time."""
        now = time.monotonic_ns()
        for mark in _LATER:
            fields.pop(mark, None)
        fields[RUN_ID] = f"{self._prefix}-{next(self._numbers):x}"
        fields[RUN_AT] = now
        return now


def run_fields(request: Any) -> dict[str, Any]:
    """The message's headers and the run's marks: of a worker's `Request` or of a task's `Context`."""
    if request is None:
        return {}
    fields: dict[str, Any] = getattr(request, "request_dict", None) or request.__dict__
    return fields


def retries_of(fields: Mapping[str, Any]) -> int:
    """How often the task was tried again, as its message says: Celery takes one that does not say it, too."""
    retries = fields.get("retries")
    return retries if type(retries) is int and 0 <= retries <= RETRIES_LIMIT else 0
