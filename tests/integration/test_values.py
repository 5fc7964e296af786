"""What is proposed to somebody who types, and what is counted for them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database import values
from oracle_celery.database.fetching import Fetch, over
from oracle_celery.database.listing import TaskFilter
from oracle_celery.database.queries import Queries
from oracle_celery.database.query_language import parse_query
from oracle_celery.database.upkeep import Upkeep
from oracle_celery.database.values import StatusCount, ValueQueries
from oracle_celery.errors import QueryTooBroad
from oracle_celery.states import Status
from oracle_celery.viewer import LOCAL_ADMIN, Viewer
from tests.control_commands import register
from tests.factories import Feeder, transition

ANN = Viewer("ann")


@pytest.fixture
async def reader(database: str) -> AsyncIterator[ValueQueries]:
    """Of a day with six tasks, half of them folded into minutes."""
    with Feeder(database, node="celery@one", worker_id=str(uuid.uuid4())) as feeder:
        tell = [
            transition("p1", name="shop.pay", queue="mail", user_id="ann"),
            transition("p2", name="shop.pay", queue="mail", user_id="bob"),
            transition("r1", Status.IN_PROGRESS, name="shop.resize", queue="images", user_id="bob"),
            transition("f1", Status.FAILED, name="shop.pay", queue="mail", user_id="ann"),
            transition("c1", Status.COMPLETED, name="shop.resize", queue="images", user_id="bonnie"),
            transition("n1", name="shop.resize", queue="images"),
        ]
        feeder.tell(*tell[:3])
        upkeep = Upkeep(database)
        await upkeep.try_lead()
        await upkeep.fold_statistics()
        feeder.tell(*tell[3:5])
        await upkeep.fold_statistics()
        await upkeep.close()
        feeder.tell(*tell[5:])
        register(feeder, str(uuid.uuid4()), node="celery@one")
    async with AsyncConnectionPool(database, kwargs={"autocommit": True}, open=False) as pool:
        yield ValueQueries(over(pool), over(pool, 60_000))  # no test takes so long


async def proposed(reader: ValueQueries, viewer: Viewer, field: str, part: str = "") -> list[tuple[str, int | None]]:
    found = await reader.values(viewer, field, part, 10)
    return [(value.value, value.count) for value in found.values]


async def test_proposals_are_real_values_with_their_counts(reader: ValueQueries) -> None:
    """The most frequent first; a part of a name is enough, a user is found by the beginning."""
    assert await proposed(reader, LOCAL_ADMIN, "name") == [("shop.pay", 3), ("shop.resize", 3)]
    assert await proposed(reader, LOCAL_ADMIN, "queue", "ail") == [("mail", 3)]
    assert await proposed(reader, LOCAL_ADMIN, "queue", "a%") == []
    assert await proposed(reader, LOCAL_ADMIN, "user", "b") == [("bob", 2), ("bonnie", 1)]
    assert await proposed(reader, LOCAL_ADMIN, "worker", "one") == [("celery@one", 0)]


async def test_users_are_looked_for_no_further_than_they_are_told(database: str, fetch: Fetch) -> None:
    """However many there are behind: the first ones are found soon, and where there is none, that is found out soon."""
    plans = []

    async def explained(query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        [(plan,)] = await fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", parameters)
        plans.append(plan[0]["Plan"])
        return await fetch(query, parameters)

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO oracle.statistic_minute SELECT now(), 0, 1, 0, 2, false, letter || number, '', ''"
            " FROM unnest(ARRAY['a', 'c']) AS letter, generate_series(1, 1000) AS number"
        )
    reader = ValueQueries(fetch, explained)
    assert await proposed(reader, LOCAL_ADMIN, "user", "a") == [(f"a{number}", 1) for number in _FIRST_TEN]
    assert await proposed(reader, LOCAL_ADMIN, "user", "a*99") == [("a99", 1), *((f"a99{n}", 1) for n in range(9))]
    assert await proposed(reader, LOCAL_ADMIN, "user", "b") == []
    assert await proposed(reader, LOCAL_ADMIN, "user", "") == [(f"a{number}", 1) for number in _FIRST_TEN]
    assert await proposed(reader, Viewer("c7"), "user", "c") == [("c7", 1)]
    assert max(_rows(plan, "Recursive Union") for plan in plans) <= 11


#: As texts.
_FIRST_TEN = (1, 10, 100, 1000, 101, 102, 103, 104, 105, 106)


def _rows(plan: dict[str, Any], kind: str) -> int:
    """Most rows that a node of that kind gave."""
    here = plan["Actual Rows"] if plan["Node Type"] == kind else 0
    return max([here, *(_rows(part, kind) for part in plan.get("Plans", ()))])


async def test_an_owner_is_proposed_what_their_own_tasks_have(reader: ValueQueries) -> None:
    """No name, queue or user of others, and no counts of theirs."""
    assert await proposed(reader, ANN, "name") == [("shop.pay", 2)]
    assert await proposed(reader, ANN, "queue") == [("mail", 2)]
    assert await proposed(reader, ANN, "user") == [("ann", 2)]
    assert await proposed(reader, ANN, "worker") == [("celery@one", None)]
    assert await proposed(reader, Viewer(""), "name") == []
    assert await proposed(reader, Viewer("eve"), "user") == []


async def counted(reader: ValueQueries, q: str, viewer: Viewer = LOCAL_ADMIN) -> list[int | None]:
    found = await reader.counts(viewer, parse_query(q))
    return [None if count is None else count.count for count in (getattr(found, status.word) for status in Status)]


async def test_counts_by_status_within_the_rest_of_the_query(reader: ValueQueries) -> None:
    """What the query says of the status itself is left out; an owner's counts are of their own tasks."""
    assert await counted(reader, "") == [3, 1, 1, 1, 0]
    assert await counted(reader, "queue:images status:failed") == [1, 1, 1, 0, 0]
    assert await counted(reader, "-name:*.pay") == [1, 1, 1, 0, 0]
    assert await counted(reader, "user:bob,bonnie since:1h") == [1, 1, 1, 0, 0]
    assert await counted(reader, "", ANN) == [1, 0, 0, 1, 0]
    assert await counted(reader, "", Viewer("")) == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("field", ["queue", "name"])
