"""Why an action is not allowed, in words. The rules themselves are SQL: `cancel_rule` and `retry_rule`."""

from __future__ import annotations

import msgspec

from oracle_celery.errors import NotAllowed
from oracle_celery.states import Status

__all__ = ["NOT_FOUND", "Refusal"]

#: The code of a task that is not there, or not the actor's.
NOT_FOUND = "not_found"

_MISSING = {
    "never_received": "no worker has ever received it, so its message is not known",
    "not_kept": "its worker has not kept its message: it ended before it could, or still holds it",
    "too_large": "its message is larger than oracle_message_limit",
    "opted_out": "its messages are not kept (oracle_store_message)",
    "unreadable": "its message could not be copied",
}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule says of a task."""

    code: str
    status: str | None = None
    missing: str | None = None  # why there is no message
    new_id: str | None = None  # what it was retried as

    @property
    def explanation(self) -> str:
        match self.code:
            case "not_active":
                return f"The task is {self.status}: only a pending or in_progress task can be cancelled."
            case "already_requested":
                return "The task has been asked to end already: its worker will say when it has."
            case "not_failed":
                return f"The task is {self.status}: only a failed or cancelled task can be retried."
            case "already_retried":
                return f"The task has been retried already, as {self.new_id}: retry that one if it fails."
            case "no_message":
                return f"The task cannot be sent again: {_MISSING.get(self.missing or '', self.missing)}."
            case "cancelled":
                return "The task was cancelled: to run it after all, ask with include_cancelled."
            case "read_only":
                return "You may look at this task, and not change it."
            case "chord_member":
                return (
                    "The task is part of a chord, whose body would count it twice: to send it anyway, ask with force."
                )
            case _:
                return "There is no such task that you may see."

    def error(self) -> NotAllowed:
        return NotAllowed(code=self.code, status=self.status, explanation=self.explanation)


def status_word(code: int) -> str:
    return Status(code).word
