"""What the broker says of queues, for all clients of one sidecar: asked in a thread, at most once a second.

What bites: a broker that does not answer keeps whoever asks waiting for a few seconds, and its silence is remembered as
long as an answer would be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any

from oracle_celery.broker_queues import BrokerQueues, Depth

__all__ = ["Depths"]

#: How long an answer serves everybody.
FRESH_SECONDS = 1.0

_NO_APP = Depth(error="this sidecar was started without a Celery app")


class Depths:
    def __init__(self, app: Any) -> None:
        self._broker = None if app is None else BrokerQueues(app)
        self._known: dict[str, tuple[float, Depth]] = {}
        self._asking: asyncio.Task[None] | None = None

    @property
    def has_broker(self) -> bool:
        return self._broker is not None

    async def of(self, names: Collection[str]) -> dict[str, Depth]:
        """One answer for each name, at most `FRESH_SECONDS` old."""
        if self._broker is None:
            return dict.fromkeys(names, _NO_APP)
        while not self._is_fresh(names):
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask(self._broker, names), name="oracle-depths")
            await asyncio.shield(self._asking)  # others wait for it too: who goes away does not take it along
        return {name: self._known[name][1] for name in names}

    async def stop(self) -> None:
        if self._asking is not None:
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._broker is not None:
            await asyncio.to_thread(self._broker.close)

    def _is_fresh(self, names: Collection[str]) -> bool:
        oldest = time.monotonic() - FRESH_SECONDS
        self._known = {name: (at, depth) for name, (at, depth) in self._known.items() if at >= oldest}
        return all(name in self._known for name in names)

    async def _ask(self, broker: BrokerQueues, names: Collection[str]) -> None:
        try:
            found = await asyncio.to_thread(broker.depths, names)
            now = time.monotonic()
            self._known |= {name: (now, depth) for name, depth in found.items()}
        finally:
            self._asking = None