async def test_tasks_without_a_queue_or_a_name_are_counted_as_they_are_listed(
    database: str, reader: ValueQueries, fetch: Fetch, field: str
) -> None:
    """`queue:*` is any queue there is, and a task that has none is what `-queue:*` finds."""
    with Feeder(database) as feeder:
        feeder.tell(transition("bare"), transition("bare too", Status.IN_PROGRESS))
        upkeep = Upkeep(database)
        await upkeep.fold_statistics()
        await upkeep.close()
        feeder.tell(transition("bare still"))
    for q in (f"{field}:*", f"-{field}:*", f"-{field}:mail", f"{field}:*a*"):
        found = await Queries(fetch).list_tasks(LOCAL_ADMIN, TaskFilter(q=parse_query(q)))
        listed = Counter(task.status for task in found.tasks)
        assert await counted(reader, q) == [listed[status.word] for status in Status], q


async def test_a_count_says_where_it_stopped_and_where_it_gave_up(
    database: str, reader: ValueQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the limit is "more"; what took too long is not known."""
    monkeypatch.setattr(values, "COUNTED_TASKS", 1)
    counts = await reader.counts(LOCAL_ADMIN, parse_query("user:*"))
    assert counts.failed == StatusCount(1, is_more=False)
    monkeypatch.setattr(values, "COUNTED_TASKS", 0)
    assert (await reader.counts(LOCAL_ADMIN, parse_query("user:*"))).failed == StatusCount(0, is_more=True)
    async with AsyncConnectionPool(
        database, kwargs={"autocommit": True}, min_size=1, max_size=1, timeout=60, open=False
    ) as pool:
        with pytest.raises(QueryTooBroad):
            await over(pool, 20)("SELECT pg_sleep(60)", {})
        assert await over(pool)("SELECT current_setting('statement_timeout')", {}) == [("0",)]

    async def exhausted(*_: object) -> list[tuple[object, ...]]:
        raise QueryTooBroad

    tired = ValueQueries(reader._fetch, exhausted)
    assert await counted(tired, "") == [3, 1, None, None, None]
    assert await proposed(tired, LOCAL_ADMIN, "name") == []
