"""What readers are shown: only what is theirs, filtered, sorted, page by page, with the cursor of the same moment."""

from __future__ import annotations

import base64
import sys
from datetime import datetime
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database.cursor import Cursor
from oracle_celery.database.fetching import Fetch, over
from oracle_celery.database.queries import SORT_KEYS, Queries, Task, TaskFilter
from oracle_celery.database.query_language import parse_query
from oracle_celery.database.sql import statement
from oracle_celery.database.store import Store
from oracle_celery.database.upkeep import FOLD_PARAMETERS
from oracle_celery.errors import BadQuery, DatabaseUnavailable, TaskNotFound
from oracle_celery.states import Status
from oracle_celery.viewer import LOCAL_ADMIN, Viewer
from tests.ledger import DAWN, SECOND, Source, completed, failed, life, received, sent, started

ANN = Viewer("ann")
BOB = Viewer("bob")


@pytest.fixture
def queries(fetch: Fetch) -> Queries:
    return Queries(fetch)


def fill(store: Store) -> None:
    """Six tasks of two people, one of nobody."""
    run_at = 5 * SECOND
    store.ingest(
        [
            Source("one@host").slice(
                [
                    *life("done-1", 1 * SECOND, user_id="ann"),
                    *life("done-2", 2 * SECOND, user_id="bob", name="shop.mail", queue="mail"),
                ]
            ),
            Source("two@host").slice(
                [
                    sent("run-1", 3 * SECOND, user_id="ann", name="shop.mail"),
                    started("run-1", 6 * SECOND, run_at),
                    sent("fail-1", 4 * SECOND, user_id="ann"),
                    failed("fail-1", 7 * SECOND, run_at),
                    sent("wait_1", 4 * SECOND, user_id="bob"),
                    sent("wait%2", 5 * SECOND),
                ]
            ),
        ]
    )


async def ids(
    queries: Queries, viewer: Viewer = LOCAL_ADMIN, sort: str = "created_at", **wanted: tuple[str, ...]
) -> list[str]:
    page = await queries.list_tasks(viewer, TaskFilter(**wanted), sort)  # type: ignore[arg-type]
    return [task.task_id for task in page.tasks]


async def test_an_empty_database(queries: Queries) -> None:
    """There is an empty list, a summary of zeros, and a cursor to go on from."""
    page = await queries.list_tasks(LOCAL_ADMIN, TaskFilter())
    assert (page.tasks, page.next_page) == ([], None)
    assert (await queries.changes(Cursor.parse(page.cursor), 10)).transitions == []
    summary = await queries.summary(LOCAL_ADMIN)
    assert (summary.queued, summary.failure_percent_24h, summary.mean_runtime_24h) == (0, None, None)


async def test_filters(store: Store, queries: Queries) -> None:
    """The values of one field are alternatives, fields narrow each other down, only an asterisk is special."""
    fill(store)
    everything = ["done-1", "done-2", "run-1", "fail-1", "wait_1", "wait%2"]
    assert await ids(queries) == everything
    assert await ids(queries, status=(Status.FAILED, Status.IN_PROGRESS)) == ["run-1", "fail-1"]  # type: ignore[arg-type]
    assert await ids(queries, name=("shop.mail",)) == ["done-2", "run-1"]
    assert await ids(queries, name=("*.MAIL", "*.mail")) == ["done-2", "run-1"]
    assert await ids(queries, name=("shop.mail",), user=("ann",)) == ["run-1"]
    assert await ids(queries, user=("ann", "bob")) == everything[:-1]
    assert await ids(queries, queue=("ma*",)) == ["done-2"]
    assert await ids(queries, worker=("one@host",)) == ["done-1", "done-2"]
    assert await ids(queries, worker=("*@host",)) == everything[:-2]
    assert await ids(queries, id=("done", "wait_")) == ["done-1", "done-2", "wait_1"]
    assert await ids(queries, id=("wait%",)) == ["wait%2"]
    assert await ids(queries, id=("%",)) == []
    assert await ids(queries, id=("d*",)) == []
    assert await ids(queries, id=(chr(sys.maxunicode), "\ud7ff", "run-1\U0010ffff")) == []
    assert await ids(queries, id=("run-1", "run")) == ["run-1"]
    assert await ids(queries, name=("'; --\\",)) == []


