"""Tells open pages how bulk actions get on, and that there is something new about queues.

Guarantee: what a page is told of a bulk is its row, at most `GAP_SECONDS` old while it runs, to its actor and to those
who see everything. A page that was not connected has missed nothing: it reads the bulk when it opens, and the end is
told like any step. What bites: these events carry no cursor, because they are no part of the history.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import Bulk
from oracle_celery.ending import end
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.sidecar import events
from oracle_celery.sidecar.broadcaster import Broadcaster

__all__ = ["Bulletins"]

logger = logging.getLogger(__name__)

#: Least time between two looks: a bulk rings with every batch.
GAP_SECONDS = 0.25
#: Covers what the listener did not hear.
POLL_SECONDS = 2.0
#: The newest bulks, which are looked at beside those that run.
BULKS_LIMIT = 100

#: Kinds of notifications that say something about queues.
_QUEUE_KINDS = frozenset({"pause", "report"})


class Bulletins:
    """`start` and `stop` bracket its task; `hear` takes the notifications of control's channel."""

    def __init__(self, store: ControlStore, broadcaster: Broadcaster) -> None:
        self._store = store
        self._broadcaster = broadcaster
        self._known: dict[str, Bulk] | None = None
        self._woken = asyncio.Event()
        self._has_queue_news = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when it is known which bulks are news: whoever comes after that is told of them."""
        if self._task is None:
            await self._looked()
            self._task = asyncio.create_task(self._run(), name="oracle-bulletins")

    async def stop(self) -> None:
        await end(self._task)

    def hear(self, payload: str) -> None:
        """An empty payload: something may have been missed."""
        kind = _kind(payload)
        self._has_queue_news |= not kind or kind in _QUEUE_KINDS
        if not kind or kind == "bulk" or kind in _QUEUE_KINDS:
            self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            if self._has_queue_news:
                self._has_queue_news = False
                self._offer(events.block("queues", {}), self._broadcaster.scopes())
            await self._looked()
            await asyncio.sleep(GAP_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()

    async def _looked(self) -> None:
        """`_tell_bulks`, whatever comes of it: the next look must come."""
        try:
            await self._tell_bulks()
        except DatabaseUnavailable as error:
            logger.debug("No news of bulk actions for now: %s", error)
        except Exception:
            logger.exception("Looking for news of bulk actions failed")

    async def _tell_bulks(self) -> None:
        running = [bulk_id for bulk_id, bulk in (self._known or {}).items() if bulk.state == "running"]
        found = await asyncio.to_thread(self._store.watched_bulks, running, BULKS_LIMIT)
        known, self._known = self._known, {bulk.bulk_id: bulk for bulk in found}
        if known is None:  # from now on
            return
        for bulk in reversed(found):  # the oldest first
            if known.get(bulk.bulk_id) != bulk:
                self._offer(events.block("bulk", bulk), _readers_of(bulk))

    def _offer(self, chunk: bytes, owners: list[str | None]) -> None:
        for owner in owners:
            for subscription in self._broadcaster.subscribers(owner):
                subscription.offer(chunk)


def _readers_of(bulk: Bulk) -> list[str | None]:
    """As whom they are subscribed; what somebody did as an admin is not theirs as an owner."""
    return [None] if bulk.is_admin else [None, bulk.actor]


def _kind(payload: str) -> str:
    """Empty for what is not understood."""
    try:
        return msgspec.json.decode(payload, type=_Notice).kind
    except msgspec.DecodeError:
        return ""


class _Notice(msgspec.Struct):
    kind: str
