"""What the page asks of a database, as the sidecar asks it: over its pool, by its readers, each with different values.

Milliseconds of many samples for each read. What bites: samples come one after another, so they tell of a server that is
not busy with others; and a value that nothing matches is the dearest, so some are among them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from oracle_celery.database.cursor import Cursor
from oracle_celery.database.fetching import over
from oracle_celery.database.listing import SORT_KEYS, TaskFilter
from oracle_celery.database.logs import LogQueries
from oracle_celery.database.opening import open_pool
from oracle_celery.database.queries import Queries
from oracle_celery.database.query_language import parse_query
from oracle_celery.database.trends import RANGES, Trends
from oracle_celery.errors import OracleError
from oracle_celery.states import Status
from oracle_celery.viewer import Viewer
from tests.benchmarks.many_days import USERS
from tests.benchmarks.many_tasks import NAMES, QUEUES, WORKERS

__all__ = ["measure_reads"]

SAMPLES = 30
ADMIN = Viewer("root", is_admin=True)
#: Some of a database's tasks, old and new.
SOME_IDS = "SELECT task_id FROM oracle.task_state_record TABLESAMPLE SYSTEM (0.1) ORDER BY random() LIMIT 200"

Read = Callable[[], Awaitable[Any]]


def measure_reads(dsn: str, *, samples: int = SAMPLES, only: str = "") -> dict[str, list[float]]:
    """By what is read; a read that the server gives up has infinite milliseconds."""
    return asyncio.run(_measure(dsn, samples, only))


async def _measure(dsn: str, samples: int, only: str) -> dict[str, list[float]]:
    with psycopg.connect(dsn) as connection:
        ids = [task_id for (task_id,) in connection.execute(SOME_IDS).fetchall()]
    pool = await open_pool(dsn)
    try:
        reads = _reads(Queries(over(pool)), Trends(over(pool)), LogQueries(over(pool)), ids)
        found: dict[str, list[float]] = {}
        for name, read in reads.items():
            if only in name:
                await _milliseconds(read)  # the first one reads what is not in memory yet
                found[name] = [await _milliseconds(read) for _ in range(samples)]
        return found
    finally:
        await pool.close()


async def _milliseconds(read: Read) -> float:
    began = time.perf_counter()
    try:
        await read()
    except OracleError:
        return float("inf")
    return (time.perf_counter() - began) * 1000


def _reads(queries: Queries, trends: Trends, logs: LogQueries, ids: list[str]) -> dict[str, Read]:
    def listed(sort: str = "-created_at", viewer: Viewer = ADMIN, **wanted: Any) -> Read:
        """A wanted value may be a function that makes one."""

        async def read() -> None:
            made = {field: value() if callable(value) else value for field, value in wanted.items()}
            await queries.list_tasks(viewer, TaskFilter(**made), sort)

        return read

    def query(text: str, sort: str = "-created_at", viewer: Viewer = ADMIN) -> Read:
        return listed(sort, viewer, q=parse_query(text))

    def owner() -> Viewer:
        return Viewer(f"u-{random.randrange(USERS)}")

    async def owners_list() -> None:
        await queries.list_tasks(owner(), TaskFilter())

    async def second_page() -> None:
        page = await queries.list_tasks(ADMIN, TaskFilter(), "-created_at")
        await queries.list_tasks(ADMIN, TaskFilter(), "-created_at", page=page.next_page)

    async def news() -> None:
        newest = await queries.start_cursor()
        await queries.changes(Cursor(newest.system_id, newest.timeline, newest.xmax))

    reads: dict[str, Read] = {"list": listed(), "list of an owner": owners_list, "list, two pages": second_page}
    for status in Status:
        reads[f"list status:{status.word}"] = listed(status=(status,))
    reads |= {
        "list name": listed(name=lambda: (random.choice(NAMES),)),
        "list name with *": listed(name=("shop.orders.*",)),
        "list name that is none": listed(name=("shop.nothing",)),
        "list queue": listed(queue=lambda: (random.choice(QUEUES),)),
        "list queue that is none": listed(queue=("nowhere",)),
        "list worker": listed(worker=lambda: (f"celery@shop-{random.randrange(WORKERS)}",)),
        "list user": listed(user=lambda: (f"u-{random.randrange(USERS)}",)),
        "list user that is none": listed(user=("nobody",)),
        "list status:failed name": listed(status=(Status.FAILED,), name=lambda: (random.choice(NAMES),)),
        "list status:failed -name": query("status:failed -name:shop.orders.*"),
        "list q since:2h": query("since:2h"),
        "list q runtime:>10s": query("runtime:>10s"),
        "list q runtime:>1h": query("runtime:>1h"),
        "list q retries:>0": query("retries:>0"),
        "list q is:slow": query("is:slow"),
        "list q is:stuck": query("is:stuck"),
        "list q word of names": query("resize"),
        "list q word that is none": query("xyzzy"),
        "list q error": query("error:CardRefused"),
        "id": listed(id=lambda: (random.choice(ids),)),
        "id, beginning": listed(id=lambda: (random.choice(ids)[:8],)),
        "id that is none": listed(id=("zzzzzzzz",)),
    }
    for key in SORT_KEYS:
        for sign in ("", "-"):
            reads[f"sort {sign}{key}"] = listed(f"{sign}{key}")
    reads["sort -runtime status:failed"] = listed("-runtime", status=(Status.FAILED,))
    reads["sort -runtime queue"] = listed("-runtime", queue=lambda: (random.choice(QUEUES),))

    async def task() -> None:
        await queries.task(ADMIN, random.choice(ids))

    async def log() -> None:
        await logs.page(ADMIN, random.choice(ids))

    async def summary() -> None:
        await queries.summary(ADMIN)

    async def owners_summary() -> None:
        await queries.summary(owner())

    reads |= {"task view": task, "log": log, "summary": summary, "summary of an owner": owners_summary, "news": news}
    for word in RANGES:
        reads[f"chart {word}"] = lambda word=word: trends.statistics(ADMIN, word)  # type: ignore[misc]
        reads[f"chart {word} of an owner"] = lambda word=word: trends.statistics(owner(), word)  # type: ignore[misc]
    reads["task types"] = lambda: trends.task_types(ADMIN)
    return reads
