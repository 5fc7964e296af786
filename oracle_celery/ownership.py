"""Whose a task is: the ``user_id`` on its message.

Guarantee: a task that another task sends (chain, group, chord, link, retry, or an ordinary call) belongs to the same
user as its sender, unless its message names another one. It is attribution: whoever may publish can write the header.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from celery._state import get_current_task

from oracle_celery.payload import identifier

__all__ = ["current_owner", "owner", "stamp"]

_owner: ContextVar[str | None] = ContextVar("oracle_owner", default=None)


@contextmanager
def owner(user_id: str | int) -> Iterator[None]:
    """Tasks sent inside this block belong to `user_id`. For web handlers: ``with owner(request.user.id): ...``."""
    token = _owner.set(identifier(user_id))
    try:
        yield
    finally:
        _owner.reset(token)


def current_owner(header: str) -> str | None:
    """The user of the enclosing `owner` block, else of the running task."""
    user_id = _owner.get()
    if user_id is not None:
        return user_id
    task = get_current_task()
    request = None if task is None else task.request
    return None if request is None else identifier(request.get(header))


def stamp(headers: dict[str, Any], header: str) -> None:
    """Writes the owner into the headers of a message about to be sent, where it names none."""
    if headers.get(header) is None:
        user_id = current_owner(header)
        if user_id is not None:
            headers[header] = user_id
