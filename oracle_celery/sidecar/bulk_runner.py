"""Runs bulk actions in the background, batch by batch, and goes on with those that an earlier sidecar left.

Guarantee: a bulk is run by one sidecar at a time, under a lock of the database that ends with its holder. Each batch of
cancels is one transaction. A retry's new id is stored before its message is sent, and what a killed runner left between
the two is said to be unknown: it is never sent again. Nothing is marked as failed because the broker is away: it is
waited for, and what has been claimed is given back.

What bites: all of this blocks, so it has a thread of its own, which `stop` waits for: one batch at most. Several bulks
take turns, so that a small one does not wait for a large one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from oracle_celery.control import Control, Resender
from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import BulkJob, RetryClaim
from oracle_celery.errors import BrokerUnavailable, DatabaseUnavailable, NotAllowed, PublishFailed, PublishUnknown
from oracle_celery.repetition import repeated

__all__ = ["BulkRunner"]

logger = logging.getLogger(__name__)

#: Tasks of one transaction.
CANCEL_BATCH = 500
RETRY_BATCH = 200
#: How long one bulk runs before another one that is open gets its turn.
TURN_SECONDS = 2.0
#: Covers what the listener did not hear, and other sidecars that were killed.
POLL_SECONDS = 2.0
BACKOFF_FIRST_SECONDS = 0.5
BACKOFF_CAP_SECONDS = 10.0
#: How long what has come of a batch is tried to be written down, while the database is away and nothing else can go on.
NOTE_SECONDS = 300.0
#: In the notifications that are about bulk actions.
BULK_NOTICE = '"kind":"bulk"'
#: Between two lines that say the broker is still away.
REMINDER_SECONDS = 30.0


class BulkRunner:
    """`start` and `stop` bracket its thread; `hear` takes the notifications of control's channel."""

    def __init__(self, store: ControlStore, control: Control, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._store = store
        self._control = control
        self._poll_seconds = poll_seconds
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="oracle-bulk-runner", daemon=True)
            self._thread.start()

    async def stop(self) -> None:
        """Returns when the batch under way is recorded; safe twice."""
        self._stopping.set()
        self._woken.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def hear(self, payload: str) -> None:
        """A bulk that runs rings with every batch: looking once more costs little."""
        if not payload or BULK_NOTICE in payload:
            self._woken.set()

    def _run(self) -> None:
        broker = _Absence()
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                is_busy = self._round()
                broker.ends()
            except BrokerUnavailable as error:
                self._stopping.wait(broker.goes_on(error))
                continue
            except DatabaseUnavailable as error:
                logger.debug("No bulk runs for now: %s", error)
                is_busy = False
            except Exception:  # whatever it was: others are waiting
                logger.exception("A round of bulk actions failed")
                is_busy = False
            if not is_busy:
                self._woken.wait(self._poll_seconds)

    def _round(self) -> bool:
        """A turn for each open bulk; True where one of them is not at its end."""
        jobs = self._store.open_bulks()
        away: BrokerUnavailable | None = None
        is_busy = False
        for job in jobs:
            if self._stopping.is_set():
                return False
            with self._store.try_run_bulk(job.bulk_id) as is_ours:
                if not is_ours:
                    continue
                try:
                    is_busy |= not self._turn(job, TURN_SECONDS)
                except BrokerUnavailable as error:  # a cancel needs no broker: others go on
                    away = error
        if away is not None:
            raise away
        return is_busy

    def _turn(self, job: BulkJob, seconds: float) -> bool:
        """Whether the bulk has come to its end."""
        deadline = time.monotonic() + seconds
        self._store.recover_bulk(job)
        batch = self._cancel_batch if job.action == "cancel" else self._retry_batch
        while batch(job):
            if self._stopping.is_set() or time.monotonic() > deadline:
                return False
        self._store.recover_bulk(job)
        bulk = self._store.finish_bulk(job.bulk_id)
        logger.info("Bulk %s of %d tasks is finished: %s", job.action, bulk.total, bulk.outcomes)
        return True

    def _cancel_batch(self, job: BulkJob) -> bool:
        """False where nothing is left."""
        items = self._store.next_items(job.bulk_id, CANCEL_BATCH)
        if items:
            self._store.cancel_items(job, items)
            self._control.ring()
        return bool(items)

    def _retry_batch(self, job: BulkJob) -> bool:
        """False where nothing is left. Raises BrokerUnavailable with nothing promised that has not been tried."""
        items = self._store.next_items(job.bulk_id, RETRY_BATCH)
        if not items:
            return False
        with self._control.resender() as resender:
            resender.connect()
            self._send(job, self._store.claim_retry_items(job, items), resender)
        return True

    def _send(self, job: BulkJob, claims: Sequence[RetryClaim], resender: Resender) -> None:
        sent: list[str] = []
        traces: dict[str, dict[str, str]] = {}
        failed: dict[str, str] = {}
        away: BrokerUnavailable | None = None
        tried = 0
        for claim in claims:
            try:
                traces[claim.new_id] = resender.resend(claim.envelope, claim.key_id, claim.new_id)
                sent.append(claim.new_id)
            except BrokerUnavailable as error:
                away = error
                break
            except (PublishFailed, NotAllowed) as error:  # it is about this message alone
                failed[claim.new_id] = str(error)
            except PublishUnknown as error:  # a broker that does not answer would make all others unknown as well
                away = BrokerUnavailable(detail=error.fields["detail"])
                tried += 1
                break
            except Exception:  # then nobody knows either, but of this one alone
                logger.exception("A message of a bulk retry may not have been sent")
            tried += 1
        try:
            self._note(partial(self._store.record_retry_items, job, sent, failed, traces))
        finally:
            if away is not None:
                self._note(partial(self._store.release_retry_items, job, [claim.new_id for claim in claims[tried:]]))
        if away is not None:
            raise away

    def _note(self, write: Callable[[], object]) -> None:
        """What is certain of a batch: where it is never written, its items are unknown, and barred for ever."""
        repeated(write, NOTE_SECONDS, self._stopping)


class _Absence:
    """Of the broker: how long to wait, and when to say so."""

    def __init__(self) -> None:
        self._failures = 0
        self._said_at = 0.0

    def goes_on(self, error: BrokerUnavailable) -> float:
        """Seconds until the next try."""
        now = time.monotonic()
        if not self._failures or now - self._said_at > REMINDER_SECONDS:
            self._said_at = now
            logger.warning("Bulk retries wait for the broker: %s", error)
        self._failures += 1
        return min(BACKOFF_CAP_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** min(self._failures - 1, 10))

    def ends(self) -> None:
        if self._failures:
            self._failures = 0
            logger.warning("Bulk retries go on: the broker answers again.")
