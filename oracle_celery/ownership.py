"""Whose a task is: the ``user_id`` on its message, and the signature that proves it.

Guarantee: a task that another task sends (chain, group, chord, link, errback, retry, replacement, or an ordinary call)
belongs to the same user as its sender, unless its message names another one. With ``oracle_owner_key`` only an owner
counts whose signature was made with that key for that very task: one that is forged, unsigned, or moved from another
task is nobody, and is inherited by nobody.

What will bite: without a key it is attribution alone, because whoever may publish can write the header. With one,
every producer, worker and sidecar needs it; what a producer without it sends is unowned. And a running task's message
is copied by Celery into the messages of its retries, so a name on an outgoing message is the caller's word only where
it is not just the running task's own unproven one.
"""

from __future__ import annotations

import logging
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from celery import _state
from kombu.utils.imports import symbol_by_name

from oracle_celery.owner_signature import Signatures
from oracle_celery.payload import identifier

if TYPE_CHECKING:
    from oracle_celery.guest import Guest
    from oracle_celery.settings import Settings

__all__ = ["Owners", "owner"]

logger = logging.getLogger(__name__)

#: Celery's descriptions of the arguments, which nobody needs to decide whose a task is.
ARGUMENTS_IN_WORDS = frozenset({"argsrepr", "kwargsrepr"})

_owner: ContextVar[str | None] = ContextVar("oracle_owner", default=None)


@contextmanager
def owner(user_id: str | int) -> Iterator[None]:
    """Tasks sent inside this block belong to `user_id`. For web handlers: ``with owner(request.user.id): ...``."""
    token = _owner.set(identifier(user_id))
    try:
        yield
    finally:
        _owner.reset(token)


class Owners:
    """The owners of one app's tasks."""

    def __init__(self, settings: Settings, guest: Guest) -> None:
        self.signatures = Signatures(settings)
        #: Messages received here whose owner was not believed.
        self.refused = 0
        #: What was received here, while it lasts: of a child that was killed the main process sends the errbacks, with
        #: no task running.
        self._received: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
        self._guest = guest
        self._setting = settings.owner
        self._decide: Callable[[str, Mapping[str, Any]], object] | None = None

    def of(self, headers: Mapping[str, Any], task_id: Any) -> str | None:
        """Whose the task of this message is."""
        return self.signatures.proven(headers, task_id)

    def receive(self, request: Any) -> None:
        """Remembers whose a received message is; `request` is a `celery.worker.request.Request`."""
        fields = request.request_dict
        if fields.get(self.signatures.header) is not None:
            self._received[request.id] = request
            self.note(fields, request.id)

    def note(self, headers: Mapping[str, Any], task_id: Any) -> None:
        """Counts a received message whose owner is not believed, and says so: the 1st, 10th, 100th, …"""
        if self.signatures.named(headers) is None or self.of(headers, task_id) is not None:
            return
        self.refused += 1
        if self.refused == 10 ** (len(str(self.refused)) - 1):
            logger.warning(
                "Oracle: the owner that the message of task %r names is not signed with oracle_owner_key for this task;"
                " it counts as unowned. %d such messages by now in this process.",
                identifier(task_id),
                self.refused,
            )

    def stamp(self, headers: dict[str, Any], task_id: Any, task_name: Any) -> None:
        """Writes whose it is on a message about to be sent."""
        signatures = self.signatures
        named = signatures.named(headers)
        if named is None:
            user_id = current_owner(signatures) or self._owner_of_parent(headers)
            if user_id is None and self._setting is not None:
                user_id = self._decided(headers, task_name)
            if user_id is not None:
                signatures.write(headers, task_id, user_id)
        elif signatures.proven(headers, task_id) is None and self._is_vouched_for(named, headers):
            signatures.sign(headers, task_id)

    def _owner_of_parent(self, headers: Mapping[str, Any]) -> str | None:
        parent = self._received.get(headers.get("parent_id"))
        return None if parent is None else self.of(parent.request_dict, parent.id)

    def stamp_eager(self, fields: dict[str, Any], task_id: Any, task_name: Any) -> None:
        """Writes whose it is on a run that no message has brought: it runs in place, and may send others."""
        given = fields.get("headers")
        if isinstance(given, dict) and given.get(self.signatures.header) is not None:
            fields.setdefault(self.signatures.header, given[self.signatures.header])
        self.stamp(fields, task_id, task_name)

    def _is_vouched_for(self, named: str, headers: Mapping[str, Any]) -> bool:
        """Whether the name is the word of the code that runs here, and not of a message that it passes on."""
        running = _running(self.signatures, besides=headers)
        if running is not None and self.signatures.named(running) == named:
            return self.of(running, running.get("id")) == named
        return self.signatures.signature_header not in headers

    def _decided(self, headers: Mapping[str, Any], task_name: Any) -> str | None:
        """By the user's function; a mistake in it is told once and costs the task its owner, nothing else."""
        try:
            if self._decide is None:
                self._decide = _function(self._setting)
            shown = {name: value for name, value in headers.items() if name not in ARGUMENTS_IN_WORDS}
            return identifier(self._decide(identifier(task_name) or "", types.MappingProxyType(shown)))
        except Exception:  # noqa: BLE001  # the user's function, in the user's call
            self._guest.count_failure()
            if self._decide is None:
                self._setting = None  # to look for it again with every message would cost each of them
            return None


def current_owner(signatures: Signatures) -> str | None:
    """The user of the enclosing `owner` block, else of the running task."""
    user_id = _owner.get()
    if user_id is not None:
        return user_id
    running = _running(signatures)
    return None if running is None else signatures.proven(running, running.get("id"))


def _running(signatures: Signatures, besides: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
    """The innermost run here that names an owner; one that runs eagerly, inside another, may name none."""
    stack: list[Any] = getattr(_state._task_stack, "stack", None) or []  # noqa: SLF001
    for task in reversed(stack):
        request = task.request
        fields: dict[str, Any] | None = None if request is None else request.__dict__
        if fields and fields is not besides and fields.get(signatures.header) is not None:
            return fields
    return None


def _function(setting: Any) -> Callable[[str, Mapping[str, Any]], object]:
    found: Any = setting
    if isinstance(setting, str):
        found = symbol_by_name(setting)  # type: ignore[no-untyped-call]  # kombu is typed in part
    if not callable(found):
        raise TypeError(f"oracle_owner = {setting!r} is no function")
    return found  # type: ignore[no-any-return]
