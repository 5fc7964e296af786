"""What may be done with one task and what has been: the rules that commands apply, asked without acting."""

from __future__ import annotations

from typing import Any, Literal

from oracle_celery.database.control_facts import CancelControl, CancelRequest, RetryControl, TaskControl
from oracle_celery.database.refusals import Refusal, status_word
from oracle_celery.database.retries import PATIENCE
from oracle_celery.database.sql import statement
from oracle_celery.database.transactions import CommandStore
from oracle_celery.database.visibility import controllable, visible
from oracle_celery.errors import TaskNotFound
from oracle_celery.viewer import Viewer

__all__ = ["TaskControls"]

#: The option that lifts a refusal.
_LIFTED_BY: dict[str, Literal["include_cancelled", "force"]] = {
    "cancelled": "include_cancelled",
    "chord_member": "force",
}


class TaskControls(CommandStore):
    def preflight(self, viewer: Viewer, task_id: str) -> TaskControl:
        """What a command would answer now; somebody may be faster. Raises TaskNotFound."""
        parameters: dict[str, Any] = {
            "task_id": task_id,
            "patience": PATIENCE,
            "include_cancelled": False,
            "force": False,
        }
        parts = {
            "cancel_rule": statement("cancel_rule"),
            "retry_rule": statement("retry_rule"),
            "missing": statement("missing_message"),
            "visible": visible(viewer, parameters),
            "controllable": controllable(viewer, parameters),
        }
        with self._transaction() as transaction:
            rows = transaction.fetch("task_control", parameters, **parts)
        if not rows:
            raise TaskNotFound(task_id=task_id)
        [row] = rows
        status, interruptible, cancel_code, retry_code, missing, new_id, asked_at, by, reason, retry_of, state = row
        word = status_word(status)
        cancel = Refusal(code=cancel_code, status=word) if cancel_code else None
        retry = Refusal(code=retry_code, status=word, missing=missing, new_id=new_id) if retry_code else None
        needs = _LIFTED_BY.get(retry.code) if retry else None
        return TaskControl(
            cancel=CancelControl(
                allowed=cancel is None,
                code=cancel.code if cancel else None,
                why_not=cancel.explanation if cancel else None,
                interruptible=interruptible,
            ),
            retry=RetryControl(
                allowed=retry is None or needs is not None,
                code=retry.code if retry else None,
                why_not=retry.explanation if retry else None,
                missing=missing if retry and retry.code == "no_message" else None,
                needs=needs,
            ),
            cancel_requested=CancelRequest(at=asked_at, by=by, reason=reason) if asked_at else None,
            retry_of=retry_of,
            retried_as=new_id,
            retry_state=state,
        )
