"""A task whose child was lost when its result was already stored: Celery looks for that, and calls it a success.

It does so since 5.7, in the worker's main process, and sends an event only. The child may have been killed before it
could tell anybody, so what Celery finds is told from here. Where Celery has no such look there is nothing to do.

What bites: the look is a method of Celery's own that no interface promises. If it changes, such a task counts as lost,
as it does in older versions.
"""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

from oracle_celery.extension import find

__all__ = ["watch"]

METHOD = "_success_was_stored"


def watch() -> None:
    """From now on, for every app of this process; safe twice."""
    look = getattr(Request, METHOD, None)
    if look is None or hasattr(look, "is_watched"):
        return

    def success_was_stored(self: Any) -> Any:
        found = look(self)
        oracle = find(self.app) if isinstance(found, dict) else None
        if oracle is not None and oracle.is_recording:
            try:
                oracle.signals.tell_stored_success(self, found.get("result"))
            except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
                oracle.guest.count_failure()
        return found

    success_was_stored.is_watched = True  # type: ignore[attr-defined]
    setattr(Request, METHOD, success_was_stored)