async def test_owners(store: Store, queries: Queries) -> None:
    """Whatever is asked for, a person sees their own tasks and an admin everybody's."""
    fill(store)
    assert await ids(queries, ANN) == ["done-1", "run-1", "fail-1"]
    assert await ids(queries, ANN, user=("bob",)) == []
    assert await ids(queries, ANN, user=("ann", "bob"), id=("done",)) == ["done-1"]
    assert await ids(queries, Viewer("eve")) == []
    assert await ids(queries, Viewer("")) == []
    assert (await queries.task(BOB, "done-2")).task.user_id == "bob"
    for viewer, task_id in ((ANN, "done-2"), (ANN, "wait%2"), (LOCAL_ADMIN, "nothing")):
        with pytest.raises(TaskNotFound):
            await queries.task(viewer, task_id)


@pytest.mark.parametrize("is_folded", [False, True])
async def test_summaries(store: Store, queries: Queries, database: str, is_folded: bool) -> None:
    """Everybody's numbers are their own tasks', before and after the statistics are folded."""
    fill(store)
    with psycopg.connect(database, autocommit=True) as connection:
        # the facts are of a day long ago: move them to now
        connection.execute(
            "UPDATE oracle.statistic_delta SET minute = date_trunc('minute', now()) WHERE minute > 'epoch'"
        )
        if is_folded:
            connection.execute(statement("fold_statistics"), FOLD_PARAMETERS)
    admin, ann, bob = [await queries.summary(viewer) for viewer in (LOCAL_ADMIN, ANN, BOB)]
    assert (admin.queued, admin.active, admin.finished_24h, admin.failed_24h) == (2, 1, 3, 1)
    assert admin.failure_percent_24h == pytest.approx(100 / 3)
    assert admin.mean_runtime_24h == pytest.approx(1.25 / 3)
    assert (ann.queued, ann.active, ann.finished_24h, ann.failed_24h) == (0, 1, 2, 1)
    assert (bob.queued, bob.active, bob.finished_24h, bob.failed_24h) == (1, 0, 1, 0)
    while True:  # they count the minute that has begun
        alone = {owner: await queries.summary(Viewer(owner)) for owner in ("bob", "eve", "ann")}
        many = await queries.summaries(["bob", "eve", "", "ann"])
        if len({summary.as_of[: len("2026-11-27T07:10")] for summary in (*alone.values(), *many.values())}) == 1:
            break
    assert list(many) == ["bob", "eve", "ann"]
    for owner, summary in alone.items():
        assert msgspec.structs.replace(many[owner], as_of=summary.as_of) == summary
    nobody = await queries.summary(Viewer(""))
    assert (nobody.queued, nobody.finished_24h) == (0, 0)


async def test_yesterday_is_not_in_the_summary(store: Store, queries: Queries) -> None:
    """What finished more than 24 hours ago counts no more; what waits counts however old it is."""
    fill(store)
    summary = await queries.summary(LOCAL_ADMIN)
    assert (summary.finished_24h, summary.queued, summary.active) == (0, 2, 1)


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("key", SORT_KEYS)
async def test_pages_of_every_sort(store: Store, queries: Queries, key: str, sign: str) -> None:
    """Page by page every task comes once, in order, those without a value last, ties included."""
    fill(store)
    store.ingest([Source().slice([sent(f"same-{n}", 9 * SECOND, name=None, queue=None) for n in range(4)])])
    found, page, steps = [], None, 0
    while True:
        answer = await queries.list_tasks(LOCAL_ADMIN, TaskFilter(), sign + key, 3, page)
        found += answer.tasks
        page = answer.next_page
        steps += 1
        if page is None:
            break
    assert (len(found), len({task.task_id for task in found}), steps) == (10, 10, 4)
    values = [_sorted_by(task, key) for task in found]
    present = [value for value in values if value is not None]
    assert present == sorted(present, reverse=sign == "-")
    assert values[: len(present)] == present


