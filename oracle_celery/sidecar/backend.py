"""What stands behind the HTTP side: the database and everything that lives on it, opened and closed as one.

`parts` raises `DatabaseUnavailable` until `open` has succeeded once; after that a database that goes away is each
part's own business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, NamedTuple

from oracle_celery.control import Control, ping
from oracle_celery.database.control import ControlStore
from oracle_celery.database.failures import FailureQueries
from oracle_celery.database.fetching import Fetch, over
from oracle_celery.database.fleet import FleetQueries
from oracle_celery.database.lineage import LineageQueries
from oracle_celery.database.logs import LogQueries
from oracle_celery.database.marks import MarkedFetch
from oracle_celery.database.metrics import MetricQueries
from oracle_celery.database.opening import (
    LIVE_POOL_SIZE,
    migrate_schema,
    open_pool,
    require_schema,
    require_sessions,
)
from oracle_celery.database.progress import ProgressQueries
from oracle_celery.database.queries import Queries
from oracle_celery.database.retention import RetentionQueries, Windows
from oracle_celery.database.schedule import ScheduleQueries
from oracle_celery.database.standby import Standby
from oracle_celery.database.trends import Trends
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.database.values import ValueQueries
from oracle_celery.errors import DatabaseUnavailable
from oracle_celery.settings import Settings
from oracle_celery.sidecar.broadcaster import Broadcaster
from oracle_celery.sidecar.bulk_runner import BulkRunner
from oracle_celery.sidecar.bulletins import Bulletins
from oracle_celery.sidecar.capacity import capacity_for
from oracle_celery.sidecar.depths import Depths
from oracle_celery.sidecar.listener import CHANNEL, CONTROL_CHANNEL, Listener
from oracle_celery.sidecar.log_stream import LogStreams
from oracle_celery.sidecar.maintenance import Maintenance
from oracle_celery.sidecar.progress import ProgressBulletins
from oracle_celery.sidecar.resume import EVENTS_LIMIT, Resume
from oracle_celery.sidecar.seats import Seats
from oracle_celery.sidecar.settlement import Settlement
from oracle_celery.sidecar.stream import Streams
from oracle_celery.sidecar.summaries import Summaries

__all__ = ["Backend", "Parts"]

#: How long the first look for changes is waited for: as long as a read may take.
FIRST_READ_SECONDS = 10.0
#: Milliseconds after which a count within a query, or what may be proposed, is not known.
COUNTING_PATIENCE = 500
#: The same for each part of the metrics.
METRICS_PATIENCE = 2_000

logger = logging.getLogger(__name__)


class Parts(NamedTuple):
    """What handlers use."""

    queries: Queries
    streams: Streams
    broadcaster: Broadcaster
    listener: Listener
    control: Control
    control_store: ControlStore
    fleet: FleetQueries
    depths: Depths
    failures: FailureQueries
    lineage: LineageQueries
    values: ValueQueries
    schedule: ScheduleQueries
    trends: Trends
    logs: LogQueries
    log_streams: LogStreams
    progress: ProgressBulletins
    metrics: MetricQueries
    retention: RetentionQueries
    standby: Standby | None


class _Reads(NamedTuple):
    """What is read for pages, of the primary or of its standby."""

    fetch: Fetch
    over: Callable[[int], Fetch]  # with a statement's milliseconds
    marked: MarkedFetch | None
    standby: Standby | None


class Backend:
    """`open` may be called again after it raised `DatabaseUnavailable`; `close` may be called twice."""

    def __init__(self, settings: Settings, app: Any, *, migrates: bool) -> None:
        self._settings = settings
        self._app = app
        self._migrates = migrates
        self._parts: Parts | None = None
        self._closing = AsyncExitStack()
        self._embedded_url: str | None = None

    @property
    def is_open(self) -> bool:
        return self._parts is not None

    @property
    def parts(self) -> Parts:
        if self._parts is None:
            raise DatabaseUnavailable(detail="it has not been reached yet")
        return self._parts

    async def open(self) -> None:
        url = self._settings.url or await self._embedded()
        direct_url = self._settings.listen_url or url
        await require_sessions(direct_url, "oracle_listen_url" if self._settings.listen_url else "oracle_url")
        if self._migrates:
            for migration in await asyncio.to_thread(migrate_schema, url):
                logger.info("Migrated the database to version %d: %s", migration.version, migration.name)
        else:
            await asyncio.to_thread(require_schema, url)
        pool = await open_pool(url)
        self._closing.push_async_callback(pool.close)
        live_pool = await open_pool(url, LIVE_POOL_SIZE)
        self._closing.push_async_callback(live_pool.close)
        fetch, live = over(pool), over(live_pool)
        queries = Queries(live)
        reads = await self._reads(pool)
        values = ValueQueries(reads.fetch, reads.over(COUNTING_PATIENCE))
        fleet = FleetQueries(reads.fetch, self._settings.worker_timeout)
        depths = Depths(self._app)
        self._closing.push_async_callback(depths.stop)
        broadcaster = Broadcaster(queries, history=EVENTS_LIMIT)
        summaries = Summaries(Queries(reads.fetch), broadcaster)
        store = ControlStore(direct_url, self._settings.redaction)
        self._closing.push_async_callback(asyncio.to_thread, store.close)
        control = Control(self._app, self._settings, store)
        bulletins = Bulletins(store, broadcaster)
        bulk_runner = BulkRunner(store, control)
        settlement = Settlement(store, control)
        self._closing.push_async_callback(settlement.stop)

        def hear_control(payload: str) -> None:
            bulletins.hear(payload)
            bulk_runner.hear(payload)

        windows = Windows.of(self._settings)
        maintenance = Maintenance(
            Upkeep(direct_url, windows),
            self._settings.worker_timeout,
            partial(ping, self._app),
            settle=settlement.round,
        )
        seats = Seats(
            limit=capacity_for(self._settings.streams_limit).streams, per_user=self._settings.streams_per_user
        )
        streams = Streams(broadcaster, summaries, Resume(broadcaster, queries), seats)
        broadcaster.turn = streams.written
        log_streams = LogStreams(LogQueries(live), seats)
        progress = ProgressBulletins(ProgressQueries(live), ProgressQueries(fetch), broadcaster)

        def hear(_: str) -> None:  # a batch of log lines rings with any of its tasks
            broadcaster.wake()
            log_streams.wake()
            progress.wake()

        listener = Listener(direct_url, live_pool, {CHANNEL: hear, CONTROL_CHANNEL: hear_control})
        for part in (
            streams,
            broadcaster,
            summaries,
            bulletins,
            log_streams,
            progress,
            listener,
            maintenance,
            bulk_runner,
        ):
            self._closing.push_async_callback(part.stop)
            await part.start()
        if not broadcaster.is_online:
            # From here on it is said that we are there: a stream that is opened then is told of all that comes after.
            await broadcaster.next_read(FIRST_READ_SECONDS)
        self._parts = Parts(
            *(Queries(reads.fetch, reads.marked), streams, broadcaster, listener, control, store, fleet, depths),
            failures=FailureQueries(reads.fetch),
            lineage=LineageQueries(reads.fetch),
            values=values,
            schedule=ScheduleQueries(reads.fetch, self._settings.worker_timeout),
            trends=Trends(reads.fetch),
            logs=LogQueries(reads.fetch, reads.marked),
            log_streams=log_streams,
            progress=progress,
            metrics=MetricQueries(reads.over(METRICS_PATIENCE), self._settings.worker_timeout),
            retention=RetentionQueries(fetch, windows),
            standby=reads.standby,
        )

    async def _reads(self, pool: Any) -> _Reads:
        if self._settings.read_url is None:
            return _Reads(over(pool), partial(over, pool), None, None)
        standby_pool = await open_pool(self._settings.read_url)
        self._closing.push_async_callback(standby_pool.close)
        standby = Standby(standby_pool, pool)
        self._closing.push_async_callback(standby.stop)
        await standby.start()
        return _Reads(standby.fetch, standby.over, standby.marked, standby)

    def close_streams(self) -> None:
        if self._parts is not None:
            self._parts.streams.close()

    async def close(self) -> None:
        self._parts = None
        await self._closing.aclose()

    async def _embedded(self) -> str:
        """Started once, stopped by `close`."""
        if self._embedded_url is None:
            from oracle_celery.embedded import EmbeddedPostgres

            server = EmbeddedPostgres(self._settings.state_path)
            self._closing.push_async_callback(asyncio.to_thread, server.stop)
            starting = asyncio.ensure_future(asyncio.to_thread(server.start))
            try:
                self._embedded_url = await asyncio.shield(starting)
            except asyncio.CancelledError:
                await asyncio.wait({starting})  # its thread goes on, and only a started server can be stopped
                raise
        return self._embedded_url
