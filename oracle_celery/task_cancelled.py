"""What a task sees of its cancellation: an exception that it may catch to clean up, and a question that it may ask."""

from __future__ import annotations

import sys
from typing import Any

from celery import current_task
from celery.exceptions import Ignore

from oracle_celery.run import CANCEL_RAISED

__all__ = ["TaskCancelled", "raise_if_cancelled", "revoke_result"]


class TaskCancelled(Ignore):  # type: ignore[misc]  # Celery ships no types
    """Somebody has cancelled this task while it ran. Clean up and let it pass, or raise it again.

    A subclass of Celery's Ignore: neither ``autoretry_for`` nor a failure handler sees it.
    """


def raise_if_cancelled() -> None:
    """Raises `TaskCancelled` if the task that calls this has been cancelled.

    For pools that cannot interrupt a task (threads, gevent, eventlet): call it now and then. Outside of a task, and
    in an app without Oracle, it does nothing. It costs a look into a set.
    """
    request = current_task.request if current_task else None
    oracle = None if request is None else getattr(current_task.app, "oracle", None)
    if request is None or oracle is None:
        return
    interruption = oracle.interruption
    if interruption is None:
        is_cancelled = request.id in oracle.desired_state.cancelled
    else:
        is_cancelled = interruption.is_asked(sys._getframe())  # noqa: SLF001  # as inspect.currentframe does
    if is_cancelled:
        request.__dict__[CANCEL_RAISED] = True
        oracle.tell_afterwards()
        raise TaskCancelled


def revoke_result(task: Any, request: Any) -> None:
    """Whoever waits for the result of a cancelled run is told, and its chord: Celery stores nothing of its own."""
    if not request.is_eager:
        own = request.__dict__.get("ignore_result")  # of this one message
        is_ignored = task.ignore_result if own is None else own
        is_stored = not is_ignored or task.store_errors_even_if_ignored
        task.backend.mark_as_revoked(request.id, "cancelled", request=request, store_result=is_stored)