def _sorted_by(task: Task, key: str) -> Any:
    if key == "status":
        return Status.from_word(task.status)
    if key == "wait":
        until = None if task.status == "pending" else task.started_at or task.finished_at
        return datetime.fromisoformat(until) - datetime.fromisoformat(task.created_at) if until else None
    return getattr(task, key)


async def test_a_wait_is_the_same_in_the_order_and_in_the_query(store: Store, queries: Queries) -> None:
    """From sending to the start of the newest run, however often it was tried; what waits still comes last."""
    first, second = {"run_at": 3 * SECOND}, {"run_at": 90 * SECOND, "retries": 1}
    facts = [
        *(sent("once", 1 * SECOND), received("once", 3 * SECOND, **first), started("once", 31 * SECOND, **first)),
        *(sent("again", 2 * SECOND), received("again", 90 * SECOND, **second), started("again", 91 * SECOND, **second)),
        sent("waits", 3 * SECOND),
    ]
    store.ingest([Source("one@host").slice(facts)])
    assert await ids(queries, sort="-wait") == ["again", "once", "waits"]
    for text, found in (("wait:89s..89s", ["again"]), ("wait:30s..30s", ["once"]), ("wait:>1h", ["waits"])):
        assert await ids(queries, q=parse_query(text)) == found  # type: ignore[arg-type]


async def test_a_new_task_does_not_shift_pages(store: Store, queries: Queries) -> None:
    """What comes in while somebody reads makes no task appear twice."""
    fill(store)
    first = await queries.list_tasks(LOCAL_ADMIN, TaskFilter(), "-created_at", 3)
    store.ingest([Source().slice([sent("new", 99 * SECOND)])])
    second = await queries.list_tasks(LOCAL_ADMIN, TaskFilter(), "-created_at", 3, first.next_page)
    assert [task.task_id for task in first.tasks + second.tasks] == [
        "wait%2", "wait_1", "fail-1", "run-1", "done-2", "done-1",
    ]  # fmt: skip


async def test_pages_that_are_none(store: Store, queries: Queries) -> None:
    """A page of another sort, made up or tampered with is refused by name."""
    fill(store)
    page = (await queries.list_tasks(LOCAL_ADMIN, TaskFilter(), "name", 2)).next_page
    forged = msgspec.json.encode(["-created_at", "no time", "x"])
    for sort, bad in (
        ("-name", page),
        ("created_at", "@@"),
        ("created_at", "bnVsbA"),
        ("-created_at", base64.urlsafe_b64encode(forged).decode()),
    ):
        with pytest.raises(BadQuery, match="page"):
            await queries.list_tasks(LOCAL_ADMIN, TaskFilter(), sort, 2, bad)
    with pytest.raises(BadQuery, match="sort"):
        await queries.list_tasks(LOCAL_ADMIN, TaskFilter(), "--name", 2)


