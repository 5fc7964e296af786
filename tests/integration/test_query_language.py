"""The query language as a question to PostgreSQL."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from oracle_celery.database.control import ControlStore
from oracle_celery.database.control_facts import BulkOptions
from oracle_celery.database.fetching import Fetch
from oracle_celery.database.queries import Queries, TaskFilter
from oracle_celery.database.query_language import parse_query, query_condition
from oracle_celery.states import Status
from oracle_celery.viewer import LOCAL_ADMIN, Actor, Viewer
from tests.query_cases import CASES

COLUMNS = (
    *(
        "task_id",
        "name",
        "user_id",
        "queue",
        "worker",
        "reason",
        "error_type",
        "trace_id",
        "correlation_id",
        "parent_id",
    ),
    "runtime",
)
MOMENTS = ("created", "started", "finished")


@pytest.fixture
def queries(fetch: Fetch) -> Queries:
    return Queries(fetch)


def put(database: str, *tasks: dict[str, Any]) -> None:
    """Rows as they are, whatever the journal would have made of them."""
    now = datetime.now(UTC)
    with psycopg.connect(database) as connection:
        for task in tasks:
            row = {name: task.get(name) for name in (*COLUMNS, "worker_id")}
            for moment in MOMENTS:
                ago, at = task.get(f"{moment}_ago"), task.get(f"{moment}_at")
                row[f"{moment}_at"] = at if ago is None else now - timedelta(seconds=ago)
            row |= {
                "status": int(Status.from_word(task["status"])),
                "retries": task.get("retries", 0),
                "rank": task.get("rank", 0),
                "changed_at": row["started_at"] or row["created_at"],
                "run_at": row["created_at"],
            }
            names = ", ".join(row)
            values = ", ".join(f"%({name})s" for name in row)
            connection.execute(f"INSERT INTO oracle.task_state_record ({names}) VALUES ({values})", row)


async def ids(queries: Queries, q: str, viewer: Viewer = LOCAL_ADMIN, **others: Any) -> set[str]:
    page = await queries.list_tasks(viewer, TaskFilter(q=parse_query(q), **others))
    return {task.task_id for task in page.tasks}


async def test_the_table_of_cases(database: str, queries: Queries) -> None:
    """Every query finds what the table says, which the page's own reader is held to as well."""
    put(database, *CASES["tasks"])
    found = {case["q"]: await ids(queries, case["q"]) for case in CASES["cases"]}
    assert found == {case["q"]: set(case["matches"]) for case in CASES["cases"]}


async def test_it_narrows_the_other_filters_and_the_owner_down(database: str, queries: Queries) -> None:
    """A query is no way to somebody else's tasks."""
    put(database, *CASES["tasks"])
    assert await ids(queries, "shop", user=("anna",)) == {"7c1e4f92", "b1"}
    assert await ids(queries, "user:igor,anna", Viewer("igor")) == {"7c88"}
    assert await ids(queries, "-user:igor", Viewer("igor")) == set()
    by_trace, by_correlation = CASES["tasks"][1]["trace_id"], "correlation:order-1042"
    assert await ids(queries, by_trace, Viewer("igor")) == await ids(queries, f"trace:{by_trace}") == {"7c88"}
    assert await ids(queries, by_trace, Viewer("anna")) == await ids(queries, by_correlation, Viewer("igor")) == set()


@pytest.mark.parametrize("q", ["0123456789abcdef" * 2, "correlation:order-1042"])
async def test_an_index_finds_a_trace(database: str, q: str) -> None:
    """What is typed in to find one request's tasks reads those alone, however many others there are."""
    parameters: dict[str, Any] = {}
    condition = query_condition(parse_query(q), LOCAL_ADMIN, parameters)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            """INSERT INTO oracle.task_state_record (created_at, changed_at, run_at, retries, status, rank, task_id,
                name, trace_id, correlation_id)
            SELECT now(), now(), now(), 0, 2, 80, md5(n::text), 'x', md5('t' || n), 'order-' || n
            FROM generate_series(1, 20000) AS n"""
        )
        connection.execute("ANALYZE oracle.task_state_record")
        plan = connection.execute(
            f"EXPLAIN SELECT * FROM oracle.task_state_record AS t WHERE {condition} ORDER BY created_at DESC LIMIT 50",
            parameters,
        ).fetchall()
    assert "Seq Scan" not in str(plan)
    assert "task_created" not in str(plan)


async def test_an_action_on_many_is_about_what_the_list_shows(database: str) -> None:
    """The preview counts with the same condition, and the audit says it in the same words."""
    put(database, *CASES["tasks"])
    actor = Actor(viewer=LOCAL_ADMIN, via="app")
    wanted = TaskFilter(q=parse_query("status:pending,in_progress wait:>5s"))
    with ControlStore(database) as store:
        assert store.preview_bulk(actor, "cancel", None, wanted, BulkOptions()).total == 2
        store.create_bulk(actor, "cancel", None, wanted, BulkOptions())
    with psycopg.connect(database) as connection:
        [said] = connection.execute("SELECT filter FROM oracle.audit_entry").fetchone() or [None]
    assert said == {"q": "status:pending,in_progress wait:>5s"}


async def test_stuck_and_slow(database: str, queries: Queries) -> None:
    """Measured by what is usual for the name among the tasks that the viewer sees."""
    gone, there = uuid.uuid4(), uuid.uuid4()
    mean = "INSERT INTO oracle.statistic_half_hour VALUES (now(), 20, 10, 10, 2, {}, '{}', 'quick')"
    worker = (
        "INSERT INTO oracle.worker (worker_id, node, origin, pool, concurrency, queues, versions, started_at, beat_at,"
        " lost_at) VALUES (%s, 'a', '1@a', 'prefork', 1, '{served}', '{}', now(), now(), %s)"
    )
    with psycopg.connect(database) as connection:
        connection.execute(mean.format("true", ""))
        connection.execute(worker, [gone, datetime.now(UTC)])
        connection.execute(worker, [there, None])
    running = {"status": "in_progress", "rank": 20, "queue": "served", "created_ago": 9_000, "user_id": "ann"}
    held = {"status": "pending", "rank": 10, "queue": "served", "created_ago": 100, "name": "quick"}
    sent = {"status": "pending", "queue": "unserved", "name": "quick"}
    done = {"status": "completed", "rank": 80, "name": "quick", "created_ago": 100, "user_id": "ann"}
    put(
        database,
        {**running, "task_id": "stuck", "name": "quick", "started_ago": 70},
        {**running, "task_id": "young", "name": "quick", "started_ago": 10},
        {**running, "task_id": "unknown", "name": "new", "started_ago": 3_000},
        {**running, "task_id": "forgotten", "name": "new", "started_ago": 4_000},
        {**held, "task_id": "orphan", "worker_id": gone},
        {**held, "task_id": "held", "worker_id": there},
        {**sent, "task_id": "stranded", "created_ago": 70},
        {**sent, "task_id": "just sent", "created_ago": 0},
        {**sent, "task_id": "queued", "created_ago": 500, "queue": "served"},
        {**done, "task_id": "slow", "runtime": 6.5},
        {**done, "task_id": "usual", "runtime": 5.5},
    )
    assert await ids(queries, "is:stuck") == {"stuck", "forgotten", "orphan", "stranded"}
    assert await ids(queries, "is:slow") == {"slow", "stuck", "young"}
    assert await ids(queries, "-is:stuck,slow") == {"unknown", "held", "just sent", "queued", "usual"}
    assert await ids(queries, "is:slow", Viewer("ann")) == set()  # what is usual for others is nothing to her
