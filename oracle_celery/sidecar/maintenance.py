"""What one sidecar of all does for the others: folds statistics, failures and durations, writes down gauges, settles
commands, gives up workers that are gone and tasks that expired, makes partitions ahead and deletes what is old enough.

A worker is given up only when three things are true: its beats have been missing for the whole timeout on the
database's clock; this sidecar has itself been able to see beats for a whole timeout, without a break; and it answers no
ping over the broker, asked again and again until its silence has outlasted the timeout by a fifth. The second is why a
database's own absence, a sidecar's start or a suspended laptop never makes healthy workers look lost. The fifth is for
a worker that was stopped just before a beat was due: with the usual timeout of 30 s and a beat every 10 s, one that was
stopped for 25 s is late by 35 s and alive. Where the broker cannot be asked nobody is given up.

Tasks that expired in the broker, and those that a journal found late says a gone worker runs, are ended after the same
full watch: what workers had to say in a database's absence must have had the time to come in.

What bites: a restarted worker answers under its predecessor's node name. If a newer incarnation of the name has
registered, an answer says nothing about the older one, so it is not asked for; its beats are waited for as long.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection

from oracle_celery.database.partitions import TableBusy
from oracle_celery.database.upkeep import (
    DURATIONS_LIMIT,
    EXPIRY_LIMIT,
    FOLD_LIMIT,
    STRANDED_LIMIT,
    SilentWorker,
    Upkeep,
)
from oracle_celery.ending import end
from oracle_celery.errors import DatabaseUnavailable

__all__ = ["Maintenance"]

logger = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
#: A round that begins this late means that this process, or the whole machine, was suspended.
SUSPENDED_SECONDS = 5.0
#: A silent worker that answers is asked again after this part of the timeout, one that does not after the second.
ASK_AGAIN_FRACTION = 1 / 3
INSIST_FRACTION = 1 / 30
#: Of the timeout: how long a worker has been silent when it is given up.
GIVE_UP_FRACTION = 1.2
TRIM_SECONDS = 3600.0
#: Between two looks for tasks that expired in the broker, and for those that workers long gone are said to run.
LOOK_SECONDS = 5.0
#: Between two samples of how many tasks wait and run: every minute has one.
SAMPLE_SECONDS = 30.0
#: Between two folds of how long runs took, and how many at most follow each other while there is more.
DURATIONS_SECONDS = 5.0
DURATIONS_FOLDS = 10
#: Between two looks for kept messages of tasks that have completed.
FORGET_SECONDS = 60.0
#: Between two looks whether there are partitions for the days to come, and where somebody was in the way.
PARTITIONS_SECONDS = 1_800.0
BUSY_SECONDS = 60.0
#: Of each round, what a round of retention may take while there is something to delete.
RETAIN_SECONDS = 0.25
#: A step that failed rests for so many times what that took: one that ran into its time limit does not keep the server
#: busy, and one that was refused at once is tried again at once. And seconds between two words about it.
REST_FACTOR, REST_LIMIT_SECONDS = 10.0, 60.0
COMPLAINT_SECONDS = 600.0
#: Parts of the history in which one round looks for failures.
FAILURE_FOLDS = 5

Ping = Callable[[Collection[str]], Awaitable[set[str]]]
Settle = Callable[[], Awaitable[None]]


class Maintenance:
    """`start` and `stop` bracket its task. Every sidecar has one; only the leader's does anything."""

    def __init__(
        self,
        upkeep: Upkeep,
        worker_timeout: float,
        ping: Ping,
        *,
        settle: Settle | None = None,
        round_seconds: float = ROUND_SECONDS,
        retain_again: float = TRIM_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upkeep = upkeep
        self._worker_timeout = worker_timeout
        self._ping = ping
        self._settle = settle
        self._round_seconds = round_seconds
        self._retain_again = retain_again
        self._clock = clock
        self._watching_since = clock()
        self._last_round = clock()
        self._ask_at: dict[str, float] = {}
        self._stranded_since: dict[str, float] = {}
        self._trim_at = clock()
        self._look_at = clock()
        self._forget_at = clock()
        self._sample_at = clock()
        self._durations_at = clock()
        self._partitions_at = clock()
        self._retain_at = clock()
        #: By step, when it may be tried again, and when it was last said that it fails.
        self._rests_until: dict[str, float] = {}
        self._complained_at: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="oracle-maintenance")

    async def stop(self) -> None:
        """Gives the lead up."""
        await end(self._task)
        await self._upkeep.close()

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except DatabaseUnavailable as error:
                logger.debug("No maintenance for now: %s", error)
                self._watching_since = self._clock()
            except Exception:  # whatever it was: the next round must come
                logger.exception("A round of maintenance failed")
                self._watching_since = self._clock()
            await asyncio.sleep(self._round_seconds)

    async def round(self) -> None:
        """Everything that is due now, if this sidecar leads. Raises DatabaseUnavailable where the database is away."""
        now = self._clock()
        if now - self._last_round > self._round_seconds + SUSPENDED_SECONDS:
            self._watching_since = now
        self._last_round = now
        if await self._upkeep.try_lead():
            await self._try("folding statistics", self._fold_statistics)
            await self._try("folding failures", self._fold_failures)
            if now >= self._partitions_at:
                await self._keep_partitions(now)
            if now >= self._trim_at:
                self._trim_at = now + TRIM_SECONDS
                await self._try("trimming statistics", self._trim_statistics)
                await self._try("trimming the schedule", self._trim_schedule)
                await self._try("trimming metrics", self._upkeep.trim_metrics)
                await self._try("trimming failures", self._trim_failures)
            if now >= self._forget_at:
                self._forget_at = now + FORGET_SECONDS
                await self._try("forgetting messages", self._upkeep.forget_messages)
                await self._try("forgetting progress", self._upkeep.forget_progress)
            if now - self._watching_since >= self._worker_timeout:
                await self._try("giving lost workers up", self._give_up_lost_workers)
                if now >= self._look_at:
                    self._look_at = now + LOOK_SECONDS
                    await self._try("failing tasks of gone workers", self._fail_stranded_tasks)
                    await self._try("cancelling expired tasks", self._expire_overdue)
            if self._settle is not None:
                await self._try("settling commands", self._settle)
            if now >= self._sample_at:
                self._sample_at = now + SAMPLE_SECONDS
                await self._try("sampling gauges", self._upkeep.sample_gauges)
            if now >= self._durations_at:
                self._durations_at = now + DURATIONS_SECONDS
                await self._try("folding durations", self._fold_durations)
            if now >= self._retain_at:
                await self._retain(now)
        self._last_round = self._clock()

    async def _try(self, what: str, step: Callable[[], Awaitable[object]]) -> None:
        """One step. Where it alone fails, each time perhaps, all others come nevertheless; it rests the longer the more
        time it has taken in vain. Raises what it failed with where that is everybody's trouble."""
        began = self._clock()
        if began < self._rests_until.get(what, began):
            return
        try:
            await step()
        except Exception as error:
            if self._upkeep.is_away:
                raise
            now = self._clock()
            self._rests_until[what] = now + min(REST_LIMIT_SECONDS, REST_FACTOR * (now - began))
            if now - self._complained_at.get(what, -math.inf) < COMPLAINT_SECONDS:
                return
            self._complained_at[what] = now
            if isinstance(error, DatabaseUnavailable):
                logger.warning("Maintenance: %s fails, is tried again, and all else goes on: %s", what, error)
            else:
                logger.exception("Maintenance: %s fails, is tried again, and all else goes on", what)

    async def _fold_statistics(self) -> None:
        while await self._upkeep.fold_statistics() >= FOLD_LIMIT:
            await asyncio.sleep(0)

    async def _trim_statistics(self) -> None:
        self._trim_on(is_more=await self._upkeep.trim_statistics())

    async def _trim_schedule(self) -> None:
        self._trim_on(is_more=await self._upkeep.trim_schedule())

    async def _trim_failures(self) -> None:
        self._trim_on(is_more=await self._upkeep.trim_failures())

    def _trim_on(self, *, is_more: bool) -> None:
        """What is left is for the next round, not for the next hour; the rest of this one must come."""
        if is_more:
            self._trim_at = self._clock()

    async def _expire_overdue(self) -> None:
        while await self._upkeep.expire_overdue(self._worker_timeout) >= EXPIRY_LIMIT:
            await asyncio.sleep(0)

    async def _fold_failures(self) -> None:
        """Not all of a long history at once: the rest of the round must come."""
        for _ in range(FAILURE_FOLDS):
            if not await self._upkeep.fold_failures():
                return
            await asyncio.sleep(0)

    async def _fold_durations(self) -> None:
        """Where the history is long, after an update, a part of it at a time: all else goes on in between."""
        for _ in range(DURATIONS_FOLDS):
            if await self._upkeep.fold_durations() < DURATIONS_LIMIT:
                break

    async def _keep_partitions(self, now: float) -> None:
        """Whatever is in the way, rows go into the default partition meanwhile, and all else goes on."""
        self._partitions_at = now + PARTITIONS_SECONDS
        try:
            await self._upkeep.keep_partitions()
        except (TableBusy, DatabaseUnavailable) as error:
            if self._upkeep.is_away:
                raise
            self._partitions_at = now + BUSY_SECONDS
            logger.warning("Partitions for the days to come are made later: %s", error)

    async def _retain(self, now: float) -> None:
        """A part of a round, until it has come to its end; a word about each partition that went."""
        try:
            removed, is_under_way = await self._upkeep.retain(RETAIN_SECONDS)
        except DatabaseUnavailable as error:  # what only a part of retention may not or cannot do stops nothing else
            if self._upkeep.is_away:
                raise
            self._retain_at = now + BUSY_SECONDS
            logger.warning("Retention is tried again later: %s", error)
            return
        if not is_under_way:
            self._retain_at = now + self._retain_again
        for step in removed:
            if step.partition is not None:
                logger.info("Retention: %s of the %s is dropped, about %d rows", step.partition, step.kind, step.rows)
            elif step.note is not None:
                logger.info("Retention: %s", step.note)

    async def _give_up_lost_workers(self) -> None:
        silent = await self._upkeep.silent_workers(self._worker_timeout)
        self._ask_at = {worker.worker_id: self._ask_at.get(worker.worker_id, -math.inf) for worker in silent}
        for worker in silent:
            if worker.is_replaced and worker.silence >= self._patience:
                await self._give_up(worker, worker.silence, "a newer worker has its name")
        await self._ask([worker for worker in silent if not worker.is_replaced])

    async def _ask(self, silent: list[SilentWorker]) -> None:
        now = self._clock()
        due = [worker for worker in silent if now >= self._ask_at[worker.worker_id]]
        if not due:
            return
        try:
            answering = await self._ping({worker.node for worker in due})
        except Exception as error:  # noqa: BLE001  # whatever the broker's client raises
            logger.warning("Silent workers cannot be asked over the broker, so none is given up: %r", error)
            answering = {worker.node for worker in due}
        waited = self._clock() - now
        for worker in due:
            is_answering = worker.node in answering
            again = ASK_AGAIN_FRACTION if is_answering else INSIST_FRACTION
            self._ask_at[worker.worker_id] = now + self._worker_timeout * again
            if not is_answering and worker.silence + waited >= self._patience:
                await self._give_up(worker, worker.silence + waited, "it does not answer")

    @property
    def _patience(self) -> float:
        """Seconds of silence after which a worker that does not answer is given up."""
        return self._worker_timeout * GIVE_UP_FRACTION

    async def _fail_stranded_tasks(self) -> None:
        """Not at once: the rest of a journal that was found late may be on its way, and say how they ended."""
        now = self._clock()
        found = await self._upkeep.stranded_workers()
        self._stranded_since = {worker_id: self._stranded_since.get(worker_id, now) for worker_id in found}
        due = [worker_id for worker_id, since in self._stranded_since.items() if now - since >= self._worker_timeout]
        while due and (failed := await self._upkeep.fail_stranded(due)):
            logger.warning("Tasks that workers long gone were said to run and that are now failed: %d", failed)
            if failed < STRANDED_LIMIT:
                break

    async def _give_up(self, worker: SilentWorker, silence: float, why: str) -> None:
        tasks = await self._upkeep.mark_lost(worker.worker_id, self._worker_timeout)
        logger.warning(
            "Worker %s (%s) is lost: no beat for %.0f s, and %s. Tasks that it ran and that are now failed: %d",
            *(worker.node, worker.worker_id, silence, why, len(tasks)),
        )