async def test_one_task(store: Store, queries: Queries) -> None:
    """Its row in full, JSON untouched, and its history as it happened, a fact told twice once."""
    result = b'{"n":123456789012345678901234567890,"f":1.10}'
    worker, producer = Source("w@h", origin="7@h"), Source(origin="1@web")
    run = [
        received("a", 2 * SECOND, 2 * SECOND),
        started("a", 3 * SECOND, 2 * SECOND),
        completed("a", 5 * SECOND, 2 * SECOND, result_payload=msgspec.Raw(result)),
    ]
    store.ingest([worker.slice([*run, run[1]])])
    store.ingest(
        [producer.slice([sent("a", 1 * SECOND, arguments=msgspec.Raw(b'{"args":[1.0]}'), eta=1_767_225_601.5)])]
    )
    detail = await queries.task(LOCAL_ADMIN, "a")
    encoded = msgspec.json.decode(msgspec.json.encode(detail))
    assert result in msgspec.json.encode(detail)
    assert detail.task.arguments == msgspec.Raw(b'{"args":[1.0]}')
    assert encoded["task"]["created_at"] == "2026-01-01T00:00:01.000000Z"
    assert encoded["task"]["eta"] == "2026-01-01T00:00:01.500000Z"
    assert encoded["task"]["version"] == [0, (DAWN + 2 * SECOND) // 1000, 80]
    assert [(entry.status, entry.reason, entry.duration, entry.origin) for entry in detail.history] == [
        ("pending", "sent", 1.0, "1@web"),
        ("pending", "received", 1.0, "7@h"),
        ("in_progress", None, 2.0, "7@h"),
        ("completed", None, None, "7@h"),
    ]
    assert (await queries.changes(Cursor.parse(detail.cursor), 10)).transitions == []


async def test_history_is_found_without_an_index_of_tasks(store: Store, queries: Queries, database: str) -> None:
    """The record lists its transactions; facts of before that, or stored past ingest, are found too, each once."""
    store.ingest([Source("w@h").slice(life("a", 0)[:3])])
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE oracle.task_transition SET is_listed = NULL")  # as if told before
        connection.execute("UPDATE oracle.task_state_record SET txids = NULL")
        store.ingest([Source("w@h").slice(life("a", 0)[3:]), Source().slice(life("b", 0))])
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT * FROM oracle.task_state_record AS t CROSS JOIN LATERAL (SELECT count(*)"
            " FROM oracle.task_transition WHERE task_id = t.task_id AND (is_listed AND txid = ANY (t.txids)"
            " OR is_listed IS NULL)) AS h WHERE t.task_id = 'a'"
        ).fetchall()
    words = ["pending", "pending", "in_progress", "completed"]
    for task_id in ("a", "b"):
        assert [entry.status for entry in (await queries.task(LOCAL_ADMIN, task_id)).history] == words
    assert "Seq Scan" not in str(plan)


async def test_a_task_that_is_retried_for_long(store: Store, queries: Queries, database: str) -> None:
    """Its row does not grow with every attempt, and its history is whole all the same."""
    worker = Source("w@h")
    for attempt in range(100):
        store.ingest([worker.slice([sent("a", attempt * SECOND, retries=attempt), sent("b", attempt * SECOND)])])
    detail = await queries.task(LOCAL_ADMIN, "a")
    assert [entry.retries for entry in detail.history] == list(range(100))
    with psycopg.connect(database) as connection:
        lengths = connection.execute("SELECT cardinality(txids) FROM oracle.task_state_record").fetchall()
    assert lengths == [(64,), (64,)]


async def test_a_list_and_what_follows(store: Store, queries: Queries) -> None:
    """After a list's cursor come exactly the transitions that the list did not show, with owner and current row."""
    producer, worker = Source(), Source("w@h")
    store.ingest([producer.slice([sent("a", 0, user_id="ann")])])
    page = await queries.list_tasks(ANN, TaskFilter())
    store.ingest([worker.slice(life("a", 0)[1:])])
    changes = await queries.changes(Cursor.parse(page.cursor), 100)
    assert [
        (transition.user_id, transition.public.new_status, transition.public.reason, transition.public.task.status)
        for transition in changes.transitions
    ] == [
        ("ann", "pending", "received", "completed"),
        ("ann", "in_progress", None, "completed"),
        ("ann", "completed", None, "completed"),
    ]
    assert changes.transitions[0].public.timestamp == "2026-01-01T00:00:00.000010Z"
    assert changes.transitions[0].public.task.version[2] == 80


async def test_a_database_without_a_schema(empty_database: str) -> None:
    """Readers wait for one in the same way as for the database."""
    async with AsyncConnectionPool(empty_database, kwargs={"autocommit": True}, open=False) as pool:
        with pytest.raises(DatabaseUnavailable):
            await Queries(over(pool)).start_cursor()
