"""Hears that PostgreSQL has something new, and knows whether it can hear at all.

One dedicated connection listens on channels, each with somebody who hears it. A notification only says "look": whoever
is woken reads the rows. Nothing depends on it being heard, because those who hear also poll; the listener buys latency,
and its status tells a person when that is lost.

What bites: behind pgbouncer in transaction mode LISTEN succeeds and nothing ever arrives, and a listen_url may point
to another database by mistake. Both are silent. So the listener pings itself: the ping is sent through the pool's
connection, as a worker's notification would be, and must come back on the listening one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from oracle_celery.database.silence import KEEPALIVES, answers_within, impatient
from oracle_celery.database.sql import statement
from oracle_celery.ending import end

__all__ = ["CHANNEL", "CONTROL_CHANNEL", "Hear", "Listener", "ListenerStatus"]

logger = logging.getLogger(__name__)

#: The mission's channel, on which every change of a status is told.
CHANNEL = "oracle_channel"
#: On which every command, and what workers say of one, is told.
CONTROL_CHANNEL = "oracle_control"
#: The listener's own channel: a ping must not look like a task.
PING_CHANNEL = "oracle_ping"

PING_INTERVAL_SECONDS = 5.0
#: A ping that has not come back after this long was not heard.
PING_PATIENCE_SECONDS = 2.0
#: Unheard pings in a row after which the connection is made anew: the network may have dropped it without a word.
UNHEARD_PINGS_BEFORE_RECONNECT = 3
#: Since the last ping that was heard: then a single unheard one is enough. Others may not have been sent at all.
SILENCE_SECONDS = 10.0
#: For each answer to a new connection, until it listens.
LISTEN_PATIENCE_SECONDS = 5.0
BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 5.0
#: Between two words about the same trouble while it lasts.
COMPLAINT_SECONDS = 60.0

_CONNECTION_OPTIONS: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "oracle-listener",
    **KEEPALIVES,
}


#: Is given a notification's payload; "" where some may have been missed.
Hear = Callable[[str], None]


class ListenerStatus(StrEnum):
    """What the listener can do now."""

    STARTING = "starting"  # not connected yet, or connected and not yet sure
    HEARING = "hearing"  # its own ping came back
    DEAF = "deaf"  # connected, but its own ping does not come back
    DOWN = "down"  # not connected


class Listener:
    """Calls who hears a channel for each of its notifications, and everybody after a reconnect.

    `hearers`, by channel, must not block. `start` returns once the first attempt to connect is decided; `stop` may be
    called twice.
    """

    def __init__(
        self,
        dsn: str,
        pool: AsyncConnectionPool[Any],
        hearers: Mapping[str, Hear],
        *,
        ping_interval: float = PING_INTERVAL_SECONDS,
        ping_patience: float = PING_PATIENCE_SECONDS,
    ) -> None:
        self.status = ListenerStatus.STARTING
        self._dsn = dsn
        self._pool = pool
        self._hearers = hearers
        self._ping_interval = ping_interval
        self._ping_patience = ping_patience
        self._started = asyncio.Event()
        self._heard = asyncio.Event()
        self._expected = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="oracle-listener")
        await self._started.wait()

    async def stop(self) -> None:
        await end(self._task)
        self._become(ListenerStatus.DOWN)

    async def _run(self) -> None:
        failures = 0
        complained_at = -math.inf
        while True:
            try:
                async with await self._connect() as connection:
                    failures = 0
                    self._started.set()
                    for hear in self._hearers.values():
                        hear("")
                    await self._listen(connection)
            except (psycopg.Error, OSError) as error:
                self._become(ListenerStatus.DOWN)
                if failures == 0:
                    logger.warning("The listener's connection is gone, polling goes on: %s", _one_line(error))
            except Exception:  # whatever it was: the next attempt must come, and nobody is told that it hears
                self._become(ListenerStatus.DOWN)
                if time.monotonic() - complained_at >= COMPLAINT_SECONDS:
                    complained_at = time.monotonic()
                    logger.exception(
                        "The listener failed, which is a mistake of Oracle's; polling goes on, and it is made anew. "
                        "Please report it with what follows"
                    )
            self._started.set()
            failures += 1
            ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(failures, 10))
            await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311  # spreads reconnects, hides nothing

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, **_CONNECTION_OPTIONS)
        impatient(connection, math.inf)  # later on no news is no silence: the pings tell
        try:
            # not asyncio's timeout: after its cancel psycopg waits for the answer again, for ever
            with answers_within(connection, LISTEN_PATIENCE_SECONDS):
                await connection.execute(statement("keepalives"))
                for channel in (*self._hearers, PING_CHANNEL):
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        except BaseException:
            await connection.close()
            raise
        self._become(ListenerStatus.STARTING)
        return connection

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Returns or raises when this connection is to be given up."""
        hearing = asyncio.create_task(self._hear(connection), name="oracle-listener-hear")
        pinging = asyncio.create_task(self._ping_for_ever(), name="oracle-listener-ping")
        try:
            done, _ = await asyncio.wait({hearing, pinging}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(hearing, pinging)

    async def _hear(self, connection: psycopg.AsyncConnection[Any]) -> None:
        async for notification in connection.notifies():
            hear = self._hearers.get(notification.channel)
            if hear is not None:
                hear(notification.payload)
            elif notification.payload == self._expected:
                self._heard.set()

    async def _ping_for_ever(self) -> None:
        """Returns when the listening connection seems dead although nobody said so. One that heard before is asked
        again at once; one that never did is a mistake in an address, and is not made anew all the time."""
        unheard, heard_at = 0, 0.0
        while unheard < UNHEARD_PINGS_BEFORE_RECONNECT:
            self._heard.clear()
            self._expected = secrets.token_hex(8)
            if await self._send_ping():
                try:
                    # not wait_for: Python 3.11's forgets a cancel that comes with the answer, and `stop` would wait
                    async with asyncio.timeout(self._ping_patience):
                        await self._heard.wait()
                except TimeoutError:
                    unheard += 1
                    self._become(ListenerStatus.DEAF)
                    if heard_at and time.monotonic() - heard_at > SILENCE_SECONDS:
                        return
                    if heard_at:
                        continue
                else:
                    unheard, heard_at = 0, time.monotonic()
                    self._become(ListenerStatus.HEARING)
            await asyncio.sleep(self._ping_interval)

    async def _send_ping(self) -> bool:
        """False where the ping itself could not be sent, which says nothing about hearing."""
        try:
            async with self._pool.connection(timeout=self._ping_patience) as connection:
                await connection.execute("SELECT pg_notify(%s, %s)", (PING_CHANNEL, self._expected))
        except (psycopg.Error, PoolTimeout) as error:
            _stay_cancelled(error)
            return False
        return True

    def _become(self, status: ListenerStatus) -> None:
        if status is ListenerStatus.DEAF and self.status is not status:
            logger.warning(
                "The listener is connected but hears nothing: changes appear by polling only. "
                "Behind a pooler, set oracle_listen_url to a direct address of the same database."
            )
        self.status = status


def _stay_cancelled(error: Exception) -> None:
    """A connection that ends while a query on it is being cancelled tells its end in place of the cancel."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
