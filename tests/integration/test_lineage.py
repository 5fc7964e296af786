"""The family of a task, from real PostgreSQL: bounded, and without a trace of relatives who are not the viewer's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from oracle_celery.database.fetching import over
from oracle_celery.database.lineage import DESCENDANTS_LIMIT, MEMBERS_LIMIT, LineageQueries
from oracle_celery.database.sql import statement
from oracle_celery.database.visibility import visible
from oracle_celery.errors import TaskNotFound
from oracle_celery.states import Status
from oracle_celery.viewer import LOCAL_ADMIN, Viewer
from tests.factories import Feeder, transition

ANN = Viewer("ann")
CROWD = 1_500


@pytest.fixture
def feeder(database: str) -> Iterator[Feeder]:
    with Feeder(database) as opened:
        yield opened


@pytest.fixture
async def lineage(database: str) -> AsyncIterator[LineageQueries]:
    async with AsyncConnectionPool(database, min_size=1, max_size=2) as pool:
        yield LineageQueries(over(pool))


def ids(relatives: list[Any]) -> list[str]:
    return [relative.task_id for relative in relatives]


async def test_a_family_is_told_upwards_and_downwards(lineage: LineageQueries, feeder: Feeder) -> None:
    """A chain, what a task sent, and its group with what became of each."""
    feeder.tell(
        transition("root", user_id="ann"),
        transition("parent", user_id="ann", parent_id="root", root_id="root"),
        transition("me", user_id="ann", parent_id="parent", root_id="root", group_id="g"),
        transition("twin", Status.FAILED, user_id="ann", parent_id="parent", group_id="g"),
        transition("child", user_id="ann", parent_id="me", name="shop.mail"),
        transition("grandchild", Status.COMPLETED, user_id="ann", parent_id="child", runtime=1.5),
        transition("stranger", user_id="ann"),
    )
    told = await lineage.of(ANN, "me")
    assert ids(told.ancestors) == ["root", "parent"]
    assert ids(told.descendants) == ["child", "grandchild"]
    assert (told.descendants[0].name, told.descendants[1].status, told.descendants[1].runtime) == (
        "shop.mail",
        "completed",
        1.5,
    )
    assert not told.has_more
    assert told.group is not None
    assert (ids(told.group.members), told.group.total, told.group.is_counted_whole) == (["me", "twin"], 2, True)
    assert told.group.statuses == {"pending": 1, "failed": 1}
    lone = await lineage.of(ANN, "stranger")
    assert (lone.ancestors, lone.descendants, lone.group) == ([], [], None)


async def test_a_foreign_relative_is_answered_as_a_missing_one(lineage: LineageQueries, feeder: Feeder) -> None:
    """Nor is anybody told who is known only through them, nor counted."""
    feeder.tell(
        transition("eves", user_id="eve", parent_id="anns-root"),
        transition("anns-root", user_id="ann"),
        transition("foreign-parent", user_id="ann", parent_id="eves", group_id="g"),
        transition("missing-parent", user_id="ann", parent_id="nowhere", group_id="h"),
        transition("eves-child", user_id="eve", parent_id="foreign-parent"),
        transition("anns-grandchild", user_id="ann", parent_id="eves-child"),
        transition("eves-twin", user_id="eve", group_id="g"),
    )
    foreign, missing = await lineage.of(ANN, "foreign-parent"), await lineage.of(ANN, "missing-parent")
    assert foreign.group is not None
    assert missing.group is not None
    assert (foreign.ancestors, foreign.descendants, foreign.has_more) == ([], [], False)
    assert (foreign.ancestors, foreign.descendants) == (missing.ancestors, missing.descendants)
    assert (foreign.group.total, foreign.group.statuses) == (missing.group.total, missing.group.statuses)
    assert ids((await lineage.of(ANN, "anns-root")).descendants) == []
    assert ids((await lineage.of(LOCAL_ADMIN, "foreign-parent")).ancestors) == ["anns-root", "eves"]
    for task_id in ("eves", "nowhere"):
        with pytest.raises(TaskNotFound):
            await lineage.of(ANN, task_id)


async def test_a_crowd_and_a_circle_are_bounded(lineage: LineageQueries, feeder: Feeder, database: str) -> None:
    """As much is read as is told, from indexes that hold only who has a parent or a group."""
    feeder.tell(
        transition("top", group_id="crowd"),
        *(transition(f"c-{number}", parent_id="top", group_id="crowd") for number in range(CROWD)),
        transition("hen", parent_id="egg"),
        transition("egg", parent_id="hen"),
    )
    told = await lineage.of(LOCAL_ADMIN, "top")
    assert 0 < len(told.descendants) <= DESCENDANTS_LIMIT
    assert told.has_more
    assert told.group is not None
    assert (len(told.group.members), told.group.total, told.group.is_counted_whole) == (MEMBERS_LIMIT, 1_000, False)
    circle = await lineage.of(LOCAL_ADMIN, "hen")
    assert set(ids(circle.ancestors)) == {"hen", "egg"}
    parameters: dict[str, Any] = {"task_id": "top", "height": 12, "depth": 24, "width": 20, "descendants": 60}
    parameters |= {"members": 20, "counted": 1_000}
    query = statement("lineage").format(relative=statement("relative"), visible=visible(LOCAL_ADMIN, parameters))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ANALYZE oracle.task_state_record")
        connection.execute("SET enable_seqscan = off")  # the table is small: whether it can do without is the question
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {query}", parameters))
    assert "Seq Scan on task_state_record" not in plan
    assert "task_child" in plan
    assert "task_member" in plan
