"""What follows commands by itself, done once for all by the sidecar that leads: outcomes, ends of pauses, results.

Guarantee: all of it may be done twice, or by two at once, without harm. What bites: an application's result backend
that is away may hold its caller for minutes, so telling it goes on beside the rounds, and holds up neither them nor the
end of the process.
"""

from __future__ import annotations

import asyncio
import logging
import time

from oracle_celery.bounded_calls import BoundedCalls
from oracle_celery.control import Control
from oracle_celery.database.control import ControlStore
from oracle_celery.ending import end
from oracle_celery.errors import DatabaseUnavailable

__all__ = ["Settlement"]

logger = logging.getLogger(__name__)

#: Cancelled tasks that are settled in one transaction.
SETTLE_LIMIT = 500
#: A result backend that failed is asked again after this long.
RESULTS_RETRY_SECONDS = 10.0


class Settlement:
    """Called once a round by maintenance, which also stops it."""

    def __init__(self, store: ControlStore, control: Control) -> None:
        self._store = store
        self._control = control
        self._calls = BoundedCalls("oracle-results", 1)
        self._revoking: asyncio.Task[int] | None = None
        self._revoke_at = 0.0

    async def round(self) -> None:
        """Never raises: what fails is due again in the next round."""
        try:
            await self._round()
        except DatabaseUnavailable as error:
            logger.debug("Commands are not settled for now: %s", error)
        except Exception:
            logger.exception("Settling commands failed")

    async def stop(self) -> None:
        await end(self._revoking)

    async def _round(self) -> None:
        while await asyncio.to_thread(self._store.settle, SETTLE_LIMIT) >= SETTLE_LIMIT:
            await asyncio.sleep(0)
        if ended := await asyncio.to_thread(self._store.end_pauses):
            logger.info("Pauses that have come to their time: %d", ended)
            await asyncio.to_thread(self._control.ring)
        self._revoke_results()

    def _revoke_results(self) -> None:
        if self._revoking is not None:
            if not self._revoking.done():
                return
            if error := self._revoking.exception():
                logger.warning("The result backend is not told of cancelled tasks for now: %r", error)
                self._revoke_at = time.monotonic() + RESULTS_RETRY_SECONDS
            self._revoking = None
        if time.monotonic() >= self._revoke_at:
            self._revoking = asyncio.create_task(self._calls.awaited(self._control.revoke_results))
