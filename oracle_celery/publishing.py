"""Messages as their senders see them: whose they are is stamped, that they were sent is recorded.

What will bite: Celery's signals of publishing are global and name a task, not an app. So the app's `send_task` is
watched: whatever it publishes, and nothing else, is this app's. And ``after_task_publish`` means handed to the broker's
client, not confirmed by the broker, unless ``confirm_publish`` is set.
"""

from __future__ import annotations

import functools
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from celery import signals
from celery._state import get_current_task

from oracle_celery import message
from oracle_celery.description import describe_message
from oracle_celery.payload import identifier
from oracle_celery.records import Transition
from oracle_celery.run import HIDDEN_TASKS, OF_A_RUN, REPLACED, SENT_BY_ORACLE, retries_of
from oracle_celery.states import Rank, Status

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["Publishing", "announce"]

# As plain numbers: reading an enumeration's member, and encoding it, costs more than the rest of the record.
PENDING, SENT = int(Status.PENDING), int(Rank.SENT)

#: The app that publishes at this moment.
_sending: ContextVar[Any] = ContextVar("oracle_sending", default=None)
#: Monotonic ns just before the message was handed over: a worker may start it before this process gets on.
_handed_at: ContextVar[int] = ContextVar("oracle_handed_at", default=0)


class Publishing:
    """The handlers of one app's messages."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.app = oracle.app

    def connect(self) -> None:
        self.oracle.guest.connect(signals.before_task_publish, self.on_before_publish)
        self.oracle.guest.connect(signals.after_task_publish, self.on_published)
        _watch_sending(self.oracle)

    def on_before_publish(
        self, sender: Any, *, headers: dict[str, Any] | None = None, body: Any = None, **_: Any
    ) -> None:
        if headers is None or _sending.get() is not self.app:
            return
        for key in OF_A_RUN.intersection(headers):
            del headers[key]  # a retry copies the headers of its run
        sent = message.sent(headers, body)
        self.oracle.owners.stamp(headers, None if sent is None else sent.headers.get("id"), sender)
        self.oracle.correlations.stamp(headers)
        headers[SENT_BY_ORACLE] = True
        _handed_at.set(time.monotonic_ns())

    def on_published(
        self,
        sender: Any,
        *,
        headers: dict[str, Any] | None = None,
        body: Any = None,
        exchange: Any = None,
        routing_key: Any = None,
        **_: Any,
    ) -> None:
        if _sending.get() is not self.app:
            return
        _sending.set(None)  # an announced message is over
        handed_at = _handed_at.get() or time.monotonic_ns()
        _handed_at.set(0)
        sent = message.sent(headers, body)
        if sent is None or sender in HIDDEN_TASKS:
            return
        headers, settings = sent.headers, self.oracle.settings
        task_id, retries = identifier(headers.get("id")), retries_of(headers)
        if task_id is None:
            return
        self._mark_replaced(headers.get("id"), retries)
        self.oracle.record(
            Transition(
                task_id=task_id,
                status=PENDING,
                rank=SENT,
                at=handed_at,
                reason="retry_scheduled" if retries else "sent",
                retries=retries,
                name=identifier(headers.get("task")),
                user_id=self.oracle.owners.of(headers, task_id),
                queue=message.queue_name(self.app, exchange, routing_key),
                **describe_message(headers, sent.args, sent.kwargs, settings.arguments_limit, settings.redaction),
            )
        )

    def _mark_replaced(self, task_id: Any, retries: int) -> None:
        """A task that sends a message under its own id goes on in it: ``Task.replace``."""
        task = get_current_task()
        if task is not None and task.request.id == task_id and (task.request.retries or 0) == retries:
            task.request.__dict__[REPLACED] = True
            self.oracle.tell_afterwards()


def announce(app: Any) -> None:
    """The message now being routed is this app's, whose `send_task` was entered before it was watched."""
    if _sending.get() is None:
        _sending.set(app)


def _watch_sending(oracle: Oracle) -> None:
    app = oracle.app
    instead = app.__dict__.get("send_task")

    @functools.wraps(app.send_task)
    def send_task(*args: Any, **options: Any) -> Any:
        token = _sending.set(app)
        try:
            oracle.instrumentation.begin()
            # looked up at every call: others, too, replace the method of the class, and may come after us
            return type(app).send_task(app, *args, **options) if instead is None else instead(*args, **options)
        finally:
            _sending.reset(token)

    app.send_task = send_task
