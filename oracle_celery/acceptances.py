"""What a pool's children have said already is heard before Celery forgets the tasks that it has not heard of.

When a worker stops, and when its connection to the broker is lost, Celery drops from its books each task whose child
has not accepted it. But an acceptance may lie in the child's pipe, unread: such a task runs on where nobody knows of
it, cannot be cancelled, and its message is given to somebody else although it has begun.

Guarantee: a pass over the pipes, never a wait. A mistake of ours is counted, and Celery goes on as it would without.
"""

from __future__ import annotations

import inspect
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oracle_celery.guest import Guest

__all__ = ["hear_before_forgetting"]


def hear_before_forgetting(worker: Any, guest: Guest) -> None:
    """Of a worker whose pool has started. Only a pool in an event loop forgets: to any other nothing is done."""
    forget: Callable[[], None] | None = getattr(worker.pool, "flush", None)
    if worker.hub is None or forget is None:
        return

    def hear_and_forget() -> None:
        try:
            _hear(worker.pool._pool, worker.hub)  # noqa: SLF001
        except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
            guest.count_failure()
        forget()

    worker.pool.flush = hear_and_forget


def _hear(pool: Any, hub: Any) -> None:
    """As the event loop would in its next round: the messages that lie ready."""
    if pool is None or not pool._registered_with_event_loop:  # noqa: SLF001
        return  # a cold shutdown has ended it, or it never came to its event loop and no child got a task
    read = pool.handle_result_event
    children = pool._fileno_to_outq  # noqa: SLF001
    for descriptor in list(children):
        while descriptor in children and _is_readable(descriptor):
            reader, arguments = hub.readers.get(descriptor, (read, (descriptor,)))
            try:
                if inspect.isgenerator(reader):  # in the middle of a message
                    next(reader, None)
                else:
                    reader(*arguments)
            except (OSError, EOFError):
                break  # the child is gone, or the broker is
            if descriptor not in hub.readers:
                break


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))
