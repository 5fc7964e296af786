"""Oracle is a guest in other people's processes: what Celery calls here raises nothing, and is not silent about it.

The first mistake of a process is logged with its traceback, all of them are counted.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oracle_celery.extension import Oracle

__all__ = ["Guest"]

logger = logging.getLogger(__name__)


class Guest:
    """Wraps the signal handlers of one `Oracle`."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.failures = 0
        self._is_recording = False

    def connect(self, signal: Any, handler: Callable[..., None]) -> None:
        """Connects `handler` for good: Celery holds handlers weakly, and a bound method is gone at once."""
        signal.connect(self.guarded(handler), weak=False, dispatch_uid=f"oracle-{id(self)}-{signal.name}")

    def disconnect(self, signal: Any) -> None:
        """The handler that was connected last."""
        signal.disconnect(dispatch_uid=f"oracle-{id(self)}-{signal.name}")

    def guarded(self, handler: Callable[..., None]) -> Callable[..., None]:
        """The handler as Celery calls it; it does nothing where Oracle records nothing."""

        @functools.wraps(handler)
        def guarded(sender: Any = None, **fields: Any) -> None:
            try:
                if self._is_recording or self._starts_recording():
                    handler(sender, **fields)
            except Exception:  # noqa: BLE001  # a guest's mistake is the guest's
                self.count_failure()

        return guarded

    def count_failure(self) -> None:
        """Call it where the exception is handled."""
        self.failures += 1
        if self.failures == 1:
            logger.exception("Oracle could not record something; the task goes on. Told once per process.")

    def _starts_recording(self) -> bool:
        self._is_recording = self.oracle.is_recording
        return self._is_recording
